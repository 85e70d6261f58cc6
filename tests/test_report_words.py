"""Every page of Markdown, XML and HTML that is made of records, made twice: of records that say `x`, and of records that say
everything that would be markup. Both must have the same structure."""

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import report_factory
from markdown_it import MarkdownIt
from report_factory import edit_record, write_run
from study_factory import trial

from harness.__main__ import main
from harness.plan.study import Study
from harness.report.board.gather import gather
from harness.report.board.holders_figure import draw_holders
from harness.report.board.markdown import leaderboard_markdown
from harness.report.board.page import render_page
from harness.report.board.standings import make_boards
from harness.report.compare.paired import paired_table
from harness.report.compare.summary import summary_table
from harness.report.gate import output as gate_output
from harness.report.gate.verdict import FAIL, PASS, SKIP, Outcome
from harness.report.groups import find_groups
from harness.report.run.bpb import draw_bpb
from harness.report.study.table import study_table
from harness.report.style import styled, words

EVIL = (
    '"><script>alert(2)</script><img src=x onerror=alert(1)> [c](javascript:alert(1)) ![i](http://a.b/x.png) `x` ``y |y| '
    "*b* __b__ ~~s~~ $x_{$ &lt; http://evil.example www.evil.example <http://a.b> a@b.com @you #1 \x1b[2J\r\u202e\x00\x85"
    "\n\n# h\n- i\n> q\n[r]: http://a.b\n```\n|a|b|\n|-|-|"
)
DAY = "[a](b)|*c*"  # where a date is expected, of which ten characters are shown
FOLDER = '"><script>alert(2)<[c](javascript:alert(1)) `x` |y|\n# h'  # a name that a folder can have
TEXT = re.sub("[\x00\x1b\r\x85]", "", EVIL)  # what the reader of records lets through; names it holds to letters and digits
ALONE = "\ud800"  # half of a surrogate pair, which JSON can hold and a file of text cannot


def runs(top: Path, evil: bool, monkeypatch) -> Path:
    """A native and an emulated lane of three seeds, one of another hardware class, an unranked run, one whose evidence does not
    hold, and a record and a claim that are cut off."""
    word, folder = (TEXT, FOLDER) if evil else ("x", "x")
    lines = {key: line | {"label": f"{line['label']} {word}"} for key, line in report_factory.LINES.items()}
    monkeypatch.setattr(report_factory, "LINES", lines)
    common = {"hardware_class": word, "overrides": (word,), "track": "x"}
    native, emulated = "ax", "ax-nvfp4"
    for seed in (1, 2, 3):
        about = {"seed": seed, "offset": 0.003 * seed, "finished_at": f"2026-01-0{seed}T00:00:00Z", **common}
        write_run(top / f"{folder}native" / str(seed), lane=native, twin="none", **about)
        write_run(top / f"{folder}emulated" / str(seed), lane=emulated, twin=native, precision="nvfp4", execution="emulated",
                  **about)  # fmt: skip
    for folder_of_run in top.rglob("record.json"):
        edit_record(folder_of_run.parent, provenance__commit=word)
    write_run(top / f"{folder}there", lane="bx", twin=native, **common | {"hardware_class": f"yonder {word}"})
    unranked = write_run(top / f"{folder}unranked", lane="x", twin="x", seed=9, reasons=(word, word), **common)
    edit_record(unranked, provenance__finished_at=DAY if evil else "2027-01-01")
    edit_record(write_run(top / f"{folder}edited", lane="x", twin=None, seed=8, **common), lane="otherx")
    (top / f"{folder}cut").mkdir()
    (top / f"{folder}cut" / "record.json").write_text("{")
    (top / f"{folder}cut" / "claim-cut.json").write_text("{")
    return top


def outcomes(word: str) -> list[Outcome]:
    failed = Outcome("exact bits", FAIL, word, word, (word, word))
    return [failed, Outcome("speed", SKIP, word, word), Outcome("run", PASS, word, "rule")]


def study_of(word: str, home: Path) -> str:
    text = TEXT if word != "x" else word
    study = Study(word, word, word, word, "load", {"even": f"a={word}", "odd": ""}, common=f"b={word}")
    even, odd = trial(home, "even", hardware_class=text, reasons=(text,)), trial(home, "odd", stopped=130)
    odd = replace(odd, stop=odd.stop.model_copy(update={"reason": word}))
    return study_table(study, [even, odd], {("even", 1): [word], ("odd", 1): []})


