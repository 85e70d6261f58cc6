import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batches import Batches, epoch_starts
from harness.errors import UserError
from harness.keyed import generator
from harness.plan.steps import Stage, Steps

shapes = st.tuples(
    st.integers(1, 9),  # sequence length
    st.integers(1, 6),  # sequences a step
    st.integers(0, 60),  # bytes beyond the shortest train
    st.integers(0, 2**63),  # seed
)


def build(shape):
    """Batches over tokens that are their own position, so that a batch tells where it was cut."""
    length, sequences, extra, seed = shape
    train = np.arange(length * (sequences + 1) + extra)
    return Batches(train, seed, Steps.even(length * sequences), length)


def first_tokens(batches, steps):
    """The first input of every sequence, over several steps in a row."""
    return torch.cat([batches.batch(step)[0][:, 0] for step in range(steps)]).tolist()


@given(shape=shapes, steps=st.permutations(range(8)))
def test_a_step_drawn_alone_equals_the_step_in_sequence(shape, steps):
    in_sequence = [build(shape).batch(step) for step in range(8)]
    for step in steps:
        epoch_starts.cache_clear()
        alone = build(shape).batch(step)
        assert all(torch.equal(a, b) for a, b in zip(alone, in_sequence[step]))


@given(shape=shapes, step=st.integers(0, 50), world=st.integers(1, 6))
def test_ranks_share_the_same_global_batch_in_order(shape, step, world):
    length, sequences, extra, seed = shape
    batches = build((length, sequences * world, extra, seed))
    whole = batches.batch(step)
    shares = [batches.batch(step, rank, world) for rank in range(world)]
    for i in range(2):
        assert torch.equal(torch.cat([share[i] for share in shares]), whole[i])
        assert all(len(share[i]) == sequences for share in shares)


@given(shape=shapes)
def test_every_window_comes_exactly_once_per_epoch_and_windows_are_disjoint(shape):
    batches = build(shape)
    length, windows = batches.sequence_length, batches.windows_per_epoch
    steps = -(-3 * windows // shape[1])
    seen = first_tokens(batches, steps)
    for epoch in range(3):
        starts = sorted(seen[epoch * windows : (epoch + 1) * windows])
        assert 0 <= starts[0] < length
        assert starts == list(range(starts[0], starts[0] + windows * length, length))
        assert starts[-1] + length < len(batches.train)


@given(shape=shapes, step=st.integers(0, 30))
def test_targets_are_the_inputs_one_token_later(shape, step):
    inputs, targets = build(shape).batch(step)
    assert torch.equal(targets, inputs + 1)  # tokens are positions
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(inputs.shape[1]))


stages = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=4)  # sequences a step, steps


@given(length=st.integers(1, 9), stages=stages, extra=st.integers(0, 60), seed=st.integers(0, 2**63))
def test_stages_read_the_windows_of_a_constant_batch_in_their_order(length, stages, extra, seed):
    """No window twice, none left out, over the boundaries of stages and of epochs."""
    steps = Steps(tuple(Stage(length * sequences, count) for sequences, count in stages))
    train = np.arange(length * 7 + extra)
    staged, one = Batches(train, seed, steps, length), Batches(train, seed, Steps.even(length), length)
    read = [staged.batch(step) for step in range(steps.count + 2)]
    assert [x.numel() for x, _ in read] == [steps.tokens(step) for step in range(steps.count + 2)]
    alone = [one.batch(window) for window in range(sum(len(x) for x, _ in read))]
    for i in range(2):
        assert torch.equal(torch.cat([pair[i] for pair in read]), torch.cat([pair[i] for pair in alone]))


def test_batches_are_contiguous_int64_of_bytes():
    train = np.frombuffer(bytes(range(256)) * 4, np.uint8)
    for tensor in Batches(train, 1, Steps.even(64), 16).batch(0):
        assert tensor.dtype == torch.int64 and tensor.shape == (4, 16) and tensor.is_contiguous()
        assert (tensor >= 0).all() and (tensor < 256).all()


@given(shape=shapes, step=st.integers(0, 50))
def test_a_step_starts_in_the_epoch_that_the_steps_before_it_have_read_up_to(shape, step):
    batches = build(shape)
    epoch = step * shape[1] // batches.windows_per_epoch
    starts = epoch_starts(batches.seed, epoch, batches.windows_per_epoch, batches.sequence_length)
    assert first_tokens(batches, step + 1)[step * shape[1]] in starts


def test_seeds_and_epochs_have_their_own_order_and_offset():
    train, keys = np.arange(100_000), [(1, 0), (1, 1), (2, 0)]
    windows = Batches(train, 1, Steps.even(640), 64).windows_per_epoch
    epochs = [epoch_starts(seed, epoch, windows, 64) for seed, epoch in keys]
    assert len({starts.min() for starts in epochs}) == 3
    assert len({tuple((starts - starts.min())[:20]) for starts in epochs}) == 3


def test_the_order_of_an_epoch_never_changes_between_releases():
    assert epoch_starts(1, 0, 8, 16).tolist() == [66, 98, 34, 18, 82, 50, 114, 2]


def test_offsets_and_first_windows_are_spread_uniformly():
    """Chi-square over 16 cells and 1,600 epochs: 15 degrees of freedom exceed 45 once in 13,000."""
    for draw in (lambda e: epoch_starts(7, e, 2, 16).min(), lambda e: epoch_starts(7, e, 16, 1)[0]):
        counts = np.bincount([draw(epoch) for epoch in range(1600)], minlength=16)
        assert len(counts) == 16 and ((counts - 100) ** 2 / 100).sum() < 45


@pytest.mark.parametrize("tokens_per_step, sequence_length", [(100, 16), (0, 16), (8, 16), (16, 0)])
def test_a_step_that_is_no_whole_number_of_sequences_is_an_error(tokens_per_step, sequence_length):
    with pytest.raises(UserError, match=f"a step of {tokens_per_step} tokens is not a whole number of sequences"):
        Batches(np.arange(1000), 1, Steps.even(tokens_per_step), sequence_length)


@pytest.mark.parametrize("length", [0, 16, 79])
def test_a_train_shorter_than_one_step_is_an_error(length):
    with pytest.raises(UserError, match="fewer than the 4 of one step"):
        Batches(np.arange(length), 1, Steps.even(64), 16)
    Batches(np.arange(80), 1, Steps.even(64), 16)  # the shortest that fits


def test_ranks_that_do_not_divide_the_step_are_an_error():
    with pytest.raises(UserError, match="4 sequences a step cannot be shared equally by 3 ranks"):
        Batches(np.arange(1000), 1, Steps.even(64), 16).batch(0, rank=0, world=3)


def test_a_keyed_generator_depends_on_every_word_of_its_purpose_and_nothing_else():
    def first(*key):
        return int(generator(*key).bit_generator.random_raw())

    assert first(1, "a", 2) == first(1, "a", np.int64(2))
    assert len({first(1), first(2), first(1, "a"), first(1, "a", 2), first(1, "a", "2"), first(1, "a2"), first(12, "a")}) == 7
    with pytest.raises(TypeError):
        generator(1, 2.5)
