"""A board tells its history: what each record changed, by how much it fell, whether that is significant, where it stands."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import write_run

from harness.report.board.falls import claims_beside, falls, fell, in_all
from harness.report.board.gather import gather, slug
from harness.report.board.history import SHOWN, history_markdown
from harness.report.board.holders_figure import LABEL_CHARS, draw_holders, label
from harness.report.board.plan_diff import changes, leaf
from harness.report.board.publish import publish
from harness.report.board.standings import Board
from harness.report.board.timeline import CLOSE, TICKS, Timeline, stamp
from harness.report.style import styled

BEGUN = datetime(2026, 12, 3, 10, tzinfo=UTC)


def claim(top: Path, name: str, at: float, n: int = 3, spread: float = 0.01, **about) -> None:
    """`n` seeds of one plan, the last of which ends `at` minutes after BEGUN."""
    step_s, offset = about.pop("step_s", 0.3), about.pop("offset", 0.0)
    for seed in range(1, n + 1):
        ended = BEGUN + timedelta(minutes=at - (n - seed))
        write_run(top / name / str(seed), seed=seed, step_s=step_s * (1 + spread * (seed - 2)), offset=offset + 0.002 * seed,
                  twin=None, finished_at=ended.isoformat(), **{"lane": "tiny-open"} | about)  # fmt: skip


def board_of(top: Path) -> Board:
    (board,) = gather([top]).boards
    return board


@pytest.fixture(name="race", scope="module", params=[True, False], ids=["open lane", "to target"])
def race_fixture(request, tmp_path_factory) -> Path:
    """Four records within an hour and a claim that took none. Read only."""
    top, opened = tmp_path_factory.mktemp("race"), request.param
    claim(top, "first", 5, step_s=0.6, experts=0, lr=0.02, opened=opened)
    claim(top, "rate", 20, step_s=0.4, experts=0, lr=0.05, opened=opened)
    claim(top, "slower", 30, step_s=0.5, experts=0, lr=0.06, opened=opened)
    claim(top, "luck", 40, step_s=0.399, experts=0, lr=0.04, spread=0.05, opened=opened)
    claim(top, "experts", 60, step_s=0.2, lr=0.04, layers=2, opened=opened)
    return top


def test_a_change_is_said_in_the_words_one_would_type(race):
    found = falls(board_of(race))
    assert [fall.number for fall in found] == [1, 2, 3, 4] and found[0].changes == ()
    assert [change.text for change in found[1].changes] == ["optim.muon.lr 0.02 -> 0.05"]
    assert [change.key for change in found[3].changes] == ["model.layers", "model.num_experts", "model.top_k"]


def test_the_lanes_name_is_a_change_and_what_the_lane_states_of_itself_is_none():
    plan = {"lane": {"name": "b", "twin": "a"}, "track": {"name": "tiny"}, "run": {"folder": "x"}, "seed": 2}
    before = {"lane": {"name": "a", "twin": "b"}, "track": {"name": "tiny2"}, "run": {"folder": "y"}, "seed": 1}
    assert [change.text for change in changes(plan, before)] == ["lane a -> b"]


def test_a_key_that_an_old_plan_does_not_have_stands_at_its_default():
    assert changes({"model": {"attention": "full"}}, {"model": {}}) == []
    found = changes({"model": {"attention_pattern": ["full", "window"]}, "balance": {}}, {"model": {}})
    assert [change.text for change in found] == ["model.attention_pattern [] -> [full,window]"]


def test_a_leaf_names_one_key():
    assert (leaf("optim.muon.lr"), leaf("model.expert_width"), leaf("lane")) == ("muon.lr", "expert_width", "lane")


def test_each_fall_says_by_how_much_and_whether_that_is_significant(race):
    second, third, fourth = map(fell, falls(board_of(race))[1:])
    assert re.fullmatch(r"[\d.]+ s \(33\.\d%\) less: significant", second)
    assert re.fullmatch(r"[\d.]+ s \(0\.\d%\) less: not significant", third)
    assert fourth.endswith("less: significant") and fell(falls(board_of(race))[0]) == "the first"


def test_the_whole_history_in_one_sentence(race):
    said = in_all(board_of(race))
    assert said.startswith("4 records: ") and re.search(r"[\d.]+ s -> [\d.]+ s, 3\.00x", said)
    assert said.endswith("Significantly below the record before: 2 of 3.") and "assuming independent seeds" in said


def test_a_record_that_later_seeds_of_its_holder_have_lost_is_said_to_have_risen(tmp_path):
    claim(tmp_path, "steady", 5, step_s=0.22, lr=0.02)
    claim(tmp_path, "shaky", 15, step_s=0.2, lr=0.03)
    late = (BEGUN + timedelta(minutes=30)).isoformat()
    write_run(tmp_path / "shaky/9", lane="tiny-open", twin=None, lr=0.03, seed=9, step_s=0.6, finished_at=late)
    last = falls(board_of(tmp_path))[-1]
    assert "more: not significant; later seeds of its holder had cost the record before" in fell(last)
    assert [change.text for change in last.changes] == ["optim.muon.lr 0.03 -> 0.02"]


def test_records_by_bits_per_byte_fall_in_bits_and_the_first_on_time_says_so(tmp_path):
    claim(tmp_path, "never", 5, offset=0.5)
    claim(tmp_path, "nearer", 15, offset=0.4, lr=0.03)
    board = board_of(tmp_path)
    assert re.fullmatch(r"0\.1000 bpb \(\d\.\d%\) less: significant", fell(falls(board)[1])) and "bpb" in in_all(board)
    claim(tmp_path, "there", 25, lr=0.04)
    board = board_of(tmp_path)
    assert fell(falls(board)[2]).startswith("the first on time; 0.4000 bpb") and in_all(board) == "One record so far."


def test_the_line_of_the_board_holds_all_of_it_and_links_to_the_records(race):
    said = history_markdown(board_of(race), race)
    rows = [line for line in said if line.startswith("| ") and line.split("|")[1].strip().isdecimal()]
    assert len(rows) == 4 and "optim.muon.lr 0.02 -> 0.05" in rows[1] and "2026-12-03 10:20" in rows[1]
    assert "[1](rate/1), [2](rate/2), [3](rate/3)" in rows[1] and "| now |" in rows[3] and "not significant" in rows[2]


def test_a_long_change_is_shortened_with_its_count_and_stands_in_full_in_page_and_file(tmp_path):
    claim(tmp_path, "a", 5, step_s=0.3, experts=0)
    about = {"lr": 0.034182739847, "layers": 2, "leading_dense_layers": 1, "steps": 400, "validations": (100, 200)}
    claim(tmp_path, "b", 15, step_s=0.2, **about)
    board = board_of(tmp_path)
    count = len(falls(board)[1].changes)
    publish(gather([tmp_path]), tmp_path)
    row = next(line for line in (tmp_path / "LEADERBOARD.md").read_text().splitlines() if line.startswith("| 2 | 2026"))
    page, name = (tmp_path / "index.html").read_text(), f"history/{slug(board)}.json"
    exact = "optim.muon.lr 0.02 -&gt; 0.034182739847"
    assert count > SHOWN and f"and {count - SHOWN} more" in row and exact in page and f"{count} keys" in page
    stored = json.loads((tmp_path / name).read_text())
    assert len(stored["records"][1]["changes"]) == count and f"({name})" in (tmp_path / "LEADERBOARD.md").read_text()
    assert stored["records"][1]["against"]["significant"] and stored["records"][1]["records"]["1"] == "../b/1"


def test_the_same_records_give_the_same_bytes_and_the_history_of_a_board_that_is_gone_goes(race, tmp_path):
    (tmp_path / "history").mkdir()
    (tmp_path / "history/gone.json").write_text("{}")
    contents = []
    for _ in range(2):
        written = publish(gather([race]), tmp_path)
        contents.append({path: path.read_bytes() for path in written})
    assert contents[0] == contents[1] and len(list((tmp_path / "history").iterdir())) == 1


def test_claims_that_took_no_record_are_drawn_beside_it(race):
    board = board_of(race)
    assert [group.runs[0].folder.parent.name for group in claims_beside(board, True)] == ["slower"]
    assert claims_beside(board, False) == []


def test_a_label_holds_what_it_can_and_counts_the_rest(race):
    first, second, _, fourth = map(label, falls(board_of(race)))
    assert first.endswith(": tiny-open") and second.endswith("muon.lr 0.02→0.05")
    assert "layers 4→2" in fourth and max(map(len, (first, second, fourth))) <= LABEL_CHARS + len(", +9")


@pytest.mark.parametrize("of", [["never"], ["never", "nearer"], ["never", "nearer", "there"]])
def test_every_history_can_be_drawn(tmp_path, of):
    for place, name in enumerate(of):
        claim(tmp_path, name, 5 + 10 * place, offset={"never": 0.5, "nearer": 0.4, "there": 0.0}[name], lr=0.02 + place)
    with styled():
        assert draw_holders(board_of(tmp_path), tmp_path / "figure.png").stat().st_size > 10_000


MOMENTS = st.lists(st.integers(0, 10**7), min_size=1, max_size=12).map(sorted)


@given(MOMENTS, st.lists(st.integers(0, 10**7), max_size=4))
def test_moments_stand_in_their_order_within_the_axis_and_records_are_told_apart(records, others):
    isos = [(BEGUN + timedelta(seconds=second)).isoformat() for second in records]
    later = [(BEGUN + timedelta(seconds=records[0] + second)).isoformat() for second in others]
    time = Timeline.of(isos, later)
    places = [time.of_record(i) for i in range(len(records))]
    width = time.end - time.start
    assert all(b - a >= 0.9 * CLOSE * width / (1 + 1 / 8) for a, b in zip(places, places[1:]))
    assert [time.x(iso) for iso in sorted(isos + later, key=stamp)] == sorted(time.x(iso) for iso in isos + later)
    assert all(time.start <= time.x(iso) < time.end for iso in isos + later)
    ticks = time.ticks()
    assert len(ticks) <= TICKS and all(time.start <= at <= time.end for at, _ in ticks)


def test_records_within_an_hour_stand_by_order_and_records_of_months_by_date():
    hour = [(BEGUN + timedelta(minutes=minute)).isoformat() for minute in (0, 1, 50)]
    months = [(BEGUN + timedelta(days=day)).isoformat() for day in (0, 30, 70)]
    assert Timeline.of(hour).by_order and Timeline.of(hour).ticks()[1] == (1.0, "12-03 10:01")
    assert not Timeline.of(months).by_order and Timeline.of(months).ticks()[0][1].startswith("2026-12-")
    assert not Timeline.of(hour[:1]).by_order


def test_a_label_of_any_lane_leaves_room_for_the_figure(tmp_path):
    claim(tmp_path, "a", 5, lane="a" * 100)
    assert len(label(falls(board_of(tmp_path))[0])) <= LABEL_CHARS + len("...")
