"""What holds of every task, at its defaults and at the least and greatest of its keys."""

from dataclasses import fields

import numpy as np
import plan_words
import pytest
import task_cases
from task_cases import CASES, NAMES, made

from harness.data import vocabulary
from harness.data.draws import Draws
from harness.data.instances import NONE, drawn, is_test
from harness.errors import UserError
from harness.plan import parts
from harness.plan.compose import compose
from harness.plan.parts.task import IDS

EACH = pytest.mark.parametrize("name, words", CASES, ids=["-".join(case).replace(" ", ",") for case in CASES])


@pytest.fixture(scope="module")
def plan():
    return compose(["lane=tiny-dense"]).plan


def difficulties(task):
    return [None, *task.trained, *task.beyond]


def test_every_task_is_among_the_cases():
    assert set(NAMES) == set(parts.names("task"))


@EACH
def test_difficulties_ascend_and_those_beyond_are_harder_than_any_of_training(name, words):
    task = made(name, words)
    asked = [*task.trained, *task.beyond]
    assert task.trained and all(a < b for a, b in zip(asked, asked[1:]))
    assert 0 <= task.guess < 0.6


@EACH
def test_an_instance_has_the_difficulty_asked_for_no_more_than_the_longest_and_what_its_docstring_says(name, words):
    task = made(name, words)
    for difficulty in difficulties(task):
        for instance in task_cases.anything(task, 20, difficulty):
            assert instance.difficulty in task.trained if difficulty is None else instance.difficulty == difficulty
            tokens, at = task_cases.tokens_of(instance), np.flatnonzero(instance.answer_N)
            assert instance.token_N.dtype == np.uint8 and instance.answer_N.dtype == bool
            assert {len(tokens)} == {len(instance.answer_N), len(instance.latent_N), len(instance.source_N)}
            assert len(tokens) <= task.longest(instance.difficulty)
            assert tokens[0] >= vocabulary.BEGINS and max(tokens[1:]) < vocabulary.BEGINS
            assert len(at) and at[0] > 0 and at[-1] == len(tokens) - 1
            assert instance.latent_N.dtype == instance.source_N.dtype == np.int16
            assert ((instance.latent_N >= NONE) & (instance.latent_N < max(task.latents, 0))).all()
            assert (instance.source_N < np.arange(len(tokens))).all() and (instance.source_N[~instance.answer_N] == NONE).all()


@EACH
def test_training_and_the_test_share_no_question_and_neither_is_empty_at_any_difficulty(name, words):
    task = made(name, words)
    for difficulty in difficulties(task):
        train, test = (task_cases.instances(task, 40, difficulty, side) for side in (False, True))
        assert all(is_test(one.question) for one in test) and not any(is_test(one.question) for one in train)
        assert not {one.token_N.tobytes() for one in train} & {one.token_N.tobytes() for one in test}


@pytest.mark.parametrize("name", NAMES)
def test_an_eighth_of_what_is_drawn_belongs_to_the_test(name):
    found = [is_test(one.question) for one in task_cases.anything(made(name), 2000)]
    assert np.mean(found) == pytest.approx(1 / 8, abs=0.03)


@EACH
def test_the_same_draws_give_the_same_instance_and_others_another(name, words):
    def first(seed):
        return drawn(made(name, words), Draws(seed, "row", 7), None, False)

    same, again = first(1), first(1)
    assert same.question == again.question and same.difficulty == again.difficulty
    for a, b in zip(same[:4], again[:4]):
        np.testing.assert_array_equal(a, b)
    assert len({first(seed).token_N.tobytes() for seed in range(20)}) > 1


@EACH
def test_exact_distributions_are_of_answers_alone_sum_to_one_and_allow_what_is_drawn(name, words):
    task = made(name, words)
    for difficulty in difficulties(task):
        for instance in task_cases.anything(task, 3, difficulty):
            exact_NV = task.exact(instance)
            if exact_NV is None:
                assert name in ("copy", "depo", "brevo", "mano")
                continue
            assert exact_NV.shape == (len(instance.token_N), vocabulary.SIZE) and exact_NV.dtype == np.float64
            assert np.isnan(exact_NV[~instance.answer_N]).all()
            np.testing.assert_allclose(exact_NV[instance.answer_N].sum(1), 1, atol=1e-12)
            drawn_share = exact_NV[np.arange(len(exact_NV)), instance.token_N]
            assert (drawn_share[instance.answer_N] > 0).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "brevo"])
def test_all_tasks_but_brevo_have_one_right_answer(name):
    task = made(name)
    (instance,) = task_cases.anything(task, 1)
    assert task.right(instance, instance.token_N[instance.answer_N]) is None


