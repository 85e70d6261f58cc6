"""The fast way of scoring against the plain one: on an exact model to the bit, on our own within rounding."""

from dataclasses import replace

import core_bundle
import pytest
import torch

from harness.errors import UserError
from harness.evaluate.core import bundle, score, tasks
from harness.evaluate.core.ahead import WORKERS, ahead
from harness.evaluate.core.packing import batches, rows
from harness.evaluate.core.prompts import Item, item
from harness.evaluate.core.tasks import Example, Task
from tests.core_oracles import __main__ as core_oracles
from tests.core_oracles import plain
from tests.core_oracles.check import TOLERANCE, compare, small_model
from tests.core_oracles.exact import ExactModel

TOKENS = core_bundle.tokenizer()
LONG, SHORT = 400, 40  # tokens: everything fits, most options are cropped
KINDS = ("multiple_choice", "schema", "language_modeling")


@pytest.fixture(name="tiny", scope="module")
def tiny_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("core")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEEDRUN_CACHE", str(folder / "cache"))
        patch.setenv("SPEEDRUN_MIRROR", str(folder / "mirror"))
        return tasks.load(bundle.folder(core_bundle.archive(folder / "mirror", core_bundle.files())))


def exact(context=LONG):
    return ExactModel(context, TOKENS.vocab_size)


class Recorder(ExactModel):
    """Counts what it is asked to read."""

    def __init__(self, context=LONG):
        super().__init__(context, TOKENS.vocab_size)
        self.shapes, self.masked = [], []

    def score(self, input_BS, target_BS, position_BS=None, visible_BSS=None):
        self.shapes.append(tuple(input_BS.shape))
        self.masked.append(visible_BSS is not None)
        return super().score(input_BS, target_BS, position_BS, visible_BSS)


@pytest.mark.parametrize("budget", [1, 300, score.TOKEN_BUDGET])
@pytest.mark.parametrize("context", [LONG, SHORT])
def test_packed_scoring_equals_the_plain_one_to_the_bit_on_an_exact_model(tiny, context, budget):
    cropped = set()
    for task in tiny:
        indices = range(len(task.examples))
        cropped |= {task.type for i in indices if any(len(o) > context for o in item(task, i, TOKENS).options)}
        fast = score.score(exact(context), TOKENS, task, indices, budget)
        assert fast == plain.score(exact(context), TOKENS, task, indices)
        assert {answer.correct for answer in fast} == {True, False}, task.label  # else nothing was compared
    assert cropped == (set() if context == LONG else set(KINDS))


@pytest.mark.parametrize("context", [LONG, SHORT])
def test_a_model_that_does_not_pack_reads_every_option_alone_and_answers_the_same(tiny, context):
    recorder = Recorder(context)
    recorder.packs = False
    for task in tiny:
        indices = range(len(task.examples))
        assert score.score(recorder, TOKENS, task, indices) == plain.score(exact(context), TOKENS, task, indices)
    assert not any(recorder.masked) and max(length for _, length in recorder.shapes) < context


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("context", [LONG, SHORT])
def test_packed_scoring_agrees_with_the_plain_one_on_our_own_model(tiny, kind, context):
    model = small_model(kind, context, TOKENS.vocab_size)
    for task in tiny:
        found = compare(model, TOKENS, task, len(task.examples))
        assert found.wrong == [] and found.largest <= TOLERANCE, found


def test_the_check_notices_a_model_that_ignores_who_may_see_what(tiny):
    class Leaky(ExactModel):
        def score(self, input_BS, target_BS, position_BS=None, visible_BSS=None):
            return super().score(input_BS, target_BS, position_BS)

    found = compare(Leaky(LONG, TOKENS.vocab_size), TOKENS, tiny[0], 9)
    assert found.wrong and found.largest > 0.1


