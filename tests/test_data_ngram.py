from collections import Counter, defaultdict
from math import log2
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import corpora, ngram
from harness.plan.schema import Track

few_letters = st.lists(st.sampled_from(b"ab \xff"), min_size=1, max_size=80).map(bytes)
texts = st.one_of(st.binary(min_size=1, max_size=80), few_letters)


def array(content):
    return np.frombuffer(content, np.uint8)


def slow_probability(followers, context, byte):
    """The recursion of the docstring, word for word; `followers[h]` counts the bytes after h in train."""
    shorter = slow_probability(followers, context[1:], byte) if context else 1 / 256
    counts = followers.get(context)
    if not counts:
        return shorter
    return (counts[byte] + len(counts) * shorter) / (sum(counts.values()) + len(counts))


def slow_bits(train, text, longest):
    followers = defaultdict(Counter)
    for i, byte in enumerate(train):
        for k in range(min(i, longest) + 1):
            followers[train[i - k : i]][byte] += 1
    return [-log2(slow_probability(followers, text[max(0, i - longest) : i], text[i])) for i in range(1, len(text))]


@given(train=texts, text=texts, longest=st.integers(0, 6))
def test_bits_equal_a_slow_dictionary_model(train, text, longest):
    np.testing.assert_allclose(ngram.bits(array(train), array(text), longest), slow_bits(train, text, longest), rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(train=texts, context=st.binary(min_size=1, max_size=8))
def test_probabilities_of_all_next_bytes_sum_to_one(train, context):
    last_bits = [ngram.bits(array(train), array(context + bytes([byte])))[-1] for byte in range(256)]
    assert np.exp2(-np.array(last_bits)).sum() == pytest.approx(1, abs=1e-9)


def test_a_model_that_has_read_nothing_gives_eight_bits():
    assert (ngram.bits(array(b""), array(b"any text")) == 8).all()


@pytest.mark.slow
def test_the_track_figures_of_the_7_gram_come_out_of_the_real_text():
    path = Path(__file__).parent.parent / "lanes" / "tracks" / "sotu.yaml"
    track = Track(**yaml.safe_load(path.read_text()))
    data = corpora.load(corpora.Wanted(track))
    bits = ngram.bits(data.train, data.val[: track.slice_bytes])
    assert len(bits) == track.slice_bytes - 1
    assert bits.mean() == pytest.approx(track.lines["ngram7"]["slice"], abs=0.0005)
