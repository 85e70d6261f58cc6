"""The page: one file, complete without a network or a script, and safe with other people's words in it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_factory import sign, write_run

from harness.report.board.gather import gather
from harness.report.board.markdown import leaderboard_markdown
from harness.report.board.page import render_page

VOID = {"meta", "link", "br", "img", "input", "hr"}


@pytest.fixture(name="top", scope="module")
def top_fixture(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("results")
    for seed in (1, 2, 3):
        date = f"2026-01-0{seed}T00:00:00+00:00"
        write_run(top / "moe" / str(seed), seed=seed, offset=0.003 * seed, finished_at=date)
        write_run(top / "dense" / str(seed), lane="tiny-dense", twin="tiny-moe-16e", experts=0, seed=seed, step_s=0.2,
                  offset=0.01 + 0.003 * seed, finished_at=date, overrides=("optim.muon.lr=0.03",))  # fmt: skip
    write_run(top / "again", seed=9, reasons=("resumed 1 time",))
    return top


@pytest.fixture(name="page", scope="module")
def page_fixture(top) -> str:
    return render_page(gather([top]), top)


class Outline(HTMLParser):
    """Checks that tags are balanced; collects attributes by tag."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_asks_for_nothing_outside_itself(page):
    outline = Outline(page)
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest", page)
    assert not [attrs for tag, attrs in outline.seen if "src" in attrs or tag in ("iframe", "object", "embed")]
    assert [attrs["href"] for tag, attrs in outline.seen if tag == "link"] == ["data:,"]
    assert "default-src 'none'" in page


def test_every_link_leads_to_a_part_of_the_page_or_a_file_of_the_records(page, top):
    outline = Outline(page)
    ids = {attrs["id"] for _, attrs in outline.seen if "id" in attrs}
    links = [attrs["href"] for tag, attrs in outline.seen if tag == "a"]
    assert sum(link.endswith("record.json") for link in links) == 10
    for link in links:
        assert link[1:] in ids if link.startswith("#") else (top / link).exists(), link


def test_each_row_holds_its_twin_its_curves_its_seeds_and_its_plan(page):
    entries = page.split('<tbody class="entry">')[1:]
    entries[-1], _ = entries[-1].split('  </div>\n  <div class="charts">')  # what follows belongs to the board
    assert len(entries) == 2
    for entry, lane, twin in zip(entries, ("tiny-dense", "tiny-moe-16e"), ("tiny-moe-16e", "tiny-dense")):
        main, beside = re.findall(r'<span class="lane">(.*?)</span>', entry)
        assert (main, beside) == (lane, twin)
        assert entry.count("<svg") == 2 and "xz given train 1.6624" in entry
        assert "num_experts:" in entry and entry.count("metrics.jsonl") == 3
    assert "optim.muon.lr=0.03" in entries[0]


def test_numbers_sort_by_value_and_headers_say_their_first_order(page):
    outline = Outline(page)
    cells = [attrs for tag, attrs in outline.seen if tag == "td" and attrs.get("data-key") == "rate" and "data-sort" in attrs]
    assert {round(float(attrs["data-sort"])) for attrs in cells} == {15754, 20480}
    heads = {attrs["data-key"]: attrs["data-first"] for tag, attrs in outline.seen if tag == "th" and "data-first" in attrs}
    assert heads["to_target"] == "ascending" and heads["rate"] == "descending" and len(heads) == 15


def test_unranked_runs_stand_apart_with_their_reason(page):
    ranked, apart = page.split('<section id="unranked">')
    assert "resumed 1 time" in apart and "resumed 1 time" not in ranked


def test_words_of_a_record_cannot_become_markup(tmp_path):
    word = "x=<script>alert('1')</script>|y"
    write_run(tmp_path / "a", overrides=(word,))
    board = gather([tmp_path])
    page, text = render_page(board, tmp_path), leaderboard_markdown(board, tmp_path)
    assert "<script>alert" not in page and page.count("<script>") == 1
    Outline(page)
    assert "<script>" not in text and "\\|y" in text


def test_a_run_scored_on_part_of_val_has_no_lines_beside_it(tmp_path):
    folder = write_run(tmp_path / "a")
    record = json.loads((folder / "record.json").read_text())
    record["metrics"]["partial"] = True
    (folder / "record.json").write_text(json.dumps(record))
    sign(folder)
    page = render_page(gather([tmp_path]), tmp_path)
    assert 'class="line' not in page and "lines, slice" not in page and "<svg" in page
