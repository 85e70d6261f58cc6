"""Open lanes on the board: what ranks them, and what is said of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import edit_record, write_run

from harness.report.board.cells import columns, row
from harness.report.board.claims import claim_name
from harness.report.board.gather import gather, slug
from harness.report.board.markdown import leaderboard_markdown
from harness.report.board.page import render_page
from harness.report.board.sentences import about, about_claim, how_ranked
from harness.report.board.standings import Board, make_boards, mixed_protocols
from harness.report.compare.ranking import rank, sentences
from harness.report.compare.summary import summary_table
from harness.report.groups import find_groups
from harness.report.integrity import check
from harness.report.rule import RACE, TO_TARGET
from harness.report.run.table import end_table
from harness.report.run_data import load_run
from harness.report.statistics import Sample, below

TARGET = 1.6624  # of `tiny`, in the factory; a run of 384 steps ends at 1.63 + offset


def seeds(top: Path, name: str, offsets=(0.0, 0.001, 0.002), day: int = 1, **about_run) -> None:
    """A run of an open lane for each offset, a day after the other; plans differ by their learning rate."""
    about_run = {"lane": "tiny-open", "opened": True, "experts": 0, "lr": len(name) / 100} | about_run
    for seed, offset in enumerate(offsets, start=1):
        finished_at = f"2026-01-{day + seed - 1:02d}T00:00:00+00:00"
        write_run(top / name / str(seed), seed=seed, offset=offset, finished_at=finished_at, **about_run)


def boards(top: Path) -> list[Board]:
    return make_boards(find_groups([top]).groups)


def order(board: Board) -> list[tuple[str, int | None]]:
    """The names that the groups' folders have, with their ranks."""
    return [(standing.group.runs[0].folder.parent.name, standing.rank) for standing in board.standings]


def test_seconds_of_the_whole_budget_rank_and_not_those_to_the_target(tmp_path):
    seeds(tmp_path, "short", step_s=0.2)  # 76.8 s, all of which it takes
    seeds(tmp_path, "longer", offsets=(-0.05, -0.049, -0.048), step_s=0.15, steps=600)  # 90 s, past the target long before
    (board,) = boards(tmp_path)
    assert order(board) == [("short", 1), ("longer", 2)]
    short, longer = (standing.group for standing in board.standings)
    assert (short.to_target().mean, longer.to_target().mean) == pytest.approx((76.8, 90.0))
    assert TO_TARGET.seconds(longer.runs).mean < TO_TARGET.seconds(short.runs).mean
    assert board.is_held_by(short)


def test_a_seed_that_misses_the_line_by_itself_does_not_matter_the_mean_does(tmp_path):
    seeds(tmp_path, "one", offsets=[-0.03 + 0.001 * i for i in range(7)] + [0.034])
    (board,) = boards(tmp_path)
    (standing,) = board.standings
    assert not all(run.record.metrics.target_reached for run in standing.group.runs)
    assert standing.rank == 1 and standing.on_time and standing.target.significant


@pytest.mark.parametrize(
    "offsets, why, on_time",
    [
        ((0.0, 0.001), "n = 2: a claim takes 3 seeds", True),
        ((0.0, 0.03, 0.045), "target: p = ", True),  # below, and not for sure
        ((0.1, 0.11, 0.12), "target: p = 1, not below 0.01", False),
    ],
)
def test_what_is_not_below_the_line_for_sure_stands_without_a_number(tmp_path, offsets, why, on_time):
    seeds(tmp_path, "weak", offsets=offsets)
    (board,) = boards(tmp_path)
    (standing,) = board.standings
    assert standing.rank is None and standing.why_no_claim.startswith(why) and standing.on_time == on_time
    assert board.history == ()


@given(st.lists(st.floats(1.5, 1.8), min_size=1, max_size=6))
def test_the_line_is_held_against_the_mean_at_the_end_and_nothing_else(bits):
    class Ended:
        target = type("Target", (), {"metric": "slice_bpb", "level": TARGET})

        def __init__(self, slice_bpb):
            metrics = type("Metrics", (), {"slice_bpb": slice_bpb, "target_reached": True, "time_to_target_s": 1.0})
            self.record = type("Record", (), {"metrics": metrics, "clock": type("Clock", (), {"train_s": 100 * slice_bpb})})

    runs = [Ended(value) for value in bits]
    found = RACE.seconds(runs)
    assert (found is not None) == (below(Sample.of(bits), TARGET).difference < 0)
    assert found is None or found.values == tuple(100 * value for value in bits)