def test_no_two_tasks_begin_with_the_same_mark():
    marks = {name: {one.token_N[0] for one in task_cases.anything(made(name, words), 300)} for name, words in (
        ("lano", "grammars=24 depth=3"), *((name, "") for name in NAMES if name != "lano"))}  # fmt: skip
    assert [len(marks[name]) for name in ("lano", "polysemy", "depo")] == [24, 2, 1]
    assert sum(map(len, marks.values())) == len(set().union(*marks.values()))


@pytest.mark.parametrize("name", NAMES)
def test_symbols_fit_the_vocabulary_at_the_most_that_keys_may_be(name):
    most = {key.name: key.metadata.get("most") for key in fields(parts.keys("task", name))}
    assert all(most.values())
    assert most.get("symbols", 0) * (2 if name == "depo" else 1) <= vocabulary.SYMBOLS  # depo has two alphabets
    assert most.get("modulus", 0) <= vocabulary.BEGINS - vocabulary.NUMBERS
    assert most.get("grammars", 0) <= vocabulary.SIZE - vocabulary.begin("lano")
    assert IDS == vocabulary.SIZE


LONGEST = {
    "copy": ("copy has up to 59 tokens at difficulty 16", 59, "task.copy.length or task.copy.gap"),
    "depo": ("depo has up to 85 tokens at difficulty 4", 85, "task.depo.entities"),
    "brevo": ("brevo has up to 165 tokens at difficulty 20", 165, "task.brevo.nodes"),
    "mano": ("mano has up to 24 tokens at difficulty 10", 24, "task.mano.operations"),
    "lano": ("lano has up to 83 tokens at difficulty 16", 83, "task.lano.depth"),
    "ngram": ("ngram has up to 67 tokens at difficulty 64", 67, "task.ngram.steps"),
    "polysemy": ("polysemy has up to 67 tokens at difficulty 64", 67, "task.polysemy.steps"),
    "scrambled": ("scrambled has up to 67 tokens at difficulty 64", 67, "task.scrambled.steps"),
}


def refused(plan, name, *words):
    with pytest.raises(UserError) as caught:
        parts.without_torch("task", name).check(plan_words.with_words(plan, words))
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_an_instance_longer_than_a_row_is_refused_with_both_lengths_and_what_to_turn(plan, name):
    said, longest, turn = LONGEST[name]
    parts.without_torch("task", name).check(plan_words.with_words(plan, [f"model.sequence_length={longest}"]))
    found = refused(plan, name, f"model.sequence_length={longest - 1}")
    assert found.problem == f"{said}, and model.sequence_length={longest - 1}"
    assert found.remedy.startswith(f"set model.sequence_length={longest} or more, or less of {turn}")


@pytest.mark.parametrize("name", NAMES)
def test_a_vocabulary_without_all_marks_is_refused(plan, name):
    found = refused(plan, name, "model.vocab_size=255")
    assert f"model.vocab_size=255 with the task {name}" in found.problem and "model.vocab_size=256" in found.remedy


@pytest.mark.parametrize("name, words, problem, remedy", [
    ("depo", "task.depo.hops=12", "task.depo.hops=12 in a cycle of task.depo.entities=12", "task.depo.hops=11 or less"),
    ("depo", "task.depo.symbols=3 task.depo.word=1", "symbols=3 make 3 words of task.depo.word=1", "more task.depo.symbols"),
    ("brevo", "task.brevo.symbols=19", "task.brevo.symbols=19 for 20 nodes", "task.brevo.symbols=20 or more"),
])  # fmt: skip
def test_keys_that_do_not_go_together_are_refused_with_values_and_remedy(plan, name, words, problem, remedy):
    found = refused(plan, name, *words.split())
    assert problem in found.problem and remedy in found.remedy


@pytest.mark.parametrize("word, remedy", [
    ("task.copy.symbols=129", "choose 8 to 128"), ("task.depo.symbols=65", "choose 1 to 64"),
    ("task.mano.modulus=65", "choose 2 to 64"), ("task.lano.grammars=25", "choose 1 to 24"),
    ("task.ngram.successors=5", "choose 1 to 4"), ("task.brevo.nodes=2", "choose 3 to 64"),
])  # fmt: skip
def test_a_key_out_of_its_range_is_refused_with_the_range(word, remedy):
    with pytest.raises(UserError) as caught:
        compose(["lane=tiny-dense", "unranked=true", word])
    assert caught.value.problem == word and caught.value.remedy == remedy
