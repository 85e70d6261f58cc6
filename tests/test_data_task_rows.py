"""Rows of tasks and their batches: what a row is, what is scored of it, and that nothing but (seed, number) decides it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.data import rows
from harness.data.draws import Draws
from harness.data.instances import instance, is_test
from harness.data.rows import Mix, row_of
from harness.data.task_batches import TaskBatches
from harness.data.vocabulary import BEGINS, begin
from harness.errors import UserError
from harness.plan import parts
from harness.plan.parts.task.copy import Keys
from harness.plan.steps import Steps
from harness.targets import IGNORED

LENGTH = 32
BEGIN = 250  # of the toy


class Repeating:
    """One symbol four times more, with a noise of its own in front that makes questions many: 5 of 10 tokens are answers."""

    trained, beyond, latents, guess = (1,), (), 0, 0.0

    def __init__(self, keys=None):
        pass

    def draw(self, draws, difficulty):
        noise = [draws.below(100) for _ in range(4)]
        return instance([BEGIN, *noise, *noise[:1] * 5], range(5, 10), 1, bytes(noise))

    def longest(self, difficulty):
        return 10


class Unanswered(Repeating):
    def draw(self, draws, difficulty):
        return instance([BEGIN, *(draws.below(100) for _ in range(60)), 7], [61], 1)


@pytest.fixture(name="mix")
def mix_fixture(monkeypatch):
    """mix(names, shares): of copying and the toys."""
    toys, real = {"repeating": Repeating, "unanswered": Unanswered}, parts.part
    monkeypatch.setattr(rows.parts, "part", lambda kind, name: toys.get(name) or real(kind, name))
    section = SimpleNamespace(copy=Keys(length=2, gap=4))

    def of(names=("copy", "repeating"), shares=(), length=LENGTH):
        return Mix.of(names, shares, section, length)

    return of


def batches(mix, seed=1, tokens=8 * LENGTH):
    return TaskBatches(mix, seed, Steps.even(tokens, 10), mix.length)


def test_a_row_is_of_whole_instances_of_one_task_one_after_the_other_and_cut_off_at_its_end(mix):
    made = row_of(mix().tasks["copy"], Draws(1), LENGTH, test=False)
    draws, expected = Draws(1), []
    while sum(map(len, expected)) < LENGTH:
        expected.append(rows.drawn(mix().tasks["copy"], draws, None, False).token_N)
    assert made.token_S.tolist() == np.concatenate(expected)[:LENGTH].tolist() and len(expected) > 2
    starts = np.flatnonzero(made.token_S == begin("copy"))
    assert starts[0] == 0 and made.instance_S.tolist() == (np.cumsum(made.token_S == begin("copy")) - 1).tolist()
    assert not made.answer_S[starts].any() and made.answer_S.any()


@pytest.mark.parametrize("shares", [(), (1, 3), (0, 2), (0.5, 0)])
def test_scored_tokens_have_the_shares_that_the_plan_asks(mix, shares):
    one = mix(shares=shares)
    answers = dict.fromkeys(one.tasks, 0)
    seen = dict.fromkeys(one.tasks, 0)
    for number in range(1500):
        row = one.row(1, number)
        name = "copy" if row.token_S[0] == begin("copy") else "repeating"
        answers[name] += int(row.answer_S.sum())
        seen[name] += 1
    wanted = {name: share / sum(shares or (1, 1)) for name, share in zip(one.tasks, shares or (1, 1))}
    for name, count in answers.items():
        assert one.shares[name] == wanted[name]
        assert count / sum(answers.values()) == pytest.approx(wanted[name], abs=0.05)
        assert seen[name] / 1500 == pytest.approx(one.of_rows[name], abs=0.05)
    assert sum(answers.values()) / 1500 / LENGTH == pytest.approx(one.density, rel=0.05)
    if not shares:
        assert abs(one.of_rows["copy"] - 0.5) > 0.1  # the tasks are not equally dense


def test_a_target_is_the_next_token_where_that_is_an_answer_and_no_target_elsewhere(mix):
    one = batches(mix())
    inputs_BS, targets_BS = one.batch(3)
    made = [one.mix.row(1, number) for number in range(24, 32)]
    assert inputs_BS.tolist() == [row.token_S.tolist() for row in made]
    for row, targets_S in zip(made, targets_BS.tolist()):
        expected = [int(token) if answer else IGNORED for token, answer in zip(row.token_S[1:], row.answer_S[1:])]
        assert targets_S == [*expected, IGNORED]
    assert inputs_BS.dtype == targets_BS.dtype == torch.int64 and inputs_BS.is_contiguous() and targets_BS.is_contiguous()
    assert one.scored(3) == int((targets_BS != IGNORED).sum()) > 0
    assert one.epochs_after(9) == 0


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_rows_of_one_process_and_count_the_answers_of_all(mix, world):
    alone, ranks = batches(mix()), [batches(mix()) for _ in range(world)]
    for step in (0, 5):
        shares = [one.batch(step, rank, world) for rank, one in enumerate(ranks)]
        for whole, cut in zip(alone.batch(step), zip(*shares)):
            assert torch.equal(whole, torch.cat(cut))
        assert [one.scored(step) for one in ranks] == [alone.scored(step)] * world


def test_a_batch_depends_on_seed_and_step_alone(mix):
    first = batches(mix())
    expected = [first.batch(step) for step in range(4)]
    for step in (3, 0, 2):
        assert torch.equal(batches(mix()).batch(step)[0], expected[step][0])
    assert not torch.equal(batches(mix(), seed=2).batch(0)[0], expected[0][0])
    halves = batches(mix(), tokens=4 * LENGTH)
    assert torch.equal(torch.cat([halves.batch(step)[0] for step in (0, 1)]), expected[0][0])


def test_documents_are_the_instances_and_no_two_rows_share_one(mix):
    one = batches(mix())
    inputs_BS, document_BS = one.batch(0)[0], one.documents(0)
    begins_BS = (inputs_BS == begin("copy")) | (inputs_BS == BEGIN)
    assert ((document_BS[:, 1:] != document_BS[:, :-1]) == begins_BS[:, 1:]).all()
    assert len({number for row in document_BS.tolist() for number in set(row)}) == int(begins_BS.sum())
    assert torch.equal(torch.cat([one.documents(0, rank, 2) for rank in (0, 1)])[:4], document_BS[:4])


def test_training_and_val_share_no_question(mix, monkeypatch):
    asked, real = {True: set(), False: set()}, rows.drawn

    def watched(task, draws, difficulty, test):
        found = real(task, draws, difficulty, test)
        asked[test].add((type(task).__name__, found.question))
        return found

    monkeypatch.setattr(rows, "drawn", watched)
    one = mix()
    for number in range(200):
        one.row(1, number)
    one.val(200 * LENGTH + 1)
    assert len(asked[True]) > 100 and len(asked[False]) > 200 and not asked[True] & asked[False]
    assert all(is_test(question) for _, question in asked[True])


def test_val_has_as_many_answers_of_each_task_and_knows_neither_order_nor_shares(mix):
    tokens_N, answer_N = mix().val(100 * LENGTH + 1)
    for other in (mix(("repeating", "copy")), mix(shares=(1, 9))):
        assert [part.tolist() for part in other.val(100 * LENGTH + 1)] == [tokens_N.tolist(), answer_N.tolist()]
    assert len(tokens_N) == len(answer_N) == 100 * LENGTH + 1 and not answer_N[0] and not answer_N[-1]
    by_row = [part[:-1].reshape(-1, LENGTH) for part in (tokens_N, answer_N)]
    answers = {mark: int(by_row[1][by_row[0][:, 0] == mark].sum()) for mark in (begin("copy"), BEGIN)}
    assert abs(answers[BEGIN] - answers[begin("copy")]) <= LENGTH and min(answers.values()) > 300
    assert not by_row[1][:, 0].any()


def test_a_task_whose_answers_do_not_fit_into_a_row_is_refused(mix):
    with pytest.raises(UserError, match="no instance of task unanswered has an answer within a row of 32") as error:
        mix(("copy", "unanswered"))
    assert "model.sequence_length" in error.value.remedy
    assert 0 < mix(("unanswered",), length=64).density < 0.05


@pytest.mark.parametrize("name", parts.names("task"))
def test_every_task_fills_rows_with_answers_and_marks_the_beginning_of_each_instance(name):
    task = parts.part("task", name)(keys() if (keys := parts.keys("task", name)) else None)
    for test in (False, True):
        row = row_of(task, Draws(1, name), 256, test)
        assert [len(part) for part in row] == [256] * 3 and row.token_S.dtype == np.uint8
        starts_S = np.diff(row.instance_S, prepend=-1) > 0
        assert (row.token_S[starts_S] >= BEGINS).all() and not row.answer_S[starts_S].any()
        assert row.answer_S[row.instance_S == 0].any()
        if task.longest(task.trained[-1]) <= 128:
            assert starts_S.sum() > 1