def test_seconds_that_are_no_claim_leave_an_open_lane_without_a_rank(tmp_path):
    seeds(tmp_path, "busy", taken=0.2)
    seeds(tmp_path, "quiet", taken=0.0, step_s=0.9)
    seeds(tmp_path, "emulated", precision="nvfp4", execution="emulated", lane="tiny-open")
    native, emulated = boards(tmp_path)
    assert order(native) == [("quiet", 1), ("busy", None)] and order(emulated) == [("emulated", None)]
    assert "processes took 20.0%" in native.standings[1].why_no_claim
    assert emulated.standings[0].why_no_claim.endswith("nvfp4 emulated is not timed")


def test_an_open_lane_never_shares_a_board_with_the_others_of_its_track(tmp_path):
    seeds(tmp_path, "fixed", opened=False, lane="tiny-dense", step_s=0.5)
    before = slug(boards(tmp_path)[0])
    seeds(tmp_path, "open")
    found = {board.section: board for board in boards(tmp_path)}
    assert list(found) == ["tiny", "tiny, open"] and all(board.history for board in found.values())
    assert slug(found["tiny"]) == before != slug(found["tiny, open"])
    assert mixed_protocols(find_groups([tmp_path]).groups) == []


def test_the_holder_is_who_has_the_fewest_seconds_by_date(tmp_path):
    seeds(tmp_path, "slow", step_s=0.3, day=1)
    seeds(tmp_path, "faster", step_s=0.2, day=11)
    seeds(tmp_path, "not-yet", step_s=0.1, day=21, offsets=(0.1, 0.1, 0.1))
    (board,) = boards(tmp_path)
    held = [(t.group.runs[0].folder.parent.name, t.since[:10], t.on_time) for t in board.history]
    assert held == [("slow", "2026-01-03", True), ("faster", "2026-01-13", True)]
    assert board.history[1].against.on_time and board.history[1].against.test.difference == pytest.approx(-38.4)


def test_a_claim_says_who_fixed_the_stop_step_and_what_stands_beside_the_seconds(tmp_path):
    seeds(tmp_path, "a", step_s=0.3)
    seeds(tmp_path, "bb", step_s=0.2, day=11)
    (board,) = boards(tmp_path)
    said = "\n".join(about_claim(board.standings[0], board))
    assert "stop step 384, fixed by the plan before any seed was run" in said
    assert "76.8 ± 0.0 (n = 3) s of training" in said
    assert "5.39 M parameters, 2.24 M active, peak memory 0.90 GiB" in said
    assert "38.4 s less of training than tiny-open" in said
    assert "fixed by the lane" not in said and "to target" not in said


def test_the_board_shows_seconds_parameters_and_memory_and_says_how_it_is_ranked(tmp_path):
    seeds(tmp_path, "open")
    seeds(tmp_path, "dense", opened=False, lane="tiny-dense")
    leaderboard = gather([tmp_path])
    fixed, raced = leaderboard.boards
    names = [column.name for column in columns(raced.rule)]
    assert {"training, s", "parameters", "active", "GiB"} < set(names) and "to target, s" not in names
    assert "parameters" not in [column.name for column in columns(fixed.rule)]
    cells = {cell.key: cell.text for cell in row(raced.standings[0], raced.timed)}
    assert (cells["to_target"], cells["parameters"], cells["active"]) == ("99.8 ± 0.0", "5.39 M", "2.24 M")
    shown = leaderboard_markdown(leaderboard, tmp_path)
    assert "## Track tiny, open" in shown and "Open lanes fix data, scoring and target alone" in shown
    page = render_page(leaderboard, tmp_path)
    assert "tiny, open" in page and ">training, s</th>" in page and "<dt>parameters</dt>" in page
    assert "Open lanes" not in how_ranked([fixed]) and leaderboard.holds


