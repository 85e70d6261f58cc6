"""Shared 13-word sequences, against the slow way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_tokens import own_cache_fixture  # noqa: F401

from harness.data import document_overlap
from harness.data.document_overlap import HeldOut, search, window_hashes
from harness.data.overlap import clean_mask

words = st.sampled_from(["a", "A", "b", "é", "cc"])
texts = st.lists(st.lists(st.tuples(words, st.sampled_from([" ", "\n", "  "])), max_size=12), max_size=4).map(
    lambda docs: ["".join(w + s for w, s in doc) for doc in docs]
)


def slow(val, train, window):
    """Per byte of each document of val: in no window that some document of train has."""
    masks = []
    for document in val:
        mask = np.ones(len(document.encode()), bool)
        for other in train:
            pair = (np.frombuffer(text.encode(), np.uint8) for text in (other, document))
            mask &= clean_mask(*pair, window)
        masks.append(mask)
    return np.concatenate([np.zeros(0, bool), *masks])


@given(val=texts, train=texts, window=st.sampled_from([1, 2, 3]))
def test_the_mask_is_that_of_a_slow_search_document_by_document(val, train, window):
    held = HeldOut((text.encode() for text in val), window)
    search([held], train)
    assert held.clean_bytes().tolist() == slow(val, train, window).tolist()


def test_equal_hashes_of_unequal_windows_do_not_count(monkeypatch):
    monkeypatch.setattr(document_overlap, "window_hashes", lambda words, n=2: np.zeros(max(len(words) - n + 1, 0), np.uint64))
    held = HeldOut([b"a b c"], 2)
    search([held], ["x y z", "q b c q"])
    assert held.shared.tolist() == [False, True]


def test_hashes_depend_on_the_words_and_their_order():
    found = [int(window_hashes(text.encode().split(), 3)[0]) for text in ("a b c", "a b c", "c b a", "a b d")]
    assert found[0] == found[1] and len(set(found)) == 3


def test_counts_of_test_against_train_and_val_are_kept_with_the_mask(own_cache, monkeypatch):
    run = " ".join(f"w{i}" for i in range(14))
    splits = {"train": ["x " + run, "y"], "val": ["z " + run + " z", run[3:] + " q"]}
    first = document_overlap.clean_bytes({"train": "t"}, splits.__getitem__, ("q " + run).encode())
    assert first[1] == {"val": 6, "val_in_train": 3, "test": 3, "test_in_train": 2, "test_in_val": 2}
    monkeypatch.setattr(document_overlap, "HeldOut", None)
    again = document_overlap.clean_bytes({"train": "t"}, splits.__getitem__, None)
    assert (again[0] == first[0]).all() and again[1] == first[1]
