"""What a run whose machine was not its own may be said to be: its bits per byte everywhere, its seconds nowhere."""

import json

import pytest
from report_factory import edit_record, sign, write_run
from study_factory import trial

from harness.__main__ import main
from harness.record.documents import Probe
from harness.record.points import of_record
from harness.record.read import read_record
from harness.report.board.cells import row
from harness.report.board.chart import curves
from harness.report.board.gather import gather
from harness.report.board.sentences import about, about_claim
from harness.report.board.standings import make_boards
from harness.report.compare.ranking import rank
from harness.report.compare.summary import summary_table
from harness.report.compare.text import as_text
from harness.report.frames import load_frames
from harness.report.gate import baseline as gate_baseline
from harness.report.gate import verdict as gate
from harness.report.gate.verdict import FAIL, PASS, SKIP, Evidence, Side
from harness.report.groups import find_groups
from harness.report.integrity import check
from harness.report.peaks import known_peaks
from harness.report.run.table import end_table
from harness.report.run_data import load_run
from harness.report.study.table import disturbed as disturbed_trials
from harness.report.twin import best_record

CLASS = "cpu, x, 2 threads, python 3.11, revision 3"
BUSY, QUIET = 0.41, 0.004


def seeds(top, lane, taken=QUIET, n=3, **words):
    """`taken`: a share, or one a seed."""
    for seed in range(1, n + 1):
        of_seed = taken[seed - 1] if isinstance(taken, tuple) else taken
        write_run(top / lane / str(seed), seed=seed, lane=lane, offset=0.003 * (seed % 3), hardware_class=CLASS,
                  finished_at=f"2026-01-{seed:02d}T00:00:00+00:00", taken=of_seed, **words)  # fmt: skip
    return top / lane


def group_of(folder):
    (found,) = find_groups([folder]).groups
    return found


def texts(standing, board):
    return {cell.key: cell.text for cell in row(standing, board.timed)}


@pytest.mark.parametrize("taken", [BUSY, (QUIET, BUSY, QUIET)])
def test_a_group_with_a_disturbed_seed_ranks_by_bits_below_those_on_time(tmp_path, taken):
    seeds(tmp_path, "fast-but-busy", taken=taken, step_s=0.1)
    seeds(tmp_path, "slow", step_s=0.3)
    (board,) = make_boards(find_groups([tmp_path]).groups)
    assert [(s.group.lane, s.rank, s.on_time) for s in board.standings] == [("slow", 1, True), ("fast-but-busy", 2, False)]
    busy, slow = texts(board.standings[1], board), texts(board.standings[0], board)
    assert (busy["to_target"], busy["rate"], busy["mfu"]) == ("disturbed", "–", "–") and busy["val"] != "–"
    assert "–" not in (slow["to_target"], slow["rate"])
    said = " ".join(about(board.standings[1], board))
    assert "Time: no claim, seed" in said and "other processes took 41.0% of the processor time of its 2 cores" in said
    assert "others took at most 0.4% of a seed's processor time" in " ".join(about(board.standings[0], board))
    assert board.holder.group.lane == "slow" and board.holder.on_time
    shown = [group.group for group in board.standings]
    assert "fast-but-busy" in curves(shown, board, "tokens") and "fast-but-busy" not in curves(shown, board, "train_s")


def test_a_record_of_the_first_revision_keeps_its_rank_on_time_and_a_later_one_that_says_nothing_has_none(tmp_path):
    for name, hardware_class in (("old", "cpu, x, python 3.11"), ("new", CLASS)):
        record = read_record(write_run(tmp_path / name / "1", hardware_class=hardware_class))
        assert bool(record.disturbed) == (name == "new")


def test_compare_ranks_no_seconds_of_a_disturbed_side_and_says_why(tmp_path):
    a, b = group_of(seeds(tmp_path, "a")), group_of(seeds(tmp_path, "b", taken=(QUIET, QUIET, BUSY)))
    by_name = {ranking.basis: ranking for ranking in rank(a, b)}
    assert "b, seed 3: other processes took 41.0%" in by_name["equal wall-clock"].refused
    assert not by_name["equal tokens"].refused and not by_name["equal memory"].refused
    from harness.report.compare.contract import contract

    text = as_text(a, b, contract(a, b, None, None), list(by_name.values()), [], everything=False)
    assert "target reached (no seconds: seed 3: other processes took" in text
    assert not {r.basis: r for r in rank(a, group_of(seeds(tmp_path, "c")))}["equal wall-clock"].refused


