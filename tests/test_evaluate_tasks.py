"""Scores on tasks: whole answers, nats and KL of models whose answers are known beforehand."""

import math
from collections import Counter

import micro
import numpy as np
import pytest
import torch
from task_models import Coins, Known, Orders, copying

from harness.data.instances import is_test
from harness.data.vocabulary import ANSWER, END
from harness.errors import UserError
from harness.evaluate import answering
from harness.evaluate.answering import batches, write
from harness.evaluate.own_model import OwnModel
from harness.evaluate.ratio import ratio
from harness.evaluate.tasks import Test, merge, share
from harness.interval import wilson
from harness.model.build import build_model
from harness.model.init import initialize
from harness.plan.compose import compose

TASKS = {"copy": copying(), "orders": Orders(), "coins": Coins()}
EACH = 24  # instances of a difficulty


def test_of(tasks=TASKS, context=64, instances=EACH):
    return Test(tasks, context, instances)


test_of.__test__ = False


def scores(model, test):
    found = merge([share(model, test, lambda *_: None)], test)
    return {(row["task"], row["difficulty"]): row for row in found["scores"]}, found


def transformer(*words, lane=micro.DENSE):
    """An untrained model of the run's own kind: as a run begins, or with a head and outputs that are not zero."""
    plan = compose([*lane, "model.sequence_length=64", *words]).plan
    model = build_model(plan, "full")
    initialize(model, plan.init, plan.seed)
    return OwnModel(model.eval())


def lively(*words, lane=micro.DENSE):
    own = transformer("init.zero_output=false", *words, lane=lane)
    with torch.no_grad():
        own.model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(1))
    return own


def test_a_model_that_answers_perfectly_has_every_whole_answer_and_no_divergence():
    test = test_of()
    rows, found = scores(Known.perfect(test), test)
    assert list(rows) == [("copy", n) for n in (1, 2, 3, 5, 6)] + [("orders", n) for n in (2, 3, 4)] + [
        ("coins", 4),
        ("coins", 9),
    ]
    for (name, _), row in rows.items():
        assert row["n"] == EACH and row["interval"] == list(wilson(row["right"], EACH))
        if name == "coins":
            assert row["kl"] == pytest.approx(0, abs=1e-6) and row["kl_error"] == pytest.approx(0, abs=1e-6)
            assert row["entropy"] == pytest.approx(Coins.entropy, rel=1e-12)
        else:
            assert row["right"] == EACH and row["exact_match"] == 1.0 and not {"kl", "kl_error", "entropy"} & row.keys()
    assert rows["copy", 3]["nats"] == pytest.approx(0, abs=1e-6) and rows["copy", 3]["answers"] == 3 * EACH
    drawn = np.concatenate([one.instance.token_N[6:] for one in test.asked if (one.name, one.difficulty) == ("coins", 9)])
    assert rows["coins", 9]["nats"] == pytest.approx(-np.log(np.where(drawn, 0.75, 0.25)).mean(), rel=1e-6)
    assert found["right"]["copy"] == {str(n): "1" * EACH for n in (1, 2, 3, 5, 6)}
    assert found["examples"] == 10 * EACH and found["left_out"] == [] and found["partial"].startswith("partial: 24 of 256")


def test_a_model_as_a_run_begins_has_chance():
    """All tokens alike: the lowest id is taken, which is one of 8 symbols; the first answer of `orders` is never END."""
    test = test_of(instances=200)
    rows, _ = scores(transformer(), test)
    for row in rows.values():
        assert row["nats"] == pytest.approx(math.log(256), rel=1e-6) and row["nats_error"] == pytest.approx(0, abs=1e-6)
    zeros = sum(one.instance.token_N[-1] == 0 for one in test.asked if (one.name, one.difficulty) == ("copy", 1))
    assert rows["copy", 1]["right"] == zeros and rows["copy", 6]["right"] == rows["orders", 2]["right"] == 0
    assert rows["coins", 4]["kl"] == pytest.approx(math.log(256) - Coins.entropy, rel=1e-6)


