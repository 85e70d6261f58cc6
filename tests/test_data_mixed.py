"""Batches of several strands, whose tokens are their own position here: a batch tells where it was cut."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.mixed import BLOCK, Mixed, counts
from harness.data.turned import Strand, Turned
from harness.errors import UserError
from harness.plan.steps import Stage, Steps

LENGTH = 8
FAR = 1_000_000  # between the tokens of two strands


def strands(*shares: float, windows: int = 30) -> tuple[Strand, ...]:
    total = sum(shares)
    texts = [np.arange((windows + 1) * LENGTH + number) + number * FAR for number in range(len(shares))]
    return tuple(Strand(f"s{number}", text, share / total) for number, (text, share) in enumerate(zip(texts, shares)))


def mixed(*shares: float, staged: bool = False, seed: int = 1, sequences: int = 4, steps: int = 500) -> Mixed:
    return Mixed(Turned(strands(*shares), staged), seed, Steps.even(sequences * LENGTH, steps), LENGTH)


def starts(batches: Mixed, first: int, last: int) -> list[int]:
    """The first token of every sequence of these steps."""
    return torch.cat([batches.batch(step)[0][:, 0] for step in range(first, last)]).tolist()


weights = st.lists(st.integers(1, 9), min_size=2, max_size=4)


@given(shares=weights, seed=st.integers(0, 2**62))
def test_every_thousand_sequences_hold_each_strand_by_its_weight(shares, seed):
    batches = mixed(*shares, seed=seed)
    for block in range(2):
        numbers = range(block * BLOCK, (block + 1) * BLOCK)
        seen = Counter(batches.place(number)[0] for number in numbers)
        for strand, share in enumerate(shares):
            assert abs(seen[strand] - BLOCK * share / sum(shares)) < 1


@given(shares=weights, seed=st.integers(0, 2**62))
def test_a_strand_counts_its_own_sequences_without_a_gap_over_blocks(shares, seed):
    batches = mixed(*shares, seed=seed)
    seen = [batches.place(number) for number in range(2 * BLOCK + 17)]
    for strand in range(len(shares)):
        own = [number for at, number in seen if at == strand]
        assert own == list(range(len(own)))


@given(order=st.permutations(range(0, 600, 97)), staged=st.booleans(), seed=st.integers(0, 99))
def test_a_step_is_the_same_whatever_was_asked_before(order, staged, seed):
    batches = mixed(1, 2, 5, staged=staged, seed=seed)
    for step in order:
        alone = mixed(1, 2, 5, staged=staged, seed=seed).batch(step)
        assert all(torch.equal(a, b) for a, b in zip(batches.batch(step), alone))


@given(step=st.integers(0, 300), world=st.sampled_from([1, 2, 3, 6]), staged=st.booleans())
def test_ranks_share_the_same_global_batch_in_order(step, world, staged):
    batches = mixed(1, 3, sequences=6, staged=staged)
    whole, shares = batches.batch(step), [batches.batch(step, rank, world) for rank in range(world)]
    for i in range(2):
        assert torch.equal(torch.cat([share[i] for share in shares]), whole[i])
        assert whole[i].dtype == torch.int64 and whole[i].is_contiguous()


@given(step=st.integers(0, 300), staged=st.booleans())
def test_a_sequence_is_one_window_of_one_strand_and_targets_are_a_token_later(step, staged):
    inputs, targets = mixed(1, 3, staged=staged).batch(step)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(LENGTH))
    assert torch.equal(inputs // FAR, targets // FAR)


@given(shares=weights, seed=st.integers(0, 99))
def test_each_strand_is_read_pass_after_pass(shares, seed):
    batches = mixed(*shares, seed=seed)
    read = starts(batches, 0, 500)
    for strand, windows in enumerate(batches.windows):
        own = [start for start in read if start // FAR == strand]
        for number in range(len(own) // windows):
            one_pass = sorted(own[number * windows : (number + 1) * windows])
            assert one_pass == list(range(one_pass[0], one_pass[0] + windows * LENGTH, LENGTH))


@given(shares=weights)
def test_staged_strands_follow_each_other_and_fill_the_run(shares):
    batches = mixed(*shares, staged=True, steps=300)
    order = [start // FAR for start in starts(batches, 0, 300)]
    assert order == sorted(order)
    assert [order.count(strand) for strand in range(len(shares))] == counts(shares, 1200)
    assert starts(batches, 300, 302)[0] // FAR == len(shares) - 1  # past the budget, as a benchmark may ask


def test_stages_of_the_batch_read_the_same_sequences():
    data = Turned(strands(1, 3), False)
    even = Mixed(data, 1, Steps.even(LENGTH, 40), LENGTH)
    staged = Mixed(data, 1, Steps((Stage(2 * LENGTH, 5), Stage(6 * LENGTH, 5))), LENGTH)
    assert starts(staged, 0, 10) == starts(even, 0, 40)
    assert [staged.scored(step) for step in (0, 9)] == [2 * LENGTH, 6 * LENGTH]


def test_another_seed_reads_in_another_order():
    assert starts(mixed(1, 1, seed=1), 0, 9) != starts(mixed(1, 1, seed=2), 0, 9)


@given(shares=st.lists(st.floats(0.001, 1e6), min_size=1, max_size=9), total=st.integers(0, 5000))
def test_counts_are_whole_nearest_and_sum_to_the_total(shares, total):
    found = counts(shares, total)
    assert sum(found) == total
    assert all(abs(count - share * total / sum(shares)) < 1 + 1e-6 for count, share in zip(found, shares))


def test_a_strand_without_a_window_is_refused_by_its_name():
    one, two = strands(1, 1)
    with pytest.raises(UserError, match=f"s1 has {LENGTH} tokens to train on, less than a window of {LENGTH}"):
        Mixed(Turned((one, replace(two, text=two.text[:LENGTH])), False), 1, Steps.even(LENGTH), LENGTH)


def test_a_strand_of_which_no_sequence_comes_is_refused_by_its_name():
    with pytest.raises(UserError, match="s1 has 0.0001 of the sequences, none of 1,000") as error:
        mixed(9999, 1)
    assert "more weight" in error.value.remedy
    with pytest.raises(UserError, match="none of 16"):
        mixed(99, 1, staged=True, steps=4)


def test_a_strand_of_noise_that_is_too_short_is_refused_by_the_dial_that_makes_it():
    one, two = strands(99, 1)
    for text in (two.text, two.text[:LENGTH]):
        with pytest.raises(UserError, match="^noise has ") as error:
            Mixed(Turned((one, replace(two, name="noise", text=text)), True), 1, Steps.even(LENGTH, 4), LENGTH)
        assert "data.noise_share" in error.value.remedy


def test_a_step_that_is_no_whole_number_of_sequences_is_refused():
    with pytest.raises(UserError, match="not a whole number of sequences"):
        Mixed(Turned(strands(1, 1), False), 1, Steps.even(LENGTH + 1), LENGTH)