def test_tables_put_what_a_disturbed_run_took_in_parentheses(tmp_path):
    busy, quiet = group_of(seeds(tmp_path, "busy", taken=BUSY)), group_of(seeds(tmp_path, "quiet"))
    lines = summary_table([busy, quiet]).splitlines()
    of_busy, of_quiet = (next(line for line in lines if line.startswith(f"| {lane}")) for lane in ("busy", "quiet"))
    assert of_busy.count("(") == 3 and "(" not in of_quiet
    assert any(line.startswith("In parentheses, no claim about speed: busy, seed 1: other processes took") for line in lines)
    table = end_table(busy.runs[0], quiet.runs[0])
    assert " s)" in table and "on time   no claim about speed: other processes took 41.0%" in table
    assert "others took 41.0% of the processor time (bound 3%)" in table and "2,500 before, 2,400 middle" in table
    twin = end_table(quiet.runs[0], busy.runs[0])
    assert "no claim about its speed: other processes took" in twin and "on time   " not in twin


def test_a_twin_that_was_not_disturbed_stands_before_a_newer_one_that_was(tmp_path):
    seeds(tmp_path, "twin", taken=(QUIET, QUIET, BUSY))
    found = best_record([tmp_path], "twin", CLASS)
    assert found.folder.name == "2" and found.same_class


def test_studies_and_frames_leave_the_time_out(tmp_path):
    trials = [trial(tmp_path / "s", case, taken=taken, hardware_class=CLASS) for case, taken in (("a", QUIET), ("b", BUSY))]
    for each in trials:
        sign(each.folder)
    assert trials[0].tokens_per_second and trials[1].tokens_per_second is None
    assert disturbed_trials(trials).startswith("no time of b seed 1: other processes took 41.0%")
    frames = load_frames(tmp_path / "s")
    assert sorted(bool(why) for why in frames.records["disturbed"]) == [False, True]


def test_a_table_of_runs_in_mlflow_has_nothing_of_a_disturbed_clock_to_sort_by(tmp_path):
    busy, quiet = (read_record(write_run(tmp_path / str(taken), taken=taken)) for taken in (BUSY, QUIET))
    names = {taken: {point.name for point in of_record(record)} for taken, record in ((BUSY, busy), (QUIET, quiet))}
    assert names[BUSY] == {"run/peak_memory_bytes", "run/taken_share"}
    assert names[QUIET] >= {"run/time_to_target_s", "run/tokens_per_second", "run/train_s", "run/taken_share"}


def test_a_claim_keeps_what_disturbed_its_seeds(tmp_path, capsys):
    runs = seeds(tmp_path / "runs", "tiny-moe-16e", taken=(QUIET, BUSY, QUIET))
    assert main(["submit", str(runs), "--to", str(tmp_path / "results")]) == 0
    said = capsys.readouterr().out
    assert "no time is claimed: seed 2: other processes took 41.0%" in said and "seed 2 makes no claim about speed" in said
    (claim,) = (tmp_path / "results").rglob("claim-*.json")
    (submission,) = json.loads(claim.read_text())["submissions"]
    assert list(submission["disturbed"]) == ["2"] and "other processes took" in submission["disturbed"]["2"]
    board, standing = (found := gather([tmp_path / "results"])).standing_of(found.boards[0].standings[0].group)
    assert found.holds and not standing.on_time and standing.rank == 1 and about_claim(standing, board)


def a_probe(ratio=300.0, taken=None):
    scores = {"all": 8.0, "slice": 8.0, "masked": 8.0, "targets": 176.0, "expected": 8.0, "expected_targets": 176.0}
    timing = {"version": 1, "step_s": 0.03, "reference_s": 1e-4, "ratio": ratio, "taken": taken}
    return Probe(hardware_class="here", timing=timing, uniform=scores)