def test_an_answer_with_one_wrong_token_is_wrong_and_its_nats_count():
    test = test_of({"copy": copying()})
    model, spoiled = Known.perfect(test), {}
    for one in test.asked:
        if one.difficulty == 3 and len(spoiled) < 5:
            beginning = tuple(one.instance.token_N[:-2].tolist())  # what the second of three answers follows
            spoiled[beginning] = np.roll(model.shares[beginning], 1)
    model.shares |= spoiled
    rows, found = scores(model, test)
    hit = [tuple(one.instance.token_N[:-2].tolist()) in spoiled for one in test.asked if one.difficulty == 3]
    assert (
        found["right"]["copy"]["3"] == "".join("10"[bad] for bad in hit) and rows["copy", 3]["right"] == EACH - sum(hit) < EACH
    )
    assert rows["copy", 3]["nats"] == pytest.approx(sum(hit) * -math.log(1e-30) / (3 * EACH), rel=1e-4)
    assert rows["copy", 2]["exact_match"] == 1.0


@pytest.mark.parametrize("decodes", [True, False], ids=["with a cache", "by reading anew"])
def test_another_right_order_counts_and_a_wrong_one_does_not(decodes):
    test = test_of({"orders": Orders()})
    for order, right in (
        (lambda symbols: symbols[::-1], 1.0),
        (sorted, 1.0),
        (lambda symbols: [*symbols[:-1], symbols[0]], 0.0),  # one twice, one never
        (lambda symbols: symbols[:-1] + [41], 0.0),
    ):
        model = Known.perfect(test, decodes, order)
        rows, found = scores(model, test)
        assert {row["exact_match"] for row in rows.values()} == {right}
        assert found["right"]["orders"]["4"] == str(int(right)) * EACH
        written = [shape for shape in model.asked if shape[1] == 1]
        assert bool(written) == decodes


def test_what_is_written_ends_with_end_or_at_the_most_and_each_row_by_itself():
    model = Known()
    for beginning, token in (((1,), 7), ((1, 7), END), ((2,), 8), ((2, 8), 9), ((2, 8, 9), 10), ((3,), END)):
        model.shares[beginning] = np.eye(256)[token]
    for decodes in (True, False):
        model.decodes = decodes
        found = write(model, np.array([[1], [2], [3], [2]], np.uint8), [5, 3, 5, 2], END)
        assert [row.tolist() for row in found] == [[7, END], [8, 9, 10], [END], [8, 9]]


@pytest.mark.parametrize("lane", [micro.DENSE, micro.MOE], ids=["dense", "moe"])
def test_an_answer_does_not_depend_on_what_else_is_asked(lane, monkeypatch):
    model, test = lively(lane=lane), test_of(instances=6)
    together = share(model, test, lambda *_: None)
    monkeypatch.setattr(answering, "BATCH_TOKENS", 1)  # each in a batch of its own
    alone = share(model, test_of(instances=6), lambda *_: None)
    assert together.keys() == alone.keys()
    for key, one in together.items():
        if isinstance(one, bool):
            assert one == alone[key]
        else:
            assert one.hits == alone[key].hits and one.nats == pytest.approx(alone[key].nats, rel=1e-5, abs=1e-5)
            assert one.kl == (None if one.kl is None else pytest.approx(alone[key].kl, rel=1e-4, abs=1e-5))


def test_a_model_writes_the_same_with_its_cache_and_without():
    model, test = lively(), test_of({"orders": Orders()}, instances=8)
    prompts = np.stack([one.instance.token_N[:6] for one in test.asked if one.difficulty == 4])
    found = []
    for model.decodes in (True, False):
        found.append([row.tolist() for row in write(model, prompts, [9] * len(prompts), END)])
    assert found[0] == found[1] and len({tuple(row) for row in found[0]}) > 1


