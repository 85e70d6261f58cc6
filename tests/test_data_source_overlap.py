import sys

import numpy as np
import pytest
from pytest import approx

from harness.data import source_overlap as module
from harness.data.source_overlap import source_overlap
from harness.data.texts.document import Document, joined

WORDS = [b"word%d" % number for number in range(13)]
SENTENCE = b" ".join(WORDS)  # 13 words
OTHER = b" ".join(b"other%d" % number for number in range(40))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path))


def source(train, val):
    return {
        "train": [Document(f"t{number}", text) for number, text in enumerate(train)],
        "val": [Document(f"v{number}", text) for number, text in enumerate(val)],
    }


def test_the_share_is_of_val_of_the_row_in_train_of_the_column():
    tail = b" and something else"
    found = source_overlap({
        "a": source([b"x " + SENTENCE + b" y"], [OTHER]),
        "b": source([OTHER[:30]], [SENTENCE + tail]),
    })  # fmt: skip
    assert found.sources == ["a", "b"]
    assert found.shared_YX == [[0, 0], [approx(len(SENTENCE) / len(SENTENCE + tail)), 0]]


def test_twelve_words_are_no_overlap_and_no_sequence_spans_two_sources():
    twelve, last = b" ".join(WORDS[:12]), WORDS[12]
    found = source_overlap({"a": source([SENTENCE], [twelve]), "b": source([OTHER], [last])})
    assert found.shared_YX == [[0, 0], [0, 0]]


def test_the_same_documents_in_like_words_save_bits_and_other_documents_do_not():
    draws, letters = np.random.default_rng(0), np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    words = [letters[draws.integers(0, 26, 6)].tobytes() for _ in range(2000)]
    said = [b" ".join(words[start : start + 300]) for start in (0, 300, 600)]
    again = [b" ".join(words[start : start + 290] + words[900:910]) for start in (0, 300, 600)]
    others = [b" ".join(words[start : start + 300]) for start in (1000, 1300, 1600)]
    found = source_overlap({"a": source(others, said), "b": source(others, again)})
    assert [found.given_val_YX[n][n] for n in (0, 1)] == [0, 0]
    for y, x in ((0, 1), (1, 0)):
        assert found.given_val_YX[y][x] < 0.5 * found.given_train_YX[y][x]
        assert found.given_train_YX[y][x] == approx(found.alone_Y[y], rel=0.2)


def test_documents_are_counted_and_their_keys_compared():
    a = source([SENTENCE, OTHER], [OTHER])
    assert source_overlap({"a": a, "b": a}).alike
    found = source_overlap({"a": a, "b": source([SENTENCE], [OTHER])})
    assert not found.alike and found.documents == {"a": [2, 1], "b": [1, 1]}


def test_a_second_call_computes_nothing_and_other_bytes_are_computed_anew(monkeypatch):
    sources = {"a": source([SENTENCE], [OTHER]), "b": source([OTHER], [SENTENCE])}
    first, said = source_overlap(sources), []
    monkeypatch.setattr(module, "_shared", None)
    monkeypatch.setattr(module, "_bits", None)
    assert source_overlap(sources, said.append) == first and said == []
    with pytest.raises(TypeError):
        source_overlap(sources | {"b": source([OTHER], [SENTENCE + b"."])})


def test_bits_follow_where_documents_begin_and_words_do_not(monkeypatch):
    first, second, third, fourth = (letter * 100 for letter in (b"a", b"b", b"c", b"d"))
    one = {"a": source([first, second, third, fourth], [OTHER[:202]]), "b": source([OTHER], [SENTENCE])}
    source_overlap(one)
    monkeypatch.setattr(module, "_shared", None)
    monkeypatch.setattr(module, "_bits", lambda before, text: 7.0)
    other = one | {"a": source([first + b"\n\n" + second, third + b"\n\n" + fourth], [OTHER[:202]])}
    assert source_overlap(one).alone_Y != [7, 7]
    assert source_overlap(other).alone_Y == [7, 7]


def test_without_ppmd_words_are_compared_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    found = source_overlap({"a": source([SENTENCE], [OTHER]), "b": source([OTHER], [SENTENCE])})
    assert found.shared_YX == [[0, 1], [1, 0]] and found.alone_Y is found.given_val_YX is found.given_train_YX is None


@pytest.mark.parametrize("size", [1, 700, 5_000, 20_000])
def test_what_stands_for_other_documents_is_as_long_and_from_all_over_train(size):
    documents = [Document(str(number), b"%03d " % number * 50) for number in range(100)]
    found = module._sampled(documents, size)
    assert len(found) == size
    if size == 5_000:
        kept = {int(word) for word in found.split()}
        assert len(kept) >= 20 and min(kept) < 5 and max(kept) > 90
    assert module._sampled(documents[:3], 10_000) == joined(documents[:3])
