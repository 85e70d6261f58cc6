"""What is ranked against what, in which order, and who held the record when."""

import json
from pathlib import Path

from report_factory import edit_record, write_run

from harness.files import file_sha256
from harness.report.board.cells import row, twin_row
from harness.report.board.sentences import about
from harness.report.board.standings import Board, make_boards, mixed_protocols
from harness.report.groups import find_groups
from harness.report.statistics import ASSUMES, welch
from harness.revision import REVISION


def seeds(top: Path, name: str, n: int = 3, day: int = 1, execution: str = "native", precision: str = "bf16", **about_run):
    """`n` runs that differ in seed, date and a little in their figures."""
    offset = about_run.pop("offset", 0.0)
    for seed in range(1, n + 1):
        folder = write_run(top / name / str(seed), seed=seed, offset=offset + 0.003 * (seed % 3),
                           finished_at=f"2026-01-{day + seed - 1:02d}T00:00:00+00:00", **about_run)  # fmt: skip
        edit_record(folder, precision__execution=execution, precision__format=precision)


def boards(top: Path) -> list[Board]:
    return make_boards(find_groups([top]).groups)


def order(board: Board) -> list[tuple[str, int | None]]:
    return [(standing.group.lane, standing.rank) for standing in board.standings]


def texts(cells) -> dict[str, str]:
    return {cell.key: cell.text for cell in cells}


def test_seconds_rank_where_every_seed_reached_the_target_then_bits_per_byte(tmp_path):
    seeds(tmp_path, "slow", lane="slow", step_s=0.3)
    seeds(tmp_path, "fast", lane="fast", step_s=0.2, offset=0.01)
    seeds(tmp_path, "worst", lane="worst", step_s=0.1, offset=0.5)
    seeds(tmp_path, "short", lane="short", step_s=0.1, offset=0.2)
    (board,) = boards(tmp_path)
    assert order(board) == [("fast", 1), ("slow", 2), ("short", 3), ("worst", 4)]
    assert texts(row(board.standings[2], board.timed))["to_target"] == "0 of 3 reached it"


def test_two_seeds_are_shown_where_they_stand_without_a_number(tmp_path):
    seeds(tmp_path, "few", n=2, lane="few", step_s=0.1)
    seeds(tmp_path, "claim", lane="claim", step_s=0.2)
    (board,) = boards(tmp_path)
    assert order(board) == [("few", None), ("claim", 1)]
    assert board.standings[0].why_no_claim == "n = 2: a claim takes 3 seeds"
    assert board.holder.group.lane == "claim"


def test_a_mean_that_may_lie_above_the_target_is_no_claim_on_time(tmp_path):
    seeds(tmp_path, "near", lane="near", offset=0.023)
    (board,) = boards(tmp_path)
    assert board.standings[0].on_time and board.standings[0].rank is None and board.holder is None
    assert "not below 0.01" in board.standings[0].why_no_claim


def test_two_hardware_classes_are_two_boards(tmp_path):
    seeds(tmp_path, "a", hardware_class="one")
    seeds(tmp_path, "b", hardware_class="other")
    assert [(board.hardware_class, len(board.standings)) for board in boards(tmp_path)] == [("one", 1), ("other", 1)]


def test_emulated_formats_are_ranked_apart_and_without_seconds(tmp_path):
    seeds(tmp_path, "native", lane="tiny-moe-16e")
    seeds(tmp_path, "emulated", lane="tiny-moe-16e-nvfp4", execution="emulated", precision="nvfp4", step_s=0.01,
          twin="tiny-moe-16e")  # fmt: skip
    native, emulated = boards(tmp_path)
    assert native.timed and order(native) == [("tiny-moe-16e", 1)]
    assert not emulated.timed and not emulated.standings[0].on_time
    cells = texts(row(emulated.standings[0], emulated.timed))
    assert (cells["to_target"], cells["rate"], cells["mfu"]) == ("–", "–", "–")
    beside = texts(twin_row(emulated.standings[0].twin))
    assert beside["lane"] == "tiny-moe-16e" and beside["to_target"] == "–"


def test_emulated_bf16_is_timed_only_where_nothing_runs_natively(tmp_path):
    seeds(tmp_path, "a", execution="emulated")
    assert [board.timed for board in boards(tmp_path)] == [True]
    seeds(tmp_path, "b", lane="tiny-dense", experts=0)
    assert [(board.timed, board.standings[0].group.lane) for board in boards(tmp_path)] == [
        (True, "tiny-dense"), (False, "tiny-moe-16e")
    ]  # fmt: skip


def test_the_twin_is_of_the_same_class_and_a_claim_where_there_is_one(tmp_path):
    seeds(tmp_path, "moe", hardware_class="here")
    assert boards(tmp_path)[0].standings[0].twin.group is None
    seeds(tmp_path, "far", lane="tiny-dense", twin="tiny-moe-16e", experts=0, hardware_class="there", step_s=0.01)
    twin = boards(tmp_path)[0].standings[0].twin
    assert twin.group.hardware_class == "there" and texts(twin_row(twin))["to_target"] == "–"
    seeds(tmp_path, "near", lane="tiny-dense", twin="tiny-moe-16e", experts=0, hardware_class="here", lr=0.1)
    seeds(tmp_path, "lucky", n=1, lane="tiny-dense", twin="tiny-moe-16e", experts=0, hardware_class="here", offset=-0.2)
    twin = next(s for s in boards(tmp_path)[0].standings if s.group.lane == "tiny-moe-16e").twin
    assert twin.group.hardware_class == "here" and twin.group.n == 3 and twin.timed
    assert texts(twin_row(twin))["to_target"].count("±") == 1


