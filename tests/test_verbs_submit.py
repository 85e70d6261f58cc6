"""`submit`: what becomes a claim, what is refused, and that a claim notices what happens to its records."""

import json
import shutil
from pathlib import Path

import pytest
from micro import python
from report_factory import edit_record, write_run

from harness.__main__ import main
from harness.report.claims import check_claims
from harness.report.groups import find_groups


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
    assert "n = 3" in out and "significant (one-sided p = " in out and "independent seeds" in out
    claim = claim_of(results)
    assert claim["seeds"] == [1, 2, 3] and claim["stop_step"] == 384 and len(claim["records"]) == 3
    (group,) = find_groups([results]).groups
    assert group.seeds == (1, 2, 3) and check_claims(results) == []
    assert not list(results.rglob("*.part")) and not list(results.rglob("*.safetensors"))


def test_one_run_is_submitted_and_never_called_significant(runs, tmp_path, capsys):
    shutil.rmtree(runs / "2-plan"), shutil.rmtree(runs / "3-plan")
    assert submit(runs / "1-plan", "--to", tmp_path / "results") == 0
    out = capsys.readouterr().out
    assert "n = 1" in out and "; significant" not in out


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
    (runs / "4" / "stopped.json").write_text(json.dumps({"what": "loss is NaN at step 7"}))
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
        ("{}", "missing"),
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