def test_compare_says_who_wins_the_race_or_why_nobody_does(tmp_path):
    seeds(tmp_path, "a", step_s=0.3)
    seeds(tmp_path, "bb", step_s=0.2)
    seeds(tmp_path, "ccc", offsets=(0.1, 0.11, 0.12))
    by_name = {group.runs[0].folder.parent.name: group for group in find_groups([tmp_path]).groups}

    def said(a: str, b: str) -> tuple[str, str]:
        return sentences(by_name[a], by_name[b], rank(by_name[a], by_name[b]), [])[0]

    kind, sentence = said("a", "bb")
    assert kind == "may be claimed" and sentence.startswith("In the race B (tiny-open") and "takes 38.4 s less" in sentence
    kind, sentence = said("a", "ccc")
    assert kind == "may not be claimed" and "Nothing about the race: B (tiny-open" in sentence and "not below 0.01" in sentence


def test_the_board_says_which_seeds_a_claim_may_have_been_chosen_from(tmp_path):
    """A seed that is stopped as soon as it looks bad, and one that is run until it is fast, cost the claim these words."""
    seeds(tmp_path, "open")
    (board,) = boards(tmp_path)
    (standing,), plain = board.standings, about(board.standings[0], board)
    group = standing.group
    claim = {
        "schema_version": 1, "lane": group.lane, "track": group.track, "plan_hash": group.plan_hash, "stop_step": 384,
        "hardware_class": group.hardware_class, "seeds": [1, 2, 3], "records": dict.fromkeys("123", "ab" * 32),
        "tuning_trials": {"found": 0, "declared": 0}, "replaced": [], "failed_seeds": {"3": "unfinished", "4": "unfinished"},
        "submissions": [
            {"at": "2026-01-05T00:00:00+00:00", "seeds": [1, 2], "repeats": {"2": 5}},
            {"at": "2026-01-06T00:00:00+00:00", "seeds": [3]},
        ],
    }  # fmt: skip
    path = group.runs[0].folder.parent / claim_name(group.plan_hash, group.hardware_class)
    path.write_text(json.dumps(claim))
    said = [sentence for sentence in about(standing, board) if sentence.startswith("Seeds ")]
    assert said == [
        "Seeds that do not count: 4 (unfinished).",
        "Seeds run more than once, of which one run counts: 2 (5 times).",
        "Seeds came in 2 submissions: the later ones knew what the first had shown.",
    ]
    path.write_text(json.dumps(claim | {"failed_seeds": {}, "submissions": claim["submissions"][1:]}))
    assert len(about(standing, board)) == len(plain)


def test_runs_that_are_not_ranked_race_with_nobody(tmp_path):
    seeds(tmp_path, "a", step_s=0.3)
    seeds(tmp_path, "bb", step_s=0.2, reasons=("it read weights.bin while it trained",))
    a, b = sorted(find_groups([tmp_path]).groups, key=lambda group: group.runs[0].folder)
    kind, sentence = sentences(a, b, rank(a, b), [])[0]
    assert kind == "may not be claimed" and "unranked, it read weights.bin while it trained" in sentence


def test_tables_of_runs_say_what_to_target_means_in_an_open_lane(tmp_path):
    seeds(tmp_path, "open")
    groups = find_groups([tmp_path]).groups
    shown = summary_table(groups)
    assert "99.8 ± 0.0" in shown and "To target, of an open lane: training seconds of the whole budget" in shown
    table = end_table(groups[0].runs[0], None)
    assert "99.8 s" in table and "of an open lane: training seconds of the whole budget" in table


def test_a_record_whose_seconds_are_not_those_of_its_curve_does_not_hold(tmp_path):
    folder = write_run(tmp_path / "1", lane="tiny-open", opened=True, experts=0)
    assert check(load_run(folder)) == []
    record = json.loads((folder / "record.json").read_text())
    clock, metrics, less = record["clock"], record["metrics"], 0.5
    edit_record(folder, clock__train_s=clock["train_s"] * less, clock__other_s=clock["other_s"] + clock["train_s"] * less,
                metrics__tokens_per_second=metrics["tokens_per_second"] / less, metrics__mfu=metrics["mfu"] / less,
                metrics__step_s=metrics["step_s"] * less)  # fmt: skip
    assert any(sentence.startswith("clock.train_s is 49.92") for sentence in check(load_run(folder)))


def test_nats_on_the_slice_that_are_not_those_of_the_curve_do_not_hold(tmp_path):
    """The line of `open` is in nats per token."""
    folder = write_run(tmp_path / "1", lane="tiny-open", opened=True, experts=0)
    edit_record(folder, metrics__slice_loss=3.1)
    assert any(sentence.startswith("metrics.slice_loss is 3.1") for sentence in check(load_run(folder)))