def test_the_check_prints_a_line_a_task_and_that_no_answer_differs(tiny, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "load", lambda: tiny)
    monkeypatch.setattr("harness.data.tokenizer.gpt2", lambda: TOKENS)
    assert core_oracles.main(["--model", "exact", "--context", str(SHORT)]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{task.label}" in said for task in tiny) and "largest difference of a mean 0.0e+00 nats, 0 allowed" in said
    assert core_oracles.main(["--model", "exac"]) == 2 and "did you mean exact?" in capsys.readouterr().err


def test_options_read_their_common_prefix_once(tiny):
    task, recorder = tiny[0], Recorder()
    score.score(recorder, TOKENS, task, [0])
    example = item(task, 0, TOKENS)
    common = example.starts[0]
    assert recorder.shapes == [(1, common - 1 + sum(len(option) - common for option in example.options))]
    assert recorder.masked == [True]


def test_identical_options_are_read_once_and_tie():
    twice = Task("twice", "multiple_choice", 0, " ", 0, 0, (Example((("Q", "a"), ("Q", "b"), ("Q", "b")), 0),))
    (answer,) = score.score(small_model("dense", LONG, TOKENS.vocab_size), TOKENS, twice, [0])
    assert answer.means[1] == answer.means[2] != answer.means[0]
    (row,) = rows(0, item(twice, 0, TOKENS), LONG)
    assert max(row.branches) == 2 and [span[0] for span in row.spans] == [0, 1, 2]


def test_an_option_whose_tokens_begin_the_others_has_no_mean():
    prefix = Task("prefix", "multiple_choice", 0, " ", 0, 0, (Example((("Q", "ab"), ("Q", "abc")), 1),))
    for way in (score, plain):
        (answer,) = way.score(exact(), TOKENS, prefix, [0])
        assert answer.means[0] is None and answer.means[1] is not None
        assert (answer.choice, answer.correct) == (0, False)


def test_a_schemas_scored_suffix_may_overlap_the_common_prefix():
    overlapping = Item(((9, 5, 5), (9, 5, 5, 5)), (1, 2))
    (row,) = rows(0, overlapping, LONG)
    for (_, first, stop), option, start in zip(row.spans, overlapping.options, overlapping.starts):
        assert row.targets[first:stop] == list(option[start:])
        assert row.positions[first:stop] == list(range(start - 1, len(option) - 1))


def test_plain_sequences_need_no_mask(tiny):
    recorder = Recorder()
    score.score(recorder, TOKENS, tiny[3], range(8))
    assert recorder.masked == [False] and recorder.shapes[0][0] == 8


def test_batches_hold_rows_of_like_length_within_the_budget(tiny):
    packed = [row for i in range(9) for row in rows(i, item(tiny[0], i, TOKENS), LONG)]
    lengths = sorted(len(row.inputs) for row in packed)
    budget = 3 * lengths[-1]
    found = batches(packed, budget, TOKENS.end_of_text)
    assert sorted(row.example for batch in found for row in batch.rows) == list(range(9))
    assert [len(row.inputs) for batch in found for row in batch.rows] == lengths
    assert all(batch.input_BS.numel() <= budget for batch in found) and len(found) == 3
    assert [b.input_BS.shape[0] for b in batches(packed, 1, TOKENS.end_of_text)] == [1] * 9  # too long for any: alone


@pytest.mark.parametrize("limit", [None, 3])
def test_two_ranks_score_every_example_once_and_with_the_bits_of_one(tiny, monkeypatch, limit):
    monkeypatch.setattr(score, "CHUNK", 2)
    model = small_model("dense", LONG, TOKENS.vocab_size)
    alone = score.merge([score.evaluate(model, TOKENS, tiny, max_per_task=limit)], tiny, limit)
    parts = [score.evaluate(model, TOKENS, tiny, max_per_task=limit, rank=rank, world=2) for rank in range(2)]
    assert all(sum(map(len, part.values())) > 2 for part in parts)
    assert score.merge(parts, tiny, limit) == alone
    assert {label: len(answers) for label, answers in alone.items()} == {t.label: t.count(limit) for t in tiny}


def test_missing_and_repeated_answers_do_not_merge(tiny):
    part = score.evaluate(exact(), TOKENS, tiny, rank=0, world=2)
    whole = score.evaluate(exact(), TOKENS, tiny)
    for parts in ([part], [whole, part]):
        with pytest.raises(UserError, match="answers for"):
            score.merge(parts, tiny)


def test_a_partial_evaluation_is_the_beginning_of_the_whole_one(tiny):
    whole, first = (score.evaluate(exact(), TOKENS, tiny, max_per_task=limit) for limit in (None, 4))
    assert all(first[task.label] == whole[task.label][:4] for task in tiny)


def test_shots_of_a_partial_evaluation_are_drawn_among_all_examples_not_among_those_that_are_scored(tiny):
    """As nanochat draws them, from the list that it has cut, the same examples have other shots and means."""
    tiny = [task for task in tiny if task.shots]
    first = score.evaluate(exact(), TOKENS, tiny, max_per_task=4)
    cut = [replace(task, examples=task.examples[:4]) for task in tiny]
    theirs = score.evaluate(exact(), TOKENS, cut)
    assert tiny and not any(first[task.label] == theirs[task.label] for task in tiny)


def test_twice_the_same_evaluation_has_the_same_bits(tiny):
    first, again = (score.evaluate(small_model("moe", LONG, TOKENS.vocab_size), TOKENS, tiny) for _ in range(2))
    assert first == again


def test_progress_is_told_every_chunk(tiny):
    chunks = []
    score.evaluate(exact(), TOKENS, tiny, progress=chunks.append)
    assert chunks == score.assigned(tiny, None, 0, 1) and len(chunks) == 4


@pytest.mark.parametrize("way", [score, plain])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nats_that_are_not_finite_are_an_error(tiny, way, value):
    class Broken(ExactModel):
        def score(self, input_BS, *rest):
            nats_BS, hit_BS = super().score(input_BS, *rest)
            return torch.full_like(nats_BS, value), hit_BS

    with pytest.raises(UserError, match="pick, example 0"):
        way.score(Broken(LONG, TOKENS.vocab_size), TOKENS, tiny[0], [0])


def test_a_model_of_bytes_is_refused(tiny):
    with pytest.raises(UserError, match="256 token ids"):
        score.evaluate(ExactModel(LONG, 256), TOKENS, tiny)


def test_what_is_prepared_ahead_comes_in_order_and_fails_where_it_is_asked_for():
    begun = []

    def work(number):
        begun.append(number)
        if number == 7:
            raise UserError("seven", "")
        return number * number

    found = ahead(work, range(100))
    assert [next(found) for _ in range(7)] == [n * n for n in range(7)]
    with pytest.raises(UserError, match="seven"):
        next(found)
    assert max(begun) < 7 + 2 * WORKERS  # not all of it


def test_chunks_that_are_known_are_not_prepared(tiny, monkeypatch):
    chunks, packed = score.assigned(tiny, None, 0, 1), []
    first = {}
    score.evaluate(exact(), TOKENS, tiny, keep=first.__setitem__)
    plain_pack = score._packed
    monkeypatch.setattr(score, "_packed", lambda *words: packed.append(words[2].label) or plain_pack(*words))
    known = {chunk: first[chunk] for chunk in chunks[:2]}
    again = {}
    score.evaluate(exact(), TOKENS, tiny, known=known, keep=again.__setitem__)
    assert len(packed) == len(chunks) - 2 and again == {chunk: first[chunk] for chunk in chunks[2:]}
