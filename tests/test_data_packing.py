"""Batches over documents and over a stream of tokens: pure functions of (train, seed, step)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.joined import Joined
from harness.data.packing import DocumentBatches, StreamBatches, document_order
from harness.errors import UserError
from harness.plan.steps import Stage, Steps

END = 60000
lengths = st.lists(st.integers(0, 9), min_size=1, max_size=12)
shapes = st.tuples(lengths, st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**63))


def build(shape):
    """Documents whose tokens are all different, cut into two parts in the middle of one."""
    sizes, length, sequences, seed = shape
    sizes = [*sizes, length * sequences]  # at least a step
    tokens = np.arange(sum(sizes), dtype=np.uint16)
    train = Joined([tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :]])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return DocumentBatches(train, offsets, END, seed, Steps.even(length * sequences), length)


def stream(batches, epochs):
    """What the stream must be, made without any of the arithmetic."""
    tokens, out = np.arange(len(batches.train)), []
    for epoch in range(epochs):
        for document in document_order(batches.seed, epoch, len(batches.offsets) - 1):
            out += [END, *tokens[batches.offsets[document] : batches.offsets[document + 1]]]
    return out


@given(shape=shapes)
def test_windows_follow_each_other_through_every_document_of_every_epoch(shape):
    batches = build(shape)
    per_step = shape[1] * shape[2]
    expected = stream(batches, 4)
    for step in range((len(expected) - 1) // per_step):
        inputs, targets = batches.batch(step)
        assert inputs.flatten().tolist() == expected[step * per_step : (step + 1) * per_step]
        assert targets.flatten().tolist() == expected[step * per_step + 1 : (step + 1) * per_step + 1]


@given(shape=shapes, steps=st.permutations(range(6)))
def test_a_step_drawn_alone_equals_the_step_in_sequence(shape, steps):
    in_sequence = [build(shape).batch(step) for step in range(6)]
    for step in steps:
        document_order.cache_clear()
        assert all(torch.equal(a, b) for a, b in zip(build(shape).batch(step), in_sequence[step]))


@given(shape=shapes, step=st.integers(0, 20), world=st.integers(1, 4), micro=st.integers(1, 3))
def test_any_number_of_ranks_and_micro_batches_makes_the_same_global_batch(shape, step, world, micro):
    sizes, length, sequences, seed = shape
    batches = build((sizes, length, sequences * world, seed))
    whole = batches.batch(step)
    shares = [batches.batch(step, rank, world) for rank in range(world)]
    for i in range(2):
        parts = [part for share in shares for part in share[i].split(micro)]
        assert torch.equal(torch.cat(parts), whole[i])


@given(shape=shapes, step=st.integers(0, 12))
def test_documents_tell_the_tokens_of_one_document_from_all_others(shape, step):
    """Within a batch two inputs have one number exactly where no end-of-text lies between them."""
    batches = build(shape)
    inputs, owners = batches.batch(step)[0].flatten(), batches.documents(step).flatten()
    begins = (inputs == END).int()
    assert torch.equal(owners - owners[0], begins.cumsum(0) - begins[0])


def test_a_stream_tells_documents_by_their_end_of_texts():
    tokens = np.array([END, 1, 2, END, 3, END, END, 4, 5], np.uint16)
    batches = StreamBatches(Joined([tokens]), END + 1, END, Steps.even(4), 2)
    for step in range(5):  # into the second pass
        inputs, owners = batches.batch(step)[0].flatten(), batches.documents(step).flatten()
        begins = (inputs == END).int()
        assert torch.equal(owners - owners[0], begins.cumsum(0) - begins[0]) and batches.documents(step).shape == (2, 2)


def test_epochs_and_seeds_have_orders_of_their_own_that_no_release_changes():
    orders = [document_order(seed, epoch, 50).tolist() for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert document_order(1, 0, 8).tolist() == [7, 1, 6, 3, 5, 4, 0, 2]


stages = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=4)  # sequences a step, steps


@given(shape=shapes, stages=stages)
def test_stages_read_the_stream_of_a_constant_batch(shape, stages):
    """No token twice, none left out, over the boundaries of stages and of epochs, and ranks share each step."""
    length = shape[1]
    one, steps = build((shape[0], length, 4, shape[3])), Steps(tuple(Stage(length * n, count) for n, count in stages))
    words = (one.train, one.offsets, END, one.seed)
    of_documents = DocumentBatches(*words, steps, length), DocumentBatches(*words, Steps.even(length), length)
    of_stream = (
        StreamBatches(Joined([np.arange(40, dtype=np.uint16)]), 100, END, s, length) for s in (steps, Steps.even(length))
    )
    for staged, alone in (of_documents, of_stream):
        read = [staged.batch(step) for step in range(steps.count + 2)]
        windows = [alone.batch(window) for window in range(sum(len(x) for x, _ in read))]
        for i in range(2):
            assert torch.equal(torch.cat([pair[i] for pair in read]), torch.cat([pair[i] for pair in windows]))
        for step, (inputs, _) in enumerate(read):
            assert torch.equal(torch.cat([staged.batch(step, rank, len(inputs))[0] for rank in range(len(inputs))]), inputs)


def test_passes_over_train_are_counted_in_stages_too():
    batches = build(([3, 4], 2, 2, 1))
    batches.steps = Steps((Stage(4, 3), Stage(8, 2)))  # 14 tokens an epoch
    assert batches.epochs_after(4) == pytest.approx(20 / 14)


def test_passes_over_train_are_counted():
    batches = build(([3, 4], 2, 2, 1))  # 11 tokens and 3 end-of-texts an epoch, 4 a step
    assert batches.epochs_after(7) == pytest.approx(2)


@given(size=st.integers(8, 30), step=st.integers(0, 30))
def test_a_stream_is_read_in_order_whatever_the_seed_and_begins_again_after_its_end(size, step):
    tokens = np.arange(size, dtype=np.uint16)
    batches = StreamBatches(Joined([tokens[:3], tokens[3:]]), 100, END, Steps.even(6), 3)
    inputs, targets = batches.batch(step)
    assert inputs.flatten().tolist() == [i % size for i in range(6 * step, 6 * step + 6)]
    assert targets.flatten().tolist() == [(i + 1) % size for i in range(6 * step, 6 * step + 6)]


def test_tokens_of_another_tokenizer_are_named():
    with pytest.raises(UserError, match="token 7, the track's tokenizer ends at 6"):
        StreamBatches(Joined([np.arange(8, dtype=np.uint16)]), 7, END, Steps.even(7), 7).batch(0)


@pytest.mark.parametrize("tokens, step, problem", [
    (100, 7, "not a whole number of sequences of 3"), (6, 6, "train has 6 tokens, a step takes 6 and one more"),
])  # fmt: skip
def test_a_step_that_does_not_fit_is_an_error(tokens, step, problem):
    with pytest.raises(UserError, match=problem):
        StreamBatches(Joined([np.zeros(tokens, np.uint16)]), 7, END, Steps.even(step), 3)


def test_ranks_that_do_not_divide_the_step_are_an_error():
    with pytest.raises(UserError, match="2 sequences a step cannot be shared equally by 3 ranks"):
        StreamBatches(Joined([np.zeros(30, np.uint16)]), 7, END, Steps.even(6), 3).batch(0, 0, 3)


def test_batches_are_contiguous_int64():
    for tensor in build(([5, 3], 4, 2, 1)).batch(1):
        assert tensor.dtype == torch.int64 and tensor.shape == (2, 4) and tensor.is_contiguous()


@given(cuts=st.lists(st.integers(0, 20), max_size=5), span=st.tuples(st.integers(0, 20), st.integers(0, 20)))
def test_joined_parts_read_as_one_array(cuts, span):
    tokens = np.arange(20, dtype=np.uint16)
    start, stop = sorted(span)
    joined = Joined(np.split(tokens, sorted(cuts)))
    assert len(joined) == 20 and joined.read(start, stop).tolist() == tokens[start:stop].tolist()
