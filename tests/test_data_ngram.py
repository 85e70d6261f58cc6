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


@given(
    train=st.lists(st.integers(0, 65535), max_size=60), text=st.lists(st.sampled_from([0, 7, 65535]), min_size=1, max_size=40)
)
def test_bits_of_tokens_equal_those_of_a_model_whose_symbols_are_tokens(train, text):
    few = ngram.Symbols(256, 8, 3)
    small = [sorted({*train, *text}).index(token) for token in (*train, *text)]
    by_byte = ngram.bits(np.array(small[: len(train)], np.uint8), np.array(small[len(train) :], np.uint8), of=few)
    by_token = ngram.bits(np.array(train, np.uint16), np.array(text, np.uint16), of=few._replace(width=16))
    np.testing.assert_allclose(by_token, by_byte, rtol=1e-12)  # the same counts, whatever the symbols are called
    for of in (ngram.TOKENS, ngram.BYTES):
        assert of.width * (of.longest + 1) <= 64


def test_a_model_of_tokens_that_has_read_nothing_is_uniform():
    bits = ngram.bits(np.zeros(0, np.uint16), np.array([5, 6, 7], np.uint16), of=ngram.TOKENS)
    assert bits.tolist() == [log2(50257)] * 2


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
