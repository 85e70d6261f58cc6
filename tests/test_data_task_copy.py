"""`copy`: what is copied, where it stands, and what is drawn how often."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_cases import anything, made, tokens_of

from harness.data.vocabulary import ANSWER, QUERY, begin


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 12), gap=st.integers(0, 20), symbols=st.integers(8, 128), seed=st.integers(0, 99))
def test_the_answer_is_what_stands_between_the_mark_and_the_gap(length, gap, symbols, seed):
    task = made("copy", f"length={length} gap={gap} symbols={symbols}")
    for difficulty in (None, *task.trained, *task.beyond):
        (instance,) = anything(task, 1, difficulty, seed)
        tokens = tokens_of(instance)
        query, answer = tokens.index(QUERY), tokens.index(ANSWER)
        assert tokens[0] == begin("copy") and tokens[1:query] == tokens[answer + 1 :] and query - 1 == instance.difficulty
        assert answer - query - 1 <= gap and max(tokens[1:query]) < symbols
        assert np.flatnonzero(instance.answer_N).tolist() == list(range(answer + 1, len(tokens)))
        assert [tokens[at] for at in instance.source_N[answer + 1 :]] == tokens[answer + 1 :]


def test_lengths_gaps_and_symbols_are_each_as_often():
    found = [tokens_of(one) for one in anything(made("copy", "length=4 gap=3 symbols=8"), 4000)]
    lengths = Counter(tokens.index(QUERY) - 1 for tokens in found)
    gaps = Counter(tokens.index(ANSWER) - tokens.index(QUERY) - 1 for tokens in found)
    symbols = Counter(token for tokens in found for token in tokens if token < 8)
    for counts, kinds in ((lengths, 4), (gaps, 4), (symbols, 8)):
        assert len(counts) == kinds
        assert all(count / counts.total() == pytest.approx(1 / kinds, rel=0.12) for count in counts.values())
