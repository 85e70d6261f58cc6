"""The grammar of a verb's own words: every way to write one, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.launch.options import FOLDER, PATH, SEEDS, SWITCH, TEXT, Names, Word, Words, choice, number, several, whole

OWN = (
    Word("rounds", whole(1), 9), Word("seeds", SEEDS), Word("out", PATH), Word("max-heat", number(0), 0.5),
    Word("set", choice("gpu", "cpu")), Word("note", TEXT), Word("all", SWITCH, False, other="-a"), Word("val", TEXT, alone=""),
    Word("shape", whole(), every=True), Word("only", several(choice("a", "b"), "some of a, b")),
)  # fmt: skip
RUNS = Names("run folder", FOLDER, remedy="name a run")
PLAIN, PLANNED = Words("look", *OWN, names=RUNS), Words("look", *OWN, plan=True)


def refused(words, *arguments) -> str:
    with pytest.raises(UserError) as error:
        words.read(arguments)
    assert error.value.remedy
    return str(error.value)


@pytest.mark.parametrize("words", [["rounds=3"], ["--rounds", "3"], ["--rounds=3"], ["rounds=2", "--rounds", "3"]])
def test_a_word_is_read_however_it_is_written_and_the_last_one_counts(words):
    assert PLAIN.read(words).rounds == 3


def test_kinds_make_values_and_what_is_not_said_has_its_default():
    found = PLAIN.read(
        ["seeds=3,1", "--out=runs/x", "max-heat=0.25", "set=cpu", "--note", "- a b", "shape=1", "shape=2", "-a", "."]
    )
    assert (found.seeds, found.out, found.max_heat, found.set, found.note) == ([3, 1], Path("runs/x"), 0.25, "cpu", "- a b")
    assert (found.shape, found.all, found.names, found.val) == ([1, 2], True, [Path(".")], None)
    left = PLAIN.read([])
    assert (left.rounds, left.seeds, left.all, left.shape, left.names, left.plan) == (9, None, False, [], [], [])


def test_a_word_that_may_stand_alone_takes_what_follows_unless_that_is_a_word_too():
    assert PLAIN.read(["--val"]).val == "" and PLAIN.read(["--val", "--all"]).val == ""
    both = PLAIN.read(["--val", "rounds=3"])
    assert (both.val, both.rounds) == ("", 3)
    assert PLAIN.read(["--val", "wiki"]).val == "wiki"


def test_what_is_not_its_own_is_the_plans_or_a_name():
    found = PLANNED.read(["lane=x", "+optim.lr=1", "rounds=3", "~balance=", "bare", "seed=4"])
    assert found.plan == ["lane=x", "+optim.lr=1", "~balance=", "bare", "seed=4"] and found.rounds == 3
    assert PLAIN.read(["--", "."]).names == [Path(".")]


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path, monkeypatch):
    (tmp_path / "a=b").mkdir()
    (tmp_path / "round=1").mkdir()  # as like a word as this
    monkeypatch.chdir(tmp_path)
    assert PLAIN.read(["a=b", "round=1"]).names == [Path("a=b"), Path("round=1")]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["rounds=0"], ["rounds=0", "rounds must be a whole number of at least 1"]),
        (["rounds=²"], ["rounds=²", "a whole number"]),
        (["rounds=" + "9" * 5000], ["a whole number"]),
        (["--rounds", "x"], ["--rounds x", "a whole number"]),
        (["rounds="], ["rounds= has no value", "or leave rounds out"]),
        (["--out"], ["--out has no value", "a path"]),
        (["--out", "--all"], ["--out has no value"]),
        (["max-heat=nan"], ["max-heat=nan", "a number of at least 0"]),
        (["set=gpus"], ["did you mean gpu?", "one of gpu, cpu"]),
        (["seeds=1,01"], ["each once"]),
        (["seeds=1", "seeds=2"], ["seeds is there twice", "one list"]),
        (["only=a,c"], ["only=a,c", "some of a, b"]),
        (["all=yes"], ["all=yes"]),
        (["--all=yes"], ["--all takes no value"]),
        (["--rouds", "3"], ["unknown word '--rouds'", "did you mean --rounds?", "look --help"]),
        (["rouds=3"], ["did you mean rounds?"]),
        (["nowhere"], ["nowhere is no run folder", "name a run"]),
    ],
)
def test_a_mistake_names_the_value_what_is_allowed_and_what_to_type(arguments, said):
    told = refused(PLAIN, *arguments)
    assert all(part in told for part in said), told


def test_a_mistake_among_words_of_a_plan_names_the_nearest_of_the_verbs_own():
    assert "did you mean rounds?" in refused(PLANNED, "rouns=3")
    assert "write key=value" in refused(PLANNED, "--seed=1")
    assert PLANNED.read(["seed=1"]).plan == ["seed=1"]  # as like `seeds` as it is, the plan has it


def test_too_few_names_and_too_many_are_told_with_the_remedy():
    two = Words("look", names=Names("lane", TEXT, 2, 2, "python -m harness look A B"))
    assert "no lane is named" in refused(two, "a") and "look A B" in refused(two)
    assert "unknown word 'c'" in refused(two, "a", "b", "c") and two.read(["a", "b"]).names == ["a", "b"]
    assert "unknown word 'x'" in refused(Words("look"), "x")
