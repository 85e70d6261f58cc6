"""Token files of published speedruns: read with suspicion, written whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokens import END, documents, own_cache_fixture, small_tokenizer, small_track  # noqa: F401

from harness.data.corpora import Wanted, load
from harness.data.shards import MAGIC, find_shards, read_shard, write_shards
from harness.errors import UserError
from harness.plan.lanes import read_track
from harness.plan.schema import Data
from harness.verbs.prepare import main as prepare_verb

TOKENS = np.arange(50, dtype=np.uint16)


def header(magic=MAGIC, version=1, count=50):
    head = np.zeros(256, "<i4")
    head[:3] = magic, version, count
    return head.tobytes()


def test_the_format_is_the_published_one(tmp_path):
    (path,) = write_shards(tmp_path, "x_train", [TOKENS])
    assert path.name == "x_train_000000.bin" and path.read_bytes() == header() + TOKENS.astype("<u2").tobytes()
    found = read_shard(path)
    assert isinstance(found, np.memmap) and found.dtype == np.uint16 and found.tolist() == TOKENS.tolist()


@pytest.mark.parametrize("content, problem", [
    (b"", "is no token file: it is empty"),
    (b"PK\x03\x04" * 300, "is no token file: it begins with"),
    (header()[:500], "is no token file"),
    (header(version=2) + bytes(100), "has version 2 of the token format"),
    (header() + bytes(98), "is truncated: its header states 50 tokens, it holds 49"),
    (header() + bytes(99), "is truncated: its header states 50 tokens, it holds 49.5"),
    (header() + bytes(102), "is longer than it says"),
    (header(count=0), "holds no tokens"),
])  # fmt: skip
def test_a_foreign_or_truncated_file_is_named(tmp_path, content, problem):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(UserError, match=f"x.bin {problem}"):
        read_shard(tmp_path / "x.bin")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read .*x.bin"):
        read_shard(tmp_path / "x.bin")


@given(pieces=st.lists(st.lists(st.integers(0, 9), max_size=7), min_size=1, max_size=9), size=st.integers(1, 8))
def test_a_stream_is_cut_into_whole_shards_and_a_rest(tmp_path_factory, pieces, size):
    folder, whole = tmp_path_factory.mktemp("shards"), [token for piece in pieces for token in piece]
    paths = write_shards(folder, "x", (np.array(piece, np.uint16) for piece in pieces), size)
    found = [read_shard(path).tolist() for path in paths]
    assert [token for part in found for token in part] == whole
    assert all(len(part) == size for part in found[:-1])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file"):
        write_shards(tmp_path / "file", "x", [TOKENS])


def test_files_with_val_in_their_name_are_val(tmp_path):
    for name in ("b_train", "a_train"):
        write_shards(tmp_path, name, [TOKENS])
    with pytest.raises(UserError, match="names 2 files, none of them of val"):
        find_shards(str(tmp_path))
    write_shards(tmp_path, "x_val", [TOKENS])
    for where in (str(tmp_path), f"{tmp_path}/*.bin"):
        train, val = find_shards(where)
        assert [p.name for p in train] == ["a_train_000000.bin", "b_train_000000.bin"]
        assert [p.name for p in val] == ["x_val_000000.bin"]


@pytest.fixture(name="written")
def written_fixture(own_cache, monkeypatch):
    """Folder of a small wiki track written as token files, and that track."""
    track = small_track(own_cache / "mirror", [documents(1, 30)], documents(3, 6))
    monkeypatch.setattr("harness.plan.lanes.read_track", lambda name: track)
    assert prepare_verb(["wiki", "--as-bin", str(own_cache / "bin"), "--tokens", "0"]) == 0
    return own_cache / "bin", track


def test_a_track_written_as_token_files_is_the_stream_of_its_documents(written, capsys):
    folder, track = written
    documents_, stream = load(Wanted(track)), load(Wanted(read_track("fineweb"), Data(str(folder))))
    assert stream.val.tolist() == documents_.val.tolist()
    expected = documents_.train_documents.stream(END)
    assert stream.train.read(0, len(stream.train)).tolist() == expected.tolist() and expected[0] == END
    assert stream.facts()["val_bytes"] == documents_.facts()["val_bytes"]
    assert stream.examine()[0] is None


def test_val_is_the_first_part_of_a_longer_file(written):
    folder, _ = written
    track = read_track("fineweb")
    track.tokens.val_tokens = 40
    assert len(load(Wanted(track, Data(str(folder)))).val) == 40
