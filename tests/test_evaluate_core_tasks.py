"""CORE's files: unpacked whole, checked by name, read as typed tasks in published order."""

import json
import random

import core_bundle
import pytest

from harness.data.cache import cache_folder
from harness.errors import UserError
from harness.evaluate.core import bundle, tasks


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEEDRUN_MIRROR", str(tmp_path / "mirror"))


def unpacked(tmp_path, **changed):
    """The place of a bundle some of whose files are replaced before it is archived."""
    found = core_bundle.files() | changed
    return bundle.folder(core_bundle.archive(tmp_path / "mirror", found))


def tables(**percent):
    found = {task[0]: task[5][0] for task in core_bundle.TASKS} | percent
    return {"eval_meta_data_v1.csv": core_bundle.table({label: value for label, value in found.items() if value is not None})}


def test_a_bundle_reads_as_the_tasks_of_core_yaml_in_its_order(tmp_path):
    found = tasks.load(unpacked(tmp_path))
    assert [(t.label, t.type, t.shots, t.delimiter) for t in found] == [
        ("pick", "multiple_choice", 2, "\nAnswer: "),
        ("pick_zeroshot", "multiple_choice", 0, " "),
        ("resolve", "schema", 1, " "),
        ("finish", "language_modeling", 3, " "),
    ]
    assert [(t.baseline_v1, t.baseline_v2) for t in found] == [(0.4, 0.25), (0.25, 0.25), (0.5, 0.5), (0, 0)]


def test_examples_stand_in_the_order_of_the_published_shuffle(tmp_path):
    pick, _, resolve, finish = tasks.load(unpacked(tmp_path))
    numbers = list(range(9))
    random.Random(1337).shuffle(numbers)
    assert numbers != list(range(9))
    assert [e.options[0] for e in pick.examples] == [(f"Q{i}: what is {i}?", f"the {i}") for i in numbers]
    assert [e.gold for e in pick.examples] == [i % 3 for i in numbers]
    assert all(e.options[0][1] == e.options[1][1] and e.options[0][0] != e.options[1][0] for e in resolve.examples)
    assert sorted(e.options for e in finish.examples)[3] == (("say 3 then", "33"),)  # the context trimmed


def test_a_second_load_unpacks_nothing_and_needs_no_mirror(tmp_path, monkeypatch):
    sha = core_bundle.archive(tmp_path / "mirror", core_bundle.files())
    place = bundle.folder(sha)
    before = place.stat().st_mtime_ns
    monkeypatch.delenv("SPEEDRUN_MIRROR")
    assert bundle.folder(sha) == place and place.stat().st_mtime_ns == before
    assert sha in str(place) and [path.name for path in place.parent.iterdir()] == [sha]


def test_of_two_processes_that_unpack_at_once_the_first_copy_stays(tmp_path):
    place = unpacked(tmp_path)
    before = place.stat().st_ino
    bundle._unpack(tmp_path / "mirror" / bundle.ARCHIVE, place)
    assert place.stat().st_ino == before and [path.name for path in place.parent.iterdir()] == [place.name]


def test_without_a_mirror_the_error_says_to_set_one(monkeypatch):
    monkeypatch.delenv("SPEEDRUN_MIRROR")
    with pytest.raises(UserError, match="SPEEDRUN_MIRROR"):
        bundle.folder()


def test_another_archive_than_the_published_one_is_refused(tmp_path):
    core_bundle.archive(tmp_path / "mirror", core_bundle.files())
    with pytest.raises(UserError, match="wrong sha256"):
        bundle.folder()


@pytest.mark.parametrize("name", ["eval_data/a/pick.jsonl", "core.yaml", "eval_meta_data_v1.csv", "MANIFEST.json"])
def test_missing_and_edited_files_are_named_and_a_fresh_copy_follows_the_remedy(tmp_path, name):
    place = unpacked(tmp_path)
    content = (place / name).read_bytes()
    for damage, words in ((b"?" + content[1:], "was edited: sha256"), (content + b"\n", "was edited"), (None, "is missing")):
        (place / name).unlink(missing_ok=True)
        if damage is not None:
            (place / name).write_bytes(damage)
        with pytest.raises(UserError, match=f"{name} {words}") as caught:
            bundle.folder(place.name)
        assert f"rm -r {place}" in caught.value.remedy
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()
    assert (bundle.folder(place.name) / name).read_bytes() == content


def test_every_bad_file_is_named_at_once_and_an_unlisted_one_too(tmp_path):
    place = unpacked(tmp_path)
    (place / "eval_data/a/pick.jsonl").unlink()
    (place / "eval_data/b/finish.jsonl").write_text("{}")
    (place / "eval_data/b/extra.jsonl").write_text("{}")
    with pytest.raises(UserError) as caught:
        bundle.folder(place.name)
    for words in ("pick.jsonl is missing", "finish.jsonl was edited", "extra.jsonl is not in"):
        assert words in caught.value.problem


def test_an_archive_that_contradicts_its_manifest_leaves_nothing_in_the_cache(tmp_path):
    with pytest.raises(UserError, match="pick.jsonl was edited"):
        unpacked(tmp_path, **{"eval_data/a/pick.jsonl": b"{}\n"})
    assert list((cache_folder() / "core").iterdir()) == []


def test_an_archive_whose_members_lead_outside_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpacked(tmp_path, **{"../../outside.txt": b"x"})
    assert not list(tmp_path.rglob("outside.txt")) and list((cache_folder() / "core").iterdir()) == []


@pytest.mark.parametrize(
    "percent, words",
    [
        ({"resolve": None}, "resolve has no random baseline in eval_meta_data_v1.csv"),
        ({"resolve": ""}, "the random baseline of resolve is ''"),
        ({"resolve": "100"}, "must be in"),
    ],
)
def test_a_missing_or_impossible_baseline_is_an_error(tmp_path, percent, words):
    place = unpacked(tmp_path, **tables(**percent))
    with pytest.raises(UserError, match=words):
        tasks.load(place)


@pytest.mark.parametrize(
    "row",
    [
        {"query": "q", "choices": ["a", "b"]},
        {"query": "q", "choices": ["a", "b"], "gold": 2},
        {"query": "q", "choices": ["a", 3], "gold": 0},
        {"query": "q", "choices": [], "gold": 0},
    ],
)
def test_an_example_that_cannot_be_scored_is_an_error_with_its_line(tmp_path, row):
    found = core_bundle.files()
    found["eval_data/a/pick.jsonl"] += json.dumps(row).encode() + b"\n"
    found["MANIFEST.json"] = core_bundle.manifest(found)
    place = bundle.folder(core_bundle.archive(tmp_path / "mirror", found))
    with pytest.raises(UserError, match="pick.jsonl line 10"):
        tasks.load(place)