@pytest.mark.parametrize(
    "ours, status, said",
    [
        ([(400, BUSY)], SKIP, "not judged: others took 41% of the processor time or more whenever this checkout was timed"),
        ([(300, BUSY)], SKIP, "not judged"),
        ([(400, BUSY), (300, QUIET), (301, None)], PASS, "1 more not counted"),
        ([(300, BUSY), (400, QUIET), (400, QUIET)], FAIL, "1 more not counted"),
    ],
)
def test_the_gate_judges_no_speed_that_was_measured_while_others_took_the_machine(tmp_path, ours, status, said):
    run = load_run(write_run(tmp_path / "run"))
    side = Side("base main", ratios=[300, 302, 298], workload_version=1)
    outcome = gate.speed(Evidence(run, None, side, [a_probe(*each) for each in ours]))
    assert outcome.status == status and said in outcome.found


def test_the_gate_says_so_of_a_base_and_of_a_finished_run_too(tmp_path):
    run = load_run(write_run(tmp_path / "run", taken=BUSY))
    base = Side("base main", workload_version=1, untimed=gate.not_judged("base main", [BUSY]))
    outcome = gate.speed(Evidence(run, None, base, [a_probe()]))
    assert outcome.status == SKIP and "whenever base main was timed" in outcome.found
    alone = gate.speed(Evidence(run, None))
    assert alone.status == SKIP and "the run's own seconds are no claim: other processes took" in alone.found


def test_a_baseline_rests_on_no_disturbed_timing(tmp_path):
    runs = [load_run(write_run(tmp_path / str(seed), seed=seed)) for seed in (1, 2)]
    probes = [a_probe(300, QUIET), a_probe(500, BUSY), a_probe(301, None)]
    made = gate_baseline.updated(gate_baseline.empty("tiny-moe-16e"), runs, probes, "first", "2026-01-01")
    (plan,) = made.plans.values()
    (of_class,) = plan.classes.values()
    assert of_class.ratios == [300, 301]


@pytest.mark.parametrize("key", ["own_s", "others_s", "taken_s", "waited_s", "share", "threads"])
def test_a_figure_of_the_machine_that_its_windows_do_not_give_is_found(tmp_path, key):
    folder = write_run(tmp_path / "run", taken=BUSY)
    assert check(load_run(folder)) == []
    edit_record(folder, **{f"occupancy__{key}": 1})
    assert any(f"occupancy.{key} is 1" in sentence for sentence in check(load_run(folder)))


def test_words_that_do_not_fit_the_figures_and_figures_that_are_gone_are_found(tmp_path):
    folder = write_run(tmp_path / "words", taken=BUSY)
    edit_record(folder, untimed_reasons=[])
    assert any("untimed_reasons are []" in sentence for sentence in check(load_run(folder)))
    stripped = write_run(tmp_path / "stripped", taken=BUSY)
    record = json.loads((stripped / "record.json").read_text())
    del record["occupancy"], record["untimed_reasons"]
    (stripped / "record.json").write_text(json.dumps(record))
    sign(stripped)
    assert any("occupancy is missing, although its windows" in sentence for sentence in check(load_run(stripped)))


def test_a_window_whose_share_was_lowered_is_found(tmp_path):
    folder = write_run(tmp_path / "run", taken=BUSY)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    window = next(row for row in rows if row["kind"] == "window")
    window["occupancy"]["taken_s"] = 0.0
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(folder)
    assert any("the window of step 16 says others took 0.0 s" in sentence for sentence in check(load_run(folder)))


def test_the_best_peak_of_a_class_is_known_whatever_its_revision(tmp_path):
    for name, hardware_class, peak in (
        ("busy", CLASS, 1e11), ("old", "cpu, x, 2 threads, python 3.11", 4e11), ("other", "cpu, y, 2 threads", 9e11),
    ):  # fmt: skip
        edit_record(write_run(tmp_path / name, hardware_class=hardware_class), hardware__matmul_peak_flops=peak)
    found = known_peaks([tmp_path], CLASS)
    assert (found.matmul, found.folder.name) == (4e11, "old")
    assert known_peaks([tmp_path], "cpu, z").folder is None
