import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from harness.data import overlap
from harness.data.corpora.bytes import Corpus

separators = st.sampled_from([b" ", b"\n\n", b" \t", b"\x0b\x0c\r"])
words = st.sampled_from([b"a", b"A", b"b", b"bb", b"\xc3\x89", b"\x1c", b"\x85\xa0"])
texts = st.lists(st.tuples(words, separators), max_size=60).map(lambda pairs: b"".join(w + s for w, s in pairs))


def array(content):
    return np.frombuffer(content, np.uint8)


def slow_mask(train, val, window):
    """Searches every window of val among the windows of train, and finds its bytes by walking over val."""
    train_words = train.lower().split()
    known = {tuple(train_words[i : i + window]) for i in range(len(train_words) - window + 1)}
    spans, position = [], 0
    for word in val.split():
        start = val.index(word, position)
        position = start + len(word)
        spans.append((start, position))
    mask = [True] * len(val)
    val_words = val.lower().split()
    for i in range(len(val_words) - window + 1):
        if tuple(val_words[i : i + window]) in known:
            for byte in range(spans[i][0], spans[i + window - 1][1]):
                mask[byte] = False
    return mask


@given(train=texts, val=texts, window=st.sampled_from([1, 2, 3, 5, 13]))
@example(train=b"", val=b"", window=13)
@example(train=b"", val=b" x ", window=1)
def test_the_mask_equals_a_slow_search(train, val, window):
    assert overlap.clean_mask(array(train), array(val), window).tolist() == slow_mask(train, val, window)


def test_thirteen_shared_words_are_marked_from_first_to_last_byte_and_twelve_are_not():
    thirteen = b"One two three four five six seven eight nine ten eleven twelve thirteen"
    train = b"before " + thirteen.upper().replace(b" ", b"\n") + b" after"
    val = b"new " + thirteen + b" new"
    mask = overlap.clean_mask(array(train), array(val))
    assert bytes(val[i] for i in np.flatnonzero(~mask)) == thirteen
    assert overlap.clean_mask(array(train), array(val.replace(b"One", b"Other"))).all()


def test_a_window_that_straddles_train_and_val_does_not_count():
    words = b" ".join(b"w%d" % i for i in range(20))
    assert overlap.clean_mask(array(words[:30]), array(words[31:])).all()


def test_the_cached_mask_equals_the_computed_one_and_is_computed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path))
    text = b" ".join(b"w%d" % i for i in range(20))
    data = Corpus(array(text), array(b"x " + text + b" y"), {"train": "t", "val": "v"})
    expected = overlap.clean_mask(data.train, data.val)
    assert 0 < expected.sum() < len(expected)
    assert (overlap.clean(data) == expected).all()
    monkeypatch.setattr(overlap, "clean_mask", None)
    again = overlap.clean(data)
    assert again.dtype == bool and (again == expected).all()