@pytest.mark.parametrize("world", [1, 2, 5, 40])
def test_ranks_answer_every_instance_once_with_what_one_alone_finds(world):
    test = test_of()
    model = Known.perfect(test)
    counted = []
    alone = merge([share(model, test, lambda *done: counted.append(done))], test)
    shares = [share(model, test, lambda *_: None, rank, world) for rank in range(world)]
    assert merge(shares, test) == alone
    assert counted[-1] == (13 * EACH, 13 * EACH) and counted == sorted(counted)  # those of orders are read, and written
    with pytest.raises(AssertionError, match="missing, or there twice"):
        merge([*shares, shares[0]], test)


def test_every_run_is_asked_the_same_questions_all_of_the_test():
    one, other = test_of(), test_of(context=1000)
    assert one.sha256 == other.sha256 != test_of(instances=EACH - 1).sha256 != test_of({"copy": copying(4)}).sha256
    assert all(is_test(asked.instance.question) for asked in one.asked)
    rows, _ = scores(Known.perfect(one), one)
    asked = Counter((asked.name, asked.difficulty, asked.instance.question) for asked in one.asked)
    assert rows["copy", 1]["questions"] == sum(key[:2] == ("copy", 1) for key in asked) < EACH  # there are but 8 symbols
    assert rows["coins", 9]["questions"] == EACH


def test_difficulties_that_a_model_cannot_read_are_left_out_and_said():
    test = test_of(context=10)  # reads instances of 11 tokens, of which the last one is only predicted
    assert test.left_out == [
        "copy of 5: up to 15 tokens, the model reads 10", "copy of 6: up to 17 tokens, the model reads 10",
        "coins of 9: up to 15 tokens, the model reads 10",
    ]  # fmt: skip
    model = Known.perfect(test)
    model.context = 10
    rows, found = scores(model, test)
    assert ("copy", 5) not in rows and ("orders", 4) in rows and found["left_out"] == test.left_out
    with pytest.raises(UserError, match="no task can be scored: copy of 1: up to 7 tokens, the model reads 4"):
        test_of({"copy": copying()}, context=4)
    with pytest.raises(UserError, match="there are none"):
        test_of({})


def test_weights_that_give_no_number_are_an_error():
    test = test_of({"coins": Coins()})
    model = Known.perfect(test)
    model.shares = {key: np.full(256, np.nan) for key in model.shares}
    with pytest.raises(UserError, match="gives an instance of coins nan nats"):
        share(model, test, lambda *_: None)


def test_a_batch_is_of_one_length_and_no_larger_than_its_tokens(monkeypatch):
    monkeypatch.setattr(answering, "BATCH_TOKENS", 10)
    lengths = [("a", 4), ("a", 5), ("b", 4), ("a", 4), ("a", 4), ("a", 30)]
    assert batches(lengths, lambda length: length[1]) == [[0, 3], [4], [1], [2], [5]]


def test_the_error_of_a_mean_over_answers_is_that_of_instances_drawn_anew():
    draws = np.random.default_rng(0)
    count_I = draws.integers(1, 9, 400)
    sum_I = count_I * draws.normal(2.0, 0.5, 400) + draws.normal(0, 0.5, 400)
    mean, variance = ratio(sum_I, count_I)
    error = np.sqrt(variance)
    assert mean == sum_I.sum() / count_I.sum()
    again = [(sum_I[i].sum() / count_I[i].sum()) for i in draws.integers(0, 400, (2000, 400))]
    assert error == pytest.approx(np.std(again), rel=0.06)


@pytest.mark.parametrize(
    "right, n, low, high", [(0, 10, 0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1), (1, 1, 0.20655, 1)]
)
def test_wilsons_interval_is_the_published_one(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=2e-5)


def test_the_answer_mark_is_read_before_what_it_asks_for():
    """The prompt that is written on ends with the token before the first answer."""
    test = test_of({"orders": Orders()})
    prompts = {one.instance.token_N[one.difficulty + 1] for one in test.asked}
    assert prompts == {ANSWER}
