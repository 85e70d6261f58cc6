"""What other people's words may do to a terminal: nothing but be read."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import write_run

from harness.__main__ import main
from harness.terminal import Shown, one_line, printable, shown

UP_AND_RED = "\x1b[1A\x1b[31mred"
FORGED = "\nverdict   equal bits"


@given(st.text())
def test_what_is_printable_stays_and_the_rest_is_named(text):
    found = printable(text)
    assert all(c.isprintable() or c in "\n\t" for c in found)
    found.encode()  # no half of a surrogate pair is left
    if all(c.isprintable() or c in "\n\t" for c in text):
        assert found == text


def test_control_characters_become_the_escapes_that_name_them():
    assert printable("a\x1b[2Jb\x9b\x00\u202e\ud800\tc\nd") == "a\\x1b[2Jb\\x9b\\x00\\u202e\\ud800\tc\nd"
    assert one_line(" a\n\n b\r\t") == "a b\\r"


class Screen(list):
    def write(self, text: str) -> None:
        self.append(text)


def test_a_line_may_rewrite_itself_from_its_beginning_and_nothing_else_moves_the_cursor():
    screen = Screen()
    stream = Shown(screen)
    for text in ("\r\x1b[Kstep 1", "\r\x1b[Kstep 2", "\n", "skipped: ", "\rall is well", "\x1b[1A", "\n", "\rbar"):
        stream.write(text)
    assert screen == ["\r\x1b[Kstep 1", "\r\x1b[Kstep 2", "\n", "skipped: ", "\\rall is well", "\\x1b[1A", "\n", "\rbar"]


def test_what_verbs_print_goes_through_it_on_both_streams(capsys):
    with shown():
        print(UP_AND_RED)
        print(UP_AND_RED, file=sys.stderr)
    said = capsys.readouterr()
    assert said.out == said.err == "\\x1b[1A\\x1b[31mred\n"


def test_a_mistake_is_explained_without_obeying_it(capsys):
    assert main(["show", UP_AND_RED]) == 2
    assert capsys.readouterr().err.startswith("error: \\x1b[1A\\x1b[31mred is no folder")


@pytest.fixture(name="runs", scope="module")
def runs_fixture(tmp_path_factory) -> Path:
    """Three seeds of a lane, on a machine and from a command line that would draw on the screen and add a line of their own."""
    top = tmp_path_factory.mktemp("runs")
    evil = f"lane{UP_AND_RED}{FORGED}\r"
    ranked = top / f"ranked{FORGED}"
    for seed in (1, 2, 3):
        write_run(ranked / f"{seed}{FORGED}", lane=evil, twin=evil, seed=seed, hardware_class=evil, overrides=(evil,))
    write_run(top / "other", lane=evil, seed=4, reasons=(evil,))
    (top / f"broken{FORGED}").mkdir()
    (top / f"broken{FORGED}" / "record.json").write_text("{")
    return top


VERBS = (
    "show ALL", "report ALL --out OUT", "verify ALL steps=0", "verify ONE steps=0", "submit ALL --to OUT",
    "submit RANKED --to OUT", "compare RANKED OTHER --out OUT", "compare ALL OTHER --out OUT", "doctor ONE", "gate ONE",
)  # fmt: skip


@pytest.mark.parametrize("words", VERBS)
def test_no_verb_lets_a_record_move_the_cursor_or_speak_for_it(words, runs, tmp_path, capsys):
    ranked = runs / f"ranked{FORGED}"
    places = {"ALL": runs, "RANKED": ranked, "ONE": ranked / f"1{FORGED}", "OTHER": runs / "other", "OUT": tmp_path}
    main([str(places.get(word, word)) for word in words.split()])
    said = "".join(capsys.readouterr())
    assert "lane\\x1b[1A" in said or "broken" in said
    assert all(c.isprintable() or c in "\n\t" for c in said)
    assert FORGED not in f"\n{said}"
