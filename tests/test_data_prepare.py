import hashlib

import micro
import pytest

from harness.data import corpora, lines
from harness.data.cache import cache_folder
from harness.data.prepare import prepare
from harness.data.texts import READERS, Reader
from harness.data.texts.document import Document, Text
from harness.errors import UserError
from harness.plan.lanes import read_track
from harness.plan.schema import Line, Track

SHARED = b" ".join(b"shared%d" % i for i in range(13))
TRAIN = SHARED + b" " + b" ".join(b"train%d" % i for i in range(300))
VAL = b" ".join(b"val%d" % i for i in range(100)) + b" " + SHARED


@pytest.fixture
def track(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path))
    text = Text((Document("train", TRAIN),), (Document("val", VAL),))
    monkeypatch.setitem(READERS, "small", Reader(lambda source: text, lambda source: "restore it"))
    sha = {split: hashlib.sha256(text).hexdigest() for split, text in (("train", TRAIN), ("val", VAL))}
    track = Track("small", "small", "1", len(TRAIN), sha["train"], len(VAL), sha["val"], 100, {}, "ngram7")
    track.lines = {line_id: Line(line_id, 0, 0) for line_id in ("ngram7", "xz_alone")}
    for line_id, pair in lines.recompute(track, corpora.load(corpora.Wanted(track))).items():
        track.lines[line_id] = Line(line_id, *(round(figure, 4) for figure in pair))
    return track


def test_the_report_holds_sizes_hashes_lines_and_clean_shares(track):
    report = prepare(corpora.Wanted(track))
    assert report.sizes == {"train": len(TRAIN), "val": len(VAL), "slice": 100}
    assert report.hashes == {"train": track.train_sha256, "val": track.val_sha256}
    assert [line.id for line in report.lines] == ["ngram7", "xz_alone"]
    for line in report.lines:
        assert line.recomputed == pytest.approx((line.stated.slice, line.stated.val), abs=0.0001)
    assert report.clean_share == {"val": pytest.approx(1 - len(SHARED) / len(VAL)), "slice": 1}
    assert set(report.seconds) == {"load", "lines", "overlap"}


@pytest.mark.slow
def test_the_lines_of_a_real_track_are_those_that_its_data_give():
    """Half a minute where the cache is empty: every run of `tiny` waits for it then."""
    micro.prepared(cache_folder())
    assert {line.id for line in prepare(corpora.Wanted(read_track("tiny"))).lines if line.recomputed} >= {
        "xz_alone",
        "xz_given_train",
        "ngram7",
    }


def test_a_second_call_computes_nothing(track, monkeypatch):
    first, said = prepare(corpora.Wanted(track)), []
    monkeypatch.setattr(lines, "METHODS", dict.fromkeys(lines.METHODS))
    monkeypatch.setattr("harness.data.overlap.clean_mask", None)
    again = prepare(corpora.Wanted(track), said.append)
    assert said == [] and again.lines == first.lines and again.clean_share == first.clean_share


def test_a_stated_line_that_the_data_does_not_give_is_an_error(track):
    track.lines["ngram7"].val += 0.002
    with pytest.raises(UserError, match="line ngram7 of track small, val: stated"):
        prepare(corpora.Wanted(track))
