"""Ranks that make every pass together: each piece once, in order, with the bits of one process; nobody makes fewer passes."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import on_threads

from harness.errors import UserError
from harness.evaluate import public
from harness.evaluate.bpb import cut, score
from harness.evaluate.lockstep import ALONE_IN_STEP, Agreed, AnotherFailed, InStep, Lockstep
from harness.ranks import ALONE
from kernels import NonFiniteOperand

HERE = threading.local()  # the stance of a thread: torch has one for the whole process


@contextmanager
def stance(name):
    HERE.stance = name
    yield


@pytest.fixture(autouse=True, scope="module")
def stances():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "set_stance", stance)
        yield


class Spread:
    """A model whose passes are messages; what it says is made of the tokens alone. Its passes: (first token, shape, mode)."""

    shape, moe_layers, embedding = SimpleNamespace(sequence_length=4), [0, 1], torch.zeros(1)

    def __init__(self, ranks, fault=lambda start: None):
        self.ranks, self.fault, self.passes = ranks, fault, []

    def __call__(self, where, target_BS):
        token_BS, start = where.token_BS, int(where.token_BS[0, 0])
        self.passes.append((start, tuple(token_BS.shape), torch.is_grad_enabled(), HERE.stance))
        if self.ranks.world > 1:
            self.ranks.table.exchange(self.ranks.rank, "pass", None)
        if found := self.fault(start):
            raise found
        shuffled_T = token_BS.flatten() if where.shuffle_T is None else token_BS.flatten()[where.shuffle_T]
        nats_T = torch.sin(shuffled_T.float()) + 1 / (1 + target_BS.flatten())
        count_LE = torch.stack(
            [torch.bincount(shuffled_T % 3, minlength=3), torch.bincount(target_BS.flatten() % 3, minlength=3)]
        )
        margin_L = torch.stack([nats_T.mean(), nats_T.square().mean()])
        return SimpleNamespace(nats_BS=nats_T.view_as(token_BS), count_LE=count_LE, margin_L=margin_L)


class Plain(Spread):
    """The same without experts."""

    moe_layers = []

    def __call__(self, where, target_BS):
        found = super().__call__(where, target_BS)
        found.count_LE, found.margin_L = torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0)
        return found


def bits(found):
    return found.nats_N.tobytes(), found.count_LE.tolist(), found.margin_L.numpy().tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 150), st.integers(1, 24), st.integers(1, 5), st.sampled_from([None, 0]), st.sampled_from([Spread, Plain]))
def test_ranks_score_each_piece_once_in_the_mode_and_with_the_bits_of_one_process(tokens, batch_tokens, world, seed, kind):
    text = np.arange(tokens, dtype=np.uint16)
    alone, models = kind(ALONE), {}
    expected = score(alone, text, batch_tokens, seed)

    def work(ranks):
        model = models[ranks.rank] = kind(ranks)
        seen = []
        found = score(model, text, batch_tokens, seed, progress=lambda *at: seen.append(at), lockstep=Lockstep(ranks))
        return found, seen

    batches, left = cut(tokens, 4, batch_tokens)
    rounds = -(-len(batches) // world) + len(left)
    for found, seen in on_threads(world, work):
        assert bits(found) == bits(expected) and found.targets == tokens - 1
        assert len(seen) == rounds and seen == sorted(seen) and seen[-1] == (tokens - 1, tokens - 1)
    assert {len(model.passes) for model in models.values()} == {rounds}
    assert {it for model in models.values() for it in model.passes} == set(alone.passes)


def test_what_one_rank_cannot_quantize_ends_the_scores_of_all_with_the_words_of_the_first():
    def fault(start):
        return NonFiniteOperand(start, "input", 7) if start in (12, 16) else None

    text, words = np.arange(60, dtype=np.uint16), []
    for world in (1, 3, 4):
        for found in on_threads(world, lambda ranks: score(Spread(ranks, fault), text, 4, lockstep=Lockstep(ranks))):
            assert isinstance(found, NonFiniteOperand) and found.layer == 12
            words.append(str(found))
    assert len(set(words)) == 1


@pytest.mark.parametrize("world, hearing", [(1, 0), (3, 0), (3, 2)])
def test_a_signal_that_one_rank_hears_ends_the_scores_of_all_after_the_same_pass(world, hearing):
    models = {}

    def work(ranks):
        model = models[ranks.rank] = Spread(ranks)
        heard = lambda: 15 if ranks.rank == hearing and len(model.passes) == 2 else 0  # noqa: E731
        return score(model, np.arange(60, dtype=np.uint16), 4, lockstep=Lockstep(ranks, heard=heard))

    for found in on_threads(world, work):
        assert isinstance(found, Agreed) and found.args == (15,)
    assert {len(model.passes) for model in models.values()} == {2}


# Public sets: ranks have different numbers of passes


class Own:
    """As `OwnModel`, on a model that reads eight tokens and whose passes are messages."""

    context, vocab_size, packs, decodes = 8, 16, False, True

    def __init__(self, ranks):
        self.ranks, self.passes, self.model = ranks, 0, self

    def check_length(self, token_BS, cache):
        if token_BS.shape[1] > self.context:
            raise UserError(f"too long on rank {self.ranks.rank}")

    def logits(self, token_BS, cache=None):
        self.ranks.table.exchange(self.ranks.rank, "pass", None)
        self.passes += 1
        return token_BS + (100 if cache else 0)

    def score(self, input_BS, target_BS, *rest):
        return self.logits(input_BS), target_BS


def passes(model, rank, number):
    """As many, of several kinds; what they gave."""
    token = torch.tensor([[rank]])
    ways = (lambda: model.logits(token), lambda: model.logits(token, "cache"), lambda: model.score(token, token)[0])
    return [int(ways[at % 3]()) for at in range(number)]


def expected(rank, number):
    return [rank + (100 if at % 3 == 1 else 0) for at in range(number)]


numbers = st.lists(st.integers(0, 7), min_size=2, max_size=5)


@settings(max_examples=50, deadline=None)
@given(numbers, st.integers(0, 4))
def test_ranks_with_any_numbers_of_passes_make_as_many_as_the_busiest_and_each_has_its_own_answers(of_rank, more):
    owns = {}

    def work(ranks):
        own = owns[ranks.rank] = Own(ranks)
        model = InStep(own, Lockstep(ranks))
        sets = (of_rank[ranks.rank], more * ranks.rank)
        return [public.together(ranks, lambda n=n: passes(model, ranks.rank, n), model) for n in sets]

    first, *others = on_threads(len(of_rank), work)
    assert first == [
        [expected(rank, n) for rank, n in enumerate(ns)] for ns in (of_rank, [more * r for r in range(len(of_rank))])
    ]
    assert all(found == [[], []] for found in others)
    assert {own.passes for own in owns.values()} == {max(of_rank) + more * (len(of_rank) - 1)}


@settings(max_examples=50, deadline=None)
@given(numbers, st.data(), st.booleans())
def test_a_rank_that_fails_ends_the_set_of_all_at_once_and_the_next_set_is_scored(of_rank, data, too_long):
    failing = data.draw(st.integers(0, len(of_rank) - 1))
    after, owns = data.draw(st.integers(0, of_rank[failing])), {}

    def work(ranks):
        own = owns[ranks.rank] = Own(ranks)
        model, said = InStep(own, Lockstep(ranks)), None

        def share():
            if ranks.rank != failing:
                return passes(model, ranks.rank, of_rank[ranks.rank])
            passes(model, ranks.rank, after)
            if too_long:
                return model.logits(torch.zeros(1, 9))
            raise UserError(f"too long on rank {ranks.rank}")

        try:
            found = public.together(ranks, share, model)
        except UserError as error:
            found, said = None, error.problem
        return found, said, own.passes, public.together(ranks, lambda: passes(model, ranks.rank, 2), model)

    first, *others = on_threads(len(of_rank), work)
    world = len(of_rank)
    assert first == (None, f"too long on rank {failing}", after, [expected(rank, 2) for rank in range(world)])
    assert others == [([], None, after, [])] * (world - 1)
    assert {own.passes for own in owns.values()} == {after + 2}


@pytest.mark.parametrize("hearing", [0, 1])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_a_signal_reaches_those_that_work_and_those_that_rest(hearing, after):
    """Rank 0 makes seven passes, rank 1 three."""
    owns = {}

    def work(ranks):
        own = owns[ranks.rank] = Own(ranks)
        lockstep = Lockstep(ranks, heard=lambda: 15 if ranks.rank == hearing and own.passes == after else 0)
        model = InStep(own, lockstep)
        return public.together(ranks, lambda: passes(model, ranks.rank, 7 - 4 * ranks.rank), model)

    for found in on_threads(2, work):
        assert isinstance(found, Agreed) and found.args == (15,)
    assert {own.passes for own in owns.values()} == {after}


def test_a_process_alone_has_nobody_to_wait_for():
    assert ALONE_IN_STEP.tell(1) == [1]
    with pytest.raises(Agreed):
        Lockstep(heard=lambda: 2).tell(0)
    assert not issubclass(AnotherFailed, UserError)  # which would be told in the place of the failure itself
