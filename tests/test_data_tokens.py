"""Documents become token files: exactly, once, and never half."""

import hashlib
import json

import numpy as np
import pyarrow
import pytest
from pyarrow.parquet import write_table
from small_tokens import END, documents, own_cache_fixture, small_tokenizer, small_track, write_jsonl  # noqa: F401

from harness.data import corpora, text_files, token_files
from harness.data.corpora import Wanted, load
from harness.data.overlap import clean_mask
from harness.data.prepare import prepare
from harness.errors import UserError

TRAIN = [documents(1, 30), documents(2, 20)]
VAL = [*documents(3, 6), TRAIN[0][0] + TRAIN[0][1]]


@pytest.fixture(name="track")
def track_fixture(own_cache):
    return small_track(own_cache / "mirror", TRAIN, VAL)


def decode(tokens):
    return small_tokenizer().decode(tokens.tolist())


def test_every_document_is_there_token_by_token(track):
    found = load(Wanted(track))
    texts = [text for part in TRAIN for text in part]
    offsets = found.train_documents.offsets
    assert [decode(found.train.read(a, b)) for a, b in zip(offsets, offsets[1:])] == texts
    assert found.train_length == len(found.train) + len(texts)


def test_val_is_a_stream_with_end_of_text_before_each_document(track):
    val = load(Wanted(track)).val
    starts = np.flatnonzero(val == END)
    assert starts[0] == 0
    assert [decode(part[1:]) for part in np.split(val, starts[1:])] == VAL
    assert load(Wanted(track)).token_bytes[val].sum() == sum(len(text.encode()) for text in VAL)


def test_tokens_are_memory_mapped(track):
    assert all(isinstance(part.base, np.memmap) or isinstance(part, np.memmap) for part in load(Wanted(track)).train.parts)


def test_a_second_call_reads_and_tokenizes_nothing(track, monkeypatch):
    prepare(Wanted(track))
    monkeypatch.setattr(text_files, "READERS", {})
    monkeypatch.setattr(token_files, "_encoded", None)
    said = []
    assert prepare(Wanted(track), said.append).sizes["val"] == len(load(Wanted(track)).val)
    assert not [sentence for sentence in said if "tokeniz" in sentence]


def test_tokenizing_goes_on_after_the_last_finished_file(track, monkeypatch):
    read, calls = text_files.jsonl, []

    def breaks(path, text_sha256):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(path, text_sha256)

    monkeypatch.setitem(text_files.READERS, "jsonl", breaks)
    with pytest.raises(KeyboardInterrupt):
        load(Wanted(track))
    load(Wanted(track))
    assert len(calls) == 4 and len(set(calls)) == 3  # of three files only the one that broke off was read twice


@pytest.mark.parametrize("damage", [lambda b: b[:-2], lambda b: b[:-1] + b"x", lambda b: b"", lambda b: b"no" + b[2:]])
def test_a_damaged_token_file_is_set_aside_and_made_again(track, own_cache, damage):
    whole = load(Wanted(track)).train.read(0, 50).copy()
    (own,) = [path for path in (own_cache / "cache/tokens").glob("*.tokens") if b"train-0" in path.read_bytes()]
    own.write_bytes(damage(own.read_bytes()))
    assert load(Wanted(track)).train.read(0, 50).tolist() == whole.tolist()
    assert own.with_name(own.name + ".bad").exists()


def test_another_tokenizer_or_text_makes_another_token_file():
    tokenizer = small_tokenizer()
    names = [token_files.path_of(text, reader, tokenizer) for text, reader in (("a", "x"), ("b", "x"), ("a", "y"))]
    assert len(set(names)) == 3


def test_text_of_another_hash_is_refused_and_leaves_no_token_file(track, own_cache):
    track.tokens.files[0].text_sha256 = "0" * 64
    with pytest.raises(UserError, match="has the wrong sha256: expected 000"):
        load(Wanted(track))
    assert not list((own_cache / "cache/tokens").glob("*"))


def test_a_track_that_states_other_sizes_is_refused(track):
    track.tokens.val_tokens = 5
    with pytest.raises(UserError, match="val of track wiki has .* tokens, the track states 5"):
        load(Wanted(track))


@pytest.mark.parametrize("line, found", [(b"no json", "line 2"), (b'{"id": 1}', "KeyError"), (b"[1]", "TypeError")])
def test_a_line_that_is_no_document_is_named(tmp_path, line, found):
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps({"text": "a"}).encode() + b"\n" + line + b"\n")
    with pytest.raises(UserError, match=found):
        list(text_files.jsonl(path))


def test_a_truncated_archive_is_named(tmp_path):
    path = tmp_path / "x.jsonl.xz"
    write_jsonl(path, documents(1, 200))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="x.jsonl.xz is no whole .xz file"):
        list(text_files.jsonl(path))


def test_missing_data_names_the_file_and_a_lane_that_needs_none(track, own_cache, monkeypatch):
    (own_cache / "mirror/text/val.jsonl.xz").unlink()

    def offline(files, progress=None):
        raise UserError("cannot read the archive", "LANE=tiny-moe-16e")

    monkeypatch.setattr("harness.data.corpora.documents.REBUILDERS", {"enwiki2015": (lambda file: own_cache / "none", offline)})
    with pytest.raises(UserError) as error:
        load(Wanted(track))
    assert all(part in str(error.value) for part in ("text/val.jsonl.xz", "cannot read the archive", "LANE=tiny-moe-16e"))


def test_the_report_tells_what_val_shares_with_train(track):
    report = prepare(Wanted(track))
    train = np.frombuffer(b"\n".join(text.encode() for part in TRAIN for text in part), np.uint8)
    assert report.unit == "tokens" and report.sizes["slice"] == 150
    assert "13-word sequences of val are in train" in report.facts["overlap"]
    assert 0 < report.clean_share["val"] < 1 and clean_mask(train, np.frombuffer(VAL[-1].encode(), np.uint8)).mean() < 1


def test_parquet_rows_are_lines_and_a_top_level_heading_begins_an_article(tmp_path):
    first = ["", " = One = \n", "", " a b \n", " = = Section = = \n", " c \n"]
    second = [" = Two = \n", " d \n"]
    write_table(pyarrow.table({"text": [*first, *second]}), tmp_path / "x.parquet")
    assert list(text_files.parquet(tmp_path / "x.parquet")) == ["".join(first), "".join(second)]
    (tmp_path / "y.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="y.parquet is no parquet file"):
        list(text_files.parquet(tmp_path / "y.parquet"))


def test_hashes_of_small_files_are_those_of_the_track(track):
    assert corpora.load(track).hashes == {"train": track.train_sha256, "val": track.val_sha256}
    assert (
        track.tokens.files[0].text_sha256
        == hashlib.sha256(
            b"".join(json.dumps({"id": i, "text": t}, ensure_ascii=False).encode() + b"\n" for i, t in enumerate(TRAIN[0]))
        ).hexdigest()
    )