def made(top: Path, evil: bool, monkeypatch) -> dict[str, str]:
    """The Markdown by file."""
    word = EVIL + ALONE if evil else "x"
    where = runs(top / "results", evil, monkeypatch)
    groups = find_groups([where]).groups
    for group in groups:  # no reader lets such a name through; the tables do not count on it
        for run in group.runs:
            vars(run.record)["lane"] = run.plan["lane"]["name"] = f"{word}{run.record.lane}"
            run.plan["lane"]["twin"] = f"{word}{run.plan['lane']['twin']}"
    a, b = (next(where.glob(f"*{name}")) for name in ("native", "emulated"))
    assert main(["compare", str(a), str(b), "--out", str(top / "compare")]) == 0
    return {
        "LEADERBOARD.md": leaderboard_markdown(gather([where]), where), "show": summary_table(groups),
        "matrix.md": paired_table(groups), "study.md": study_of(word, top / "study"),
        "compare.md": (top / "compare/compare.md").read_text(), "gate.md": gate_output.markdown(word, outcomes(word)),
    }  # fmt: skip


@pytest.fixture(name="both", scope="module")
def both_fixture(tmp_path_factory) -> tuple[dict[str, str], dict[str, str], Path]:
    tops = [tmp_path_factory.mktemp(name) for name in ("harmless", "hostile")]
    with pytest.MonkeyPatch.context() as patch:
        harmless = made(tops[0], False, patch)
    with pytest.MonkeyPatch.context() as patch:
        return harmless, made(tops[1], True, patch), tops[1] / "results"


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def structure(markdown: str) -> list[str]:
    """Every token but text, in order; a code span without its content, and without what divides a text for GitHub."""
    found = []
    for token in MARKDOWN.parse(markdown):
        if token.type != "inline":
            found.append(token.type)
            continue
        for child in token.children:
            shown = child.content if child.type == "html_inline" else ""
            if child.type not in ("text", "text_special") and shown not in ("<!-- -->", "<span>", "</span>"):
                found.append(f"{child.type} {shown}")
    return found


FILES = ("LEADERBOARD.md", "show", "matrix.md", "study.md", "compare.md", "gate.md")


@pytest.mark.parametrize("file", FILES)
def test_what_records_say_changes_nothing_of_the_structure_of_a_markdown_file(both, file):
    harmless, hostile, _ = both
    assert "alert(2)" in hostile[file] and structure(hostile[file]) == structure(harmless[file])
    assert "link_open" not in structure(hostile[file]) or file == "LEADERBOARD.md"


@pytest.mark.parametrize("file", FILES)
def test_nothing_that_records_say_is_live_on_github(both, file):
    hostile = re.sub(r"`[^`]*`", "", both[1][file])  # code spans are dead
    assert not re.search(r"(?<!\\):(?<!\\:)//|www\.|@(?=\w)|#\d|\$(?!</span>)", hostile)
    assert all(c.isprintable() or c == "\n" for c in both[1][file])
    both[1][file].encode()


def test_links_of_the_leaderboard_lead_to_the_records_alone(both):
    _, hostile, top = both
    inline = [child for token in MARKDOWN.parse(hostile["LEADERBOARD.md"]) for child in token.children or ()]
    links = [child.attrs["href"] for child in inline if child.type == "link_open"]
    images = [child.attrs["src"] for child in inline if child.type == "image"]
    histories = [link for link in links if re.fullmatch(r"history/[a-z0-9-]+\.json", link)]
    records = [link for link in links if link not in ("index.html", *histories)]
    assert (len(records), len(histories)) == (15, 2) and links[0] == "index.html"
    assert all((top / unquote(link) / "record.json").exists() for link in records)
    assert images and all(re.fullmatch(r"figures/[a-z0-9-]+\.png", image) for image in images)


def test_links_of_the_page_lead_to_the_records_alone(both):
    top = both[2]
    page = render_page(gather([top]), top)
    page.encode()
    assert all(c.isprintable() or c == "\n" for c in page) and "<script>alert" not in page and "<img" not in page
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    ids = set(re.findall(r' id="([^"]*)"', page))
    away = [link for link in links if not link.startswith("#") and link != "data:," and not (top / unquote(link)).exists()]
    assert len(links) > 20 and away == [] and {link[1:] for link in links if link.startswith("#")} <= ids


def test_the_gates_xml_holds_what_xml_cannot(tmp_path):
    suite = ElementTree.fromstring(gate_output.junit(EVIL + ALONE, outcomes(EVIL + ALONE + "\ufffe")))
    assert [len(case) for case in suite] == [2, 2, 1] and "\\ufffe" in suite.find("testcase/failure").text


def test_figures_are_drawn_with_whatever_records_say(both, tmp_path):
    board, *_ = make_boards(find_groups([both[2]]).groups)
    with styled():
        assert draw_holders(board, tmp_path / "holders.png").exists()
        assert draw_bpb(board.standings[0].group.runs[0], None, tmp_path / "bpb.png").exists()


@pytest.mark.parametrize(
    "said, shown", [("a $x_{$ b", "a \\$x_{\\$ b"), ("_a\x1b\ud800\nb", " _a\\x1b\\ud800 b"), ("a_b", "a_b")]
)
def test_a_figure_shows_words_and_no_mathematics_and_keeps_a_label_in_the_legend(said, shown):
    assert words(said) == shown
