"""Files of the hub: right or named, and nothing half-written."""

import hashlib
import time
from importlib import import_module
from types import SimpleNamespace

import huggingface_hub.constants
import numpy as np
import pyarrow
import pytest
from hub_server import REVISION, Hub
from pyarrow.parquet import write_table
from small_tokens import own_cache_fixture  # noqa: F401

from harness.data import hub
from harness.data.corpora import Wanted, load
from harness.data.shards import write_shards
from harness.errors import UserError
from harness.plan.lanes import read_track
from harness.plan.schema import File

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()
WHERE = f"some/data@{REVISION}"


@pytest.fixture(name="server")
def server_fixture(own_cache, monkeypatch):
    server = Hub({"a/x.bin": CONTENT})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    impatient = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})  # between the library's own retries
    for name in ("file_download", "utils._http"):
        monkeypatch.setattr(import_module(f"huggingface_hub.{name}"), "time", impatient)
    yield server
    server.server.shutdown()


def left(own_cache):
    """Every file of the hub's part of the cache with content, other than what is told to be bad."""
    files = [path for path in (own_cache / "cache/hub").rglob("*") if path.is_file() and path.stat().st_size]
    return [path.name for path in files if ".cache" not in path.parts and path.suffix != ".bad"]


@pytest.mark.parametrize("stated", ["", SHA])
def test_a_file_is_fetched_once_and_its_hash_noted(server, own_cache, stated):
    for _ in range(2):
        found = hub.fetch(WHERE, "a/x.bin", stated)
        assert found.path.read_bytes() == CONTENT and found.sha256 == SHA
    assert server.got == ["a/x.bin"] and sorted(left(own_cache)) == ["x.bin", "x.bin.sha256"]


def test_afterwards_no_hub_is_needed(server):
    hub.fetch(WHERE, "a/x.bin")
    server.behave = "none"
    assert hub.fetch(WHERE, "a/x.bin").path.read_bytes() == CONTENT


@pytest.mark.slow
@pytest.mark.parametrize("behave, problem", [
    ("slow", "cannot fetch a/x.bin of some/data from the hub: ReadTimeout"),
    ("cut", "cannot fetch a/x.bin of some/data from the hub"),
    ("none", "cannot fetch a/x.bin of some/data from the hub: .*NotFound"),
    ("lie", "a/x.bin from the hub .* has the wrong sha256: expected"),
    ("silent", "states no sha256 of a/x.bin"),
])  # fmt: skip
def test_a_hub_that_fails_is_named_and_leaves_nothing(server, own_cache, behave, problem):
    server.behave = behave
    with pytest.raises(UserError, match=problem):
        hub.fetch(WHERE, "a/x.bin")
    assert left(own_cache) == [] and not list((own_cache / "cache/hub").rglob("*.incomplete"))
    server.behave = "well"
    assert hub.fetch(WHERE, "a/x.bin").path.read_bytes() == CONTENT


def test_no_hub_at_all_names_a_lane_that_needs_none(own_cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="LANE=tiny-moe-16e"):
        hub.fetch(WHERE, "a/x.bin")


def test_a_file_that_was_damaged_later_is_set_aside_and_fetched_again(server):
    path = hub.fetch(WHERE, "a/x.bin").path
    path.write_bytes(b"damaged")
    assert hub.fetch(WHERE, "a/x.bin").path.read_bytes() == CONTENT
    assert path.with_name("x.bin.bad").read_bytes() == b"damaged"


def test_a_mirror_is_asked_before_the_hub_and_checked_alike(server, own_cache):
    mirrored = own_cache / "mirror/a/x.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(b"other")
    with pytest.raises(UserError, match="a/x.bin from .*mirror/a/x.bin has the wrong sha256"):
        hub.fetch(WHERE, "a/x.bin", SHA)
    mirrored.write_bytes(CONTENT)
    assert hub.fetch(WHERE, "a/x.bin", SHA).path.read_bytes() == CONTENT
    assert server.got == []


def test_a_name_with_a_range_stands_for_many():
    assert hub.expand("x_{000009..000011}.bin") == ["x_000009.bin", "x_000010.bin", "x_000011.bin"]
    assert hub.expand("x.bin") == ["x.bin"]
    assert sum(len(hub.expand(f.name)) for f in read_track("fineweb").tokens.files) == 104


def test_only_as_many_files_are_fetched_as_a_budget_reads(server, own_cache, tmp_path):
    for name in ("t", "val"):
        for path in write_shards(tmp_path / "made", name, [np.arange(250, dtype=np.uint16)], 50):
            server.files[path.name] = path.read_bytes()
    track = read_track("fineweb")
    track.tokens.hub = WHERE
    track.tokens.files = [File("train", "t_{000000..000004}.bin"), File("val", "val_000000.bin")]
    for budget, files in ((49, 1), (50, 2), (120, 3), (0, 5), (9999, 5)):
        assert len(load(Wanted(track, budget_tokens=budget)).train.parts) == files


def test_wikitext_is_articles_of_parquet_files_known_by_the_hubs_hashes(server, own_cache, tmp_path):
    articles = [[" = One = \n", " the thin tooth \n"], [" = Two = \n", "", " in then \n"], [" = Three = \n", " ink \n"]]
    for name, rows in (("train.parquet", articles[0] + articles[1]), ("val.parquet", articles[2])):
        write_table(pyarrow.table({"text": rows}), tmp_path / name)
        server.files[name] = (tmp_path / name).read_bytes()
    track = read_track("wikitext")
    track.tokens.hub = WHERE
    track.tokens.files = [File("train", "train.parquet"), File("val", "val.parquet")]
    found, got = load(Wanted(track)), len(server.got)
    assert len(found.train_documents) == 2 and found.facts()["train_bytes"] == sum(len(t) for a in articles[:2] for t in a)
    assert found.facts()["val_bytes"] == sum(map(len, articles[2]))
    assert all(len(value) == 64 for value in found.hashes.values()) and found.hashes["train"] != found.hashes["val"]
    assert load(Wanted(track)).hashes == found.hashes and len(server.got) == got
