"""`mano` against a reader of prefix expressions that works from the right."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_cases import anything, made, tokens_of

from harness.data.instances import NONE
from harness.data.vocabulary import ANSWER, NUMBERS, OPERATORS

PLUS, MINUS, TIMES = OPERATORS
MEANING = {PLUS: lambda a, b: a + b, MINUS: lambda a, b: a - b, TIMES: lambda a, b: a * b}


def read(tokens, modulus):
    """[(start, end, operations, value)] of every subexpression, the whole one last."""
    stack, found = [], []
    for at in range(len(tokens) - 1, -1, -1):
        if tokens[at] in MEANING:
            a, b = stack.pop(), stack.pop()
            stack.append((at, b[1], a[2] + b[2] + 1, MEANING[tokens[at]](a[3], b[3]) % modulus))
        else:
            stack.append((at, at + 1, 0, tokens[at] - NUMBERS))
        found.append(stack[-1])
    assert len(stack) == 1
    return found


@settings(max_examples=40, deadline=None)
@given(operations=st.integers(1, 9), modulus=st.integers(2, 64), seed=st.integers(0, 99))
def test_the_answer_is_the_value_and_the_state_that_of_the_longest_expression_just_closed(operations, modulus, seed):
    task = made("mano", f"operations={operations} modulus={modulus}")
    for difficulty in (None, *task.trained, *task.beyond):
        (instance,) = anything(task, 1, difficulty, seed)
        tokens = tokens_of(instance)
        assert tokens[-2] == ANSWER and np.flatnonzero(instance.answer_N).tolist() == [len(tokens) - 1]
        parts = read(tokens[1:-2], modulus)
        start, end, count, value = parts[-1]
        assert (start, end, count) == (0, len(tokens) - 3, instance.difficulty) and tokens[-1] == NUMBERS + value
        latent_N = np.full(len(tokens), NONE)
        for _, end, count, value in parts:  # of those that end together the longest comes last
            if count:
                latent_N[end] = value
        np.testing.assert_array_equal(instance.latent_N, latent_N)
        assert (instance.source_N == NONE).all()


def test_splits_operators_leaves_and_lengths_are_each_as_often():
    found = [tokens_of(one)[1:-2] for one in anything(made("mano", "operations=4 modulus=5"), 6000)]
    lengths = Counter(len(tokens) // 2 for tokens in found)
    operators = Counter(token for tokens in found for token in tokens if token in OPERATORS)
    leaves = Counter(token for tokens in found for token in tokens if token >= NUMBERS)
    left = Counter(
        next(count for start, _, count, _ in read(tokens, 5)[::-1] if start == 1) for tokens in found if len(tokens) == 9
    )
    for counts, kinds in ((lengths, 4), (operators, 3), (leaves, 5), (left, 4)):
        assert len(counts) == kinds
        assert all(count / counts.total() == pytest.approx(1 / kinds, rel=0.1) for count in counts.values())


@pytest.mark.parametrize("words", ["", "operations=1 modulus=2", "operations=3 modulus=6"])
def test_a_guesser_is_right_as_often_as_the_likeliest_value_comes_up(words):
    task = made("mano", words)
    values = Counter(tokens_of(one)[-1] for one in anything(task, 6000, task.trained[-1]))
    assert values.most_common(1)[0][0] == NUMBERS
    assert values[NUMBERS] / 6000 == pytest.approx(task.guess, abs=4 * np.sqrt(task.guess / 6000))


def test_the_question_is_the_expression():
    by_expression = {}
    for instance in anything(made("mano", "operations=1 modulus=3"), 500):
        by_expression.setdefault(tuple(tokens_of(instance)), set()).add(instance.question)
    assert len(by_expression) == 27 == len(set().union(*by_expression.values()))