def test_unranked_runs_are_on_no_board(tmp_path):
    seeds(tmp_path, "a")
    seeds(tmp_path, "b", reasons=("resumed 1 time",), step_s=0.01)
    (board,) = boards(tmp_path)
    assert len(board.standings) == 1 and board.standings[0].group.ranked


def test_the_holder_changes_on_the_day_of_the_third_seed(tmp_path):
    seeds(tmp_path, "first", lane="first", step_s=0.3, day=1)
    seeds(tmp_path, "second", lane="second", step_s=0.2, day=11)
    seeds(tmp_path, "slower", lane="slower", step_s=0.25, day=21)
    (board,) = boards(tmp_path)
    held = [(t.group.lane, t.since[:10], t.until and t.until[:10]) for t in board.history]
    assert held == [("first", "2026-01-03", "2026-01-13"), ("second", "2026-01-13", None)]
    assert board.history[0].against is None and board.history[1].against.test.significant


def test_a_later_seed_of_its_own_can_cost_the_record(tmp_path):
    seeds(tmp_path, "steady", lane="steady", step_s=0.22, day=1)
    seeds(tmp_path, "shaky", lane="shaky", step_s=0.2, day=5)
    write_run(tmp_path / "shaky/9", lane="shaky", seed=9, step_s=0.6, finished_at="2026-01-20T00:00:00Z")
    (board,) = boards(tmp_path)
    assert [t.group.lane for t in board.history] == ["steady", "shaky", "steady"]
    assert board.history[1].group.n == 3


def test_a_row_is_compared_with_every_seed_that_the_holder_has_now(tmp_path):
    seeds(tmp_path, "held", lane="held", step_s=0.2, day=1)
    seeds(tmp_path, "rival", lane="rival", step_s=0.3, day=5)
    write_run(tmp_path / "held/9", lane="held", seed=9, step_s=0.21, finished_at="2026-01-20T00:00:00Z")
    (board,) = boards(tmp_path)
    held, rival = (standing.group for standing in board.standings)
    assert board.holder.group.n == 3 and held.n == 4
    assert board.against_holder(rival).test == welch(rival.to_target(), held.to_target())


def test_of_equal_plans_the_one_that_held_the_record_first_stands_first(tmp_path):
    seeds(tmp_path, "late", lane="a-late", day=11, offset=0.5)
    seeds(tmp_path, "early", lane="b-early", day=1, offset=0.5)
    (board,) = boards(tmp_path)
    assert order(board) == [("b-early", 1), ("a-late", 2)] and board.is_held_by(board.standings[0].group)


def test_a_run_without_a_date_is_ranked_but_in_no_history(tmp_path):
    seeds(tmp_path, "a")
    for seed in (1, 2, 3):
        edit_record(tmp_path / "a" / str(seed), provenance__finished_at="some day")
    (board,) = boards(tmp_path)
    assert board.standings[0].rank == 1 and board.history == ()


def test_ranked_records_of_one_track_under_two_protocols_are_named_and_ranked_apart(tmp_path):
    seeds(tmp_path, "a")
    assert mixed_protocols(find_groups([tmp_path]).groups) == []
    edit_record(write_run(tmp_path / "b", seed=7), data__val_sha256="2" * 64)
    groups = find_groups([tmp_path]).groups
    assert "track tiny: its ranked records follow 2 protocols" in mixed_protocols(groups)[0]
    assert len(make_boards(groups)) == 2


def test_every_tested_sentence_carries_its_assumptions(tmp_path):
    seeds(tmp_path, "holder", lane="holder", step_s=0.2)
    seeds(tmp_path, "other", lane="other", step_s=0.3)
    (board,) = boards(tmp_path)
    target, holder, tuning, executed = about(board.standings[1], board)
    assert target.endswith(f"{ASSUMES}.") and holder.endswith(f"{ASSUMES}.")
    assert "s more to target than holder" in holder and "not significant" in holder
    assert tuning == "Tuning: not stated how many plans were tried for it."
    assert executed == "Nothing of it has been re-executed yet."


def test_a_board_of_an_earlier_revision_is_another_one_and_says_so(tmp_path):
    seeds(tmp_path, "old", hardware_class="cpu")
    seeds(tmp_path, "new", hardware_class=f"cpu, revision {REVISION}")
    assert sorted(board.title for board in boards(tmp_path)) == [
        f"cpu (revision 1 of the arithmetic, now {REVISION})", f"cpu, revision {REVISION}",
    ]  # fmt: skip


def test_the_board_says_by_which_commit_a_record_was_had_again(tmp_path):
    seeds(tmp_path, "one")
    folders = [tmp_path / "one" / str(seed) for seed in (1, 2)]
    for folder in folders:
        found = {"record_sha256": file_sha256(folder / "record.json"), "commit": "c0ffee" * 5, "steps": 16, "of": 384}
        (folder / "verified.json").write_text(json.dumps(found | {"verified_at": "2026-01-02T03:04:05+00:00"}))
    edit_record(folders[1], provenance__started_at="2026-01-01T00:00:00+00:00")  # it is another record since
    (board,) = boards(tmp_path)
    assert about(board.standings[0], board)[-1] == (
        "Re-executed with equal bits: seed 1 (16 of 384 steps at commit c0ffeec0, 2026-01-02)."
    )


def test_one_seed_is_never_called_significant(tmp_path):
    seeds(tmp_path, "one", n=1, offset=-1.0)
    (board,) = boards(tmp_path)
    said = " ".join(about(board.standings[0], board))
    assert "Not a claim: n = 1" in said and "significant" not in said
