"""`submit`: what becomes a claim, what is refused, and that a claim notices what happens to its records."""

import html
import json
import shutil
from pathlib import Path

import pytest
from micro import python
from report_factory import edit_record, set_val, write_run

from harness.__main__ import main
from harness.report.board.claims import check_claims
from harness.report.groups import Group, find_groups
from harness.report.statistics import ASSUMES, welch


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three seeds of tiny-moe-16e."""
    folder = tmp_path / "runs" / "tiny-moe-16e"
    for seed in (1, 2, 3):
        write_run(folder / f"{seed}-plan", seed=seed, offset=0.002 * seed)
    return folder


def submit(*words: object) -> int:
    return main(["submit", *map(str, words)])


def claim_of(results: Path) -> dict:
    (path,) = results.rglob("claim-*.json")
    return json.loads(path.read_text())


def test_three_seeds_become_records_and_a_claim(runs, tmp_path, capsys):
    results = tmp_path / "results"
    assert submit(runs, "--to", results) == 0
    out = capsys.readouterr().out
    assert "n = 3" in out and ": significant, assuming independent seeds" in out
    claim = claim_of(results)
    assert claim["seeds"] == [1, 2, 3] and claim["stop_step"] == 384 and len(claim["records"]) == 3
    (group,) = find_groups([results]).groups
    assert group.seeds == (1, 2, 3) and check_claims(results) == []
    assert not list(results.rglob("*.part")) and not list(results.rglob("*.safetensors"))
    assert len(list(results.rglob("metrics.jsonl.xz"))) == 3 and not list(results.rglob("metrics.jsonl"))
    assert len(list(runs.glob("*/metrics.jsonl"))) == 3  # the runs' own stay as they are


def test_records_are_submitted_elsewhere_with_the_same_bytes(runs, tmp_path):
    first, second = tmp_path / "results", tmp_path / "other"
    assert submit(runs, "--to", first) == submit(first, "--to", second) == 0
    files = [{path.relative_to(top): path.read_bytes() for path in top.glob("*/*/*")}
             for top in (first, second)]  # fmt: skip
    assert files[0] == files[1] and len(files[0]) == 12


def test_one_run_is_submitted_and_never_called_significant(runs, tmp_path, capsys):
    shutil.rmtree(runs / "2-plan"), shutil.rmtree(runs / "3-plan")
    assert submit(runs / "1-plan", "--to", tmp_path / "results") == 0
    out = capsys.readouterr().out
    assert "Not a claim: n = 1" in out and ": significant" not in out


def refused(capsys, results: Path, *words: object) -> str:
    """The message of a submission that must change nothing."""
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert submit(*words, "--to", results) == 2
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
    return capsys.readouterr().err


def test_an_unranked_run_is_refused_with_its_reason(runs, tmp_path, capsys):
    edit_record(runs / "2-plan", ranked=False, unranked_reasons=["resumed 2 times"], resumes=2)
    assert "2-plan is unranked: resumed 2 times" in refused(capsys, tmp_path / "results", *sorted(runs.iterdir()))


def test_an_edited_run_is_refused_with_what_was_edited(runs, tmp_path, capsys):
    edit_record(runs / "2-plan", metrics__val_bpb=1.2)
    assert "metrics.val_bpb is 1.2" in refused(capsys, tmp_path / "results", runs)


def test_a_ranked_seed_left_out_is_refused(runs, tmp_path, capsys):
    words = [runs / "1-plan", runs / "2-plan"]
    assert "left out: seed 3" in refused(capsys, tmp_path / "results", *words)


def test_runs_of_two_plans_are_refused(runs, tmp_path, capsys):
    write_run(tmp_path / "runs" / "tiny-dense" / "1", lane="tiny-dense", experts=0)
    assert "not seeds of one plan" in refused(capsys, tmp_path / "results", tmp_path / "runs")


def test_a_seed_counts_once(runs, tmp_path, capsys):
    write_run(runs / "1-plan.2", seed=1)
    assert "seed 1: " in refused(capsys, tmp_path / "results", runs)


def test_a_seed_already_claimed_is_refused_unless_replaced_with_a_reason(runs, tmp_path, capsys):
    results = tmp_path / "results"
    submit(runs, "--to", results)
    assert "in " in refused(capsys, results, runs)
    assert "without a reason" in refused(capsys, results, runs, "--replace", " ")
    assert submit(runs, "--to", results, "--replace", "the clock of the first machine was wrong") == 0
    claim = claim_of(results)
    assert claim["replaced"][0]["reason"] == "the clock of the first machine was wrong"
    assert len(list(results.rglob("record.json"))) == 3 and check_claims(results) == []


def test_neither_a_lane_nor_a_claim_leads_out_of_the_folder_of_records(runs, tmp_path, capsys):
    results, outside = tmp_path / "results", tmp_path / "outside"
    write_run(tmp_path / "other" / "1", lane="../outside", seed=1)
    assert "lane is '../outside'" in refused(capsys, results, tmp_path / "other")
    outside.mkdir()
    submit(runs, "--to", results)
    (path,) = results.rglob("claim-*.json")
    claim = json.loads(path.read_text())
    path.write_text(json.dumps(claim | {"records": claim["records"] | {"../../outside": "ab"}}))
    capsys.readouterr()
    assert "'../../outside'" in refused(capsys, results, runs, "--replace", "all of it")
    assert outside.is_dir()


def test_a_later_seed_joins_the_claim_and_is_seen_to_be_later(runs, tmp_path, capsys):
    results, late = tmp_path / "results", tmp_path / "late"
    submit(runs, "--to", results)
    write_run(late / "4", seed=4)
    assert submit(late / "4", "--to", results) == 0
    assert "2 submissions" in capsys.readouterr().out
    assert claim_of(results)["seeds"] == [1, 2, 3, 4] and check_claims(results) == []


def test_a_later_seed_beside_the_claimed_ones_joins_and_one_left_out_is_still_refused(runs, tmp_path, capsys):
    results = tmp_path / "results"
    submit(runs, "--to", results)
    write_run(runs / "4-plan", seed=4)
    write_run(runs / "5-plan", seed=5)
    assert "seed 5" in refused(capsys, results, runs / "4-plan")
    assert "seed 1" in refused(capsys, results, runs / "4-plan", runs / "5-plan", "--replace", "another machine")
    assert submit(runs / "4-plan", runs / "5-plan", "--to", results) == 0
    assert claim_of(results)["seeds"] == [1, 2, 3, 4, 5] and check_claims(results) == []


def test_failed_seeds_and_other_plans_tried_are_named(runs, tmp_path, capsys):
    identity = json.loads((runs / "1-plan" / "identity.json").read_text())
    for name, changes in {"4": {"seed": 4}, "5": {"seed": 5}, "other": {"plan_hash": "ab" * 32}}.items():
        (runs / name).mkdir()
        (runs / name / "identity.json").write_text(json.dumps(identity | changes))
    (runs / "4" / "stopped.json").write_text(
        json.dumps({"reason": "nan", "step": 7, "what": "loss is NaN at step 7", "remedy": "a lower rate"})
    )
    assert submit(runs, "--to", tmp_path / "results", "--trials", 3) == 0
    out = capsys.readouterr().out
    assert "seed 4 does not count: loss is NaN at step 7" in out and "seed 5 does not count: unfinished" in out
    assert "1 found beside the runs, 3 declared" in out


def test_a_seed_that_was_run_more_than_once_is_named_in_the_claim(runs, tmp_path, capsys):
    """The bits of a seed are the same each time, its seconds are not."""
    write_run(runs / "2-plan.2", seed=2, offset=0.004, step_s=0.2)
    assert submit(runs / "1-plan", runs / "2-plan.2", runs / "3-plan", "--to", tmp_path / "results") == 0
    assert "seed 2 was run 2 times" in capsys.readouterr().out
    (submission,) = claim_of(tmp_path / "results")["submissions"]
    assert submission["repeats"] == {"2": 2}


def test_seeds_that_are_not_the_first_ones_are_pointed_at(runs, tmp_path, capsys):
    shutil.rmtree(runs / "2-plan")
    assert submit(runs, "--to", tmp_path / "results") == 0
    assert "seeds 1, 3 are not 1 to 2" in capsys.readouterr().out
    write_run(tmp_path / "more" / "2-plan", seed=2)
    assert submit(tmp_path / "more", "--to", tmp_path / "results") == 0
    said = capsys.readouterr().out
    assert "are not 1 to" not in said and "was run 2" not in said and "none elsewhere can be seen" in said


def test_dropping_a_seed_or_exchanging_a_record_later_is_named(runs, tmp_path):
    results = tmp_path / "results"
    submit(runs, "--to", results)
    folders = sorted(path.parent for path in results.rglob("record.json"))
    edit_record(folders[0], metrics__peak_memory_bytes=5)
    shutil.rmtree(folders[1])
    found = " ".join(check_claims(results))
    assert "seed 2 was dropped" in found and "is not the record that was submitted" in found


@pytest.mark.parametrize(
    "content, named",
    [
        ("{", "truncated or corrupt"),
        ("[]", "no JSON object"),
        ('{"schema_version": 99}', "schema version 99"),
        ("{}", "no schema_version"),
        ('{"schema_version": 1, "lane": 5}', "lane is 5, expected a name"),
    ],
)
def test_a_claim_that_cannot_be_read_is_named(tmp_path, content, named):
    (tmp_path / "claim-x.json").write_text(content)
    (sentence,) = check_claims(tmp_path)
    assert named in sentence and "claim-x.json" in sentence


def test_a_mistyped_word_is_explained(tmp_path, capsys):
    assert submit(tmp_path, "--trails", 3) == 2
    assert "--trails" in capsys.readouterr().err
    assert submit(tmp_path / "nowhere") == 2
    assert "no folder" in capsys.readouterr().err


@pytest.mark.process
def test_a_submission_is_judged_without_torch(runs, tmp_path):
    code = (
        "import sys; from harness.__main__ import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = python(code, "submit", str(runs), "--to", str(tmp_path / "results"))
    assert done.returncode == 0, done.stderr


def test_no_time_is_claimed_for_a_format_that_is_emulated(tmp_path, capsys):
    folder = tmp_path / "runs" / "tiny-moe-16e-nvfp4"
    for seed in (1, 2, 3):
        write_run(folder / f"{seed}-plan", lane="tiny-moe-16e-nvfp4", seed=seed, precision="nvfp4", execution="emulated")
    assert submit(folder, "--to", tmp_path / "results") == 0
    out = capsys.readouterr().out
    assert "nvfp4 emulated: no time is claimed" in out and "s to target" not in out


# Offsets of the slice and figures of all of val, three seeds each, of the holder and of the plan submitted after it. Neither
# reaches the target, so bits per byte decide. The slice tells them apart where all of val does not, and the other way round.
CLEAR, NOISY = (0.001, 0.002, 0.003), (0.01, 0.09, -0.08)
DISAGREE = {
    "better on the slice alone, and takes the record": ((0.4, CLEAR), (2.0, NOISY), (0.3, CLEAR), (1.99, NOISY)),
    "better on the slice alone, and does not": ((0.4, CLEAR), (2.0, NOISY), (0.3, CLEAR), (2.01, NOISY)),
    "better on all of val alone": ((0.4, NOISY), (2.0, CLEAR), (0.39, NOISY), (1.9, CLEAR)),
}


def plan(folder: Path, lane: str, day: int, slice_bpb: tuple, val: tuple) -> Path:
    for seed in (1, 2, 3):
        run = write_run(folder / lane / str(seed), lane=lane, seed=seed, offset=slice_bpb[0] + slice_bpb[1][seed - 1],
                        finished_at=f"2026-01-{day:02d}T00:00:0{seed}+00:00")  # fmt: skip
        set_val(run, val[0] + val[1][seed - 1])
    return folder / lane


def better_by_the(metric: str, new: Group, held: Group) -> bool:
    return welch(new.sample(metric), held.sample(metric)).significant


@pytest.mark.parametrize("figures", DISAGREE.values(), ids=DISAGREE)
def test_submit_and_the_leaderboard_give_one_verdict_where_slice_and_all_of_val_disagree(figures, tmp_path, capsys):
    results, runs = tmp_path / "results", tmp_path / "runs"
    submit(plan(runs, "held", 1, *figures[:2]), "--to", results)
    capsys.readouterr()
    assert submit(plan(runs, "new", 2, *figures[2:]), "--to", results) == 0
    said = capsys.readouterr().out
    held, new = find_groups([results]).groups
    on_slice, on_val = (better_by_the(metric, new, held) for metric in ("slice_bpb", "val_bpb"))
    assert on_slice != on_val
    (verdict,) = [line.strip() for line in said.splitlines() if "on all of val than held" in line]
    assert verdict.endswith(": significant, " + ASSUMES + ".") == on_val
    assert verdict.endswith(": not significant, " + ASSUMES + ".") == (not on_val)
    assert main(["report", str(results), "--out", str(tmp_path / "board")]) == 0
    board = html.unescape((tmp_path / "board" / "LEADERBOARD.md").read_text())
    assert verdict.removeprefix("The holder before: ") in board
    takes_it = new.sample("val_bpb").mean < held.sample("val_bpb").mean
    assert ("this plan has held the record" in said) == takes_it == verdict.startswith("The holder before: ")


def test_the_holder_that_submit_names_is_on_the_board_of_native_formats_and_its_evidence_holds(tmp_path, capsys):
    results, runs = tmp_path / "results", tmp_path / "runs"
    submit(plan(runs, "held", 1, (0.4, CLEAR), (2.0, CLEAR)), "--to", results)
    for seed in (1, 2, 3):
        emulated = write_run(results / "emulated" / str(seed), lane="emulated", seed=seed, precision="nvfp4", offset=0.3,
                             execution="emulated", finished_at="2026-01-01T00:00:00Z")  # fmt: skip
        set_val(emulated, 1.0 + 0.001 * seed)
        edited = write_run(results / "edited" / str(seed), lane="edited", seed=seed, offset=0.3 + 0.001 * seed)
        edit_record(edited, metrics__val_bpb=1.1)
    capsys.readouterr()
    assert submit(plan(runs, "new", 2, (0.5, CLEAR), (2.1, CLEAR)), "--to", results) == 0
    said = capsys.readouterr()
    assert "Holder: 0.1000 bits per byte more on all of val than held;" in said.out
    assert "are left out of this" in said.err
