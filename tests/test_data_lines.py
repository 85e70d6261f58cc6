import lzma
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from harness.data import corpora, lines, ngram
from harness.data.corpora.bytes import Corpus
from harness.errors import UserError
from harness.plan.schema import Line, Track

TRAIN = b" ".join(b"the %dth word of a %dth line" % (i, i * i % 97) for i in range(600))
VAL = b" ".join(b"the %dth word of a %dth line" % (i, i * i % 89) for i in range(600, 700))
SLICE = 500


def array(content):
    return np.frombuffer(content, np.uint8)


def small_track(**stated):
    return Track(name="small", slice_bytes=SLICE, lines={line_id: Line(line_id, *pair) for line_id, pair in stated.items()})


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path))
    return Corpus(array(TRAIN), array(VAL), {"train": "t", "val": "v"})


def xz(content):
    return len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))


def ppmd(content):
    import pyppmd

    encoder = pyppmd.Ppmd7Encoder(lines.PPMD_ORDER, lines.PPMD_MEMORY_BYTES)
    return len(encoder.encode(content)) + len(encoder.flush())


def test_xz_lines_are_those_of_whole_compressed_files(data):
    found = lines.recompute(small_track(xz_alone=(0, 0), xz_given_train=(0, 0)), data)
    texts = (VAL[:SLICE], VAL)
    assert found["xz_alone"] == tuple(8 * xz(text) / len(text) for text in texts)
    assert found["xz_given_train"] == tuple(8 * (xz(TRAIN + text) - xz(TRAIN)) / len(text) for text in texts)


def test_ppmd_given_train_gains_from_train(data):
    pytest.importorskip("pyppmd")
    pair = lines.ppmd_given_train(data.train, data.val, SLICE)
    assert pair[1] == 8 * (ppmd(TRAIN + VAL) - ppmd(TRAIN)) / len(VAL)
    assert 0 < pair[1] < 8 * ppmd(VAL) / len(VAL)


def test_the_7_gram_line_is_the_mean_over_all_bytes_but_the_first(data):
    found = lines.recompute(small_track(ngram7=(0, 0)), data)["ngram7"]
    assert found[0] == pytest.approx(ngram.bits(data.train, array(VAL[:SLICE])).mean(), abs=1e-12)
    assert found[1] == pytest.approx(ngram.bits(data.train, data.val).mean(), abs=1e-12)


def test_the_line_of_tokens_is_bits_over_the_bytes_of_tokens_that_have_some(tmp_path, monkeypatch):
    """End-of-text has no bytes and is not scored, as it is with models; training's stream has it before each document."""
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path))
    rng, end = np.random.default_rng(1), 5
    train, val = rng.integers(0, 5, 400).astype(np.uint16), np.array([end, 1, 2, end, 3, 1, 1, end, 0, 2], np.uint16)
    stream = np.insert(train, [0, 100, 250], end)
    documents = SimpleNamespace(stream=lambda token: stream if token == end else None)
    corpus = SimpleNamespace(
        tokenizer=SimpleNamespace(end_of_text=end), train_documents=documents, val=val, hashes={"train": "t", "val": "v"},
        token_bytes=np.array([1, 2, 3, 4, 5, 0]),
    )  # fmt: skip
    track = Track(name="small", lines={"ngram3_tokens": Line("3-gram", 0, 0)})
    track.tokens.tokenizer, track.tokens.slice_tokens = "gpt2", 6
    bits, bytes_of = ngram.bits(stream, val, of=ngram.TOKENS), corpus.token_bytes
    scored = [i for i in range(1, len(val)) if val[i] != end]
    expected = [sum(bits[i - 1] for i in some) / sum(bytes_of[val[i]] for i in some) for some in (
        [i for i in scored if i < 6], scored)]  # fmt: skip
    assert lines.recompute(track, corpus)["ngram3_tokens"] == pytest.approx(expected, rel=1e-12)
    track.lines = {"ngram7": Line("7-gram", 0, 0)}
    with pytest.raises(UserError, match="of no known method"):
        lines.recompute(track, corpus)


def test_a_copy_of_the_process_that_ends_early_is_explained():
    with pytest.raises(UserError, match="ended early"):
        lines._forked(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_lines_are_computed_once_per_data(data, monkeypatch):
    track, said = small_track(xz_alone=(0, 0)), []
    first = lines.recompute(track, data, said.append)
    assert len(said) == 1
    assert lines.recompute(track, data, said.append) == first and len(said) == 1
    lines.recompute(track, Corpus(data.train, data.val, {"train": "t", "val": "other"}), said.append)
    assert len(said) == 2


def test_without_pyppmd_its_line_is_left_out_and_said(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    said = []
    found = lines.recompute(small_track(xz_alone=(0, 0), ppmd_given_train=(0, 0)), data, said.append)
    assert set(found) == {"xz_alone"}
    assert "pip install pyppmd" in said[-1]


def test_a_line_of_no_known_method_names_the_nearest(data):
    with pytest.raises(UserError, match="did you mean ngram7"):
        lines.recompute(small_track(ngram=(0, 0)), data)


@pytest.mark.parametrize("where, found", [("slice", (1.5012, 1.6)), ("val", (1.5, 1.5988)), ("val", (1.5, float("nan")))])
def test_a_line_beyond_the_tolerance_names_line_stated_and_found(where, found):
    track = small_track(ngram7=(1.5, 1.6))
    lines.check(track, {"ngram7": (1.5009, 1.5991)})
    with pytest.raises(UserError) as error:
        lines.check(track, {"ngram7": found})
    stated = {"slice": 1.5, "val": 1.6}[where]
    for part in ("ngram7", where, f"stated {stated:.4f}", f"found {found[where == 'val']:.4f}"):
        assert part in error.value.problem


def test_the_track_figures_of_xz_alone_come_out_of_the_real_text():
    path = Path(__file__).parent.parent / "lanes" / "tracks" / "sotu.yaml"
    track = Track(**yaml.safe_load(path.read_text()))
    data = corpora.load(corpora.Wanted(track))
    found = lines.xz_alone(data.train, data.val, track.slice_bytes)
    stated = track.lines["xz_alone"]
    assert found == pytest.approx((stated["slice"], stated["val"]), abs=0.00005)
