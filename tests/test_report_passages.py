"""Passages of a page that commands print: only what is between two marks changes, and only to what the command prints."""

from pathlib import Path

import pytest
from report_factory import write_run

from harness.__main__ import main
from harness.errors import UserError
from harness.report.board.passages import refreshed
from harness.report.compare.summary import summary_table
from harness.report.groups import find_groups

PAGE = "# Mine\n\nAbove.\n\n<!-- printed by `make show RUN=results` -->\nold\n<!-- end -->\n\nBelow: <!-- end -->\n"


@pytest.fixture(name="home")
def home_fixture(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2, 3):
        write_run(Path("results/moe") / str(seed), seed=seed, offset=0.003 * seed)
        write_run(Path("results/dense") / str(seed), lane="tiny-dense", twin="tiny-moe-16e", experts=0, seed=seed, step_s=0.2)
    return tmp_path


def test_report_prints_a_passage_anew_and_leaves_what_people_wrote(home):
    page = home / "results" / "README.md"
    page.write_text(PAGE)
    assert main(["report"]) == 0
    written = page.read_text()
    assert written == PAGE.replace("old", summary_table(find_groups(["results"]).ranked))
    assert main(["report"]) == 0 and page.read_text() == written


def test_a_comparison_is_a_block_with_its_verdict(home):
    command = "make compare A=results/dense B=results/moe"
    (home / "results" / "README.md").write_text(f"<!-- printed by `{command}` -->\n<!-- end -->\n")
    assert main(["report"]) == 0
    lines = (home / "results" / "README.md").read_text().splitlines()
    assert lines[1] == lines[-2] == "```" and lines[2].startswith("Not a fair comparison")
    assert any(line.startswith("  equal tokens") for line in lines)


def test_a_folder_without_a_page_gets_none(home):
    assert main(["report", "results", "--out", "out"]) == 0
    assert not (home / "out" / "README.md").exists()


@pytest.mark.parametrize(
    "command, said",
    [
        ("make speedrun LANE=x", "may be printed by: make show NAME=value"),
        ("rm -rf results", "may be printed by"),
        ("make show", "add RUN=..."),
        ("make show results", "may be printed by"),
    ],
)
def test_a_passage_that_no_command_prints_is_refused(command, said):
    with pytest.raises(UserError, match="page has a passage printed by") as error:
        refreshed(PAGE.replace("make show RUN=results", command), {"show": lambda words: words["RUN"]}, Path("page"))
    assert said in error.value.remedy


def test_no_word_of_a_record_ends_a_passage():
    printers = {"show": lambda words: "a <!-- end --> b"}
    once = refreshed(PAGE, printers, Path("page"))
    assert refreshed(once, printers, Path("page")) == once == PAGE.replace("old", "a < !-- end --> b")


def test_a_page_is_left_as_it_was_where_a_passage_is_refused(home, capsys):
    page = home / "results" / "README.md"
    page.write_text(PAGE + PAGE.replace("make show RUN=results", "make compare A=results/none B=results/moe"))
    before = page.read_text()
    assert main(["report"]) == 2 and page.read_text() == before
    assert "results/none" in capsys.readouterr().err
