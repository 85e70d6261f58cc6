"""What a study shows of its trials: numbers by hand, a table, and a figure of each kind, from records alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import micro
import numpy as np
import pytest
from golden_runs import golden_fixture  # noqa: F401
from report_factory import write_run
from study_factory import trial

from harness.__main__ import main
from harness.doctor.diagnose import troubles
from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.race import RACE, refuse_race
from harness.plan.study import FIGURES, OF_FAMILIES, Study, StudyFile, read_study, study_names, study_of
from harness.reading import validate
from harness.record.record_folders import record_folders
from harness.record.results import NamedStudy
from harness.report.groups import find_groups
from harness.report.study.folder import publish, read_folder, trials_in, write_study
from harness.report.study.table import study_table, tokens_per_parameter
from harness.report.study.trials import read_trial
from harness.report.twin import best_record

VERDICTS = {(case, seed): [] for case in ("even", "uneven") for seed in (1, 2)} | {
    ("uneven", 1): ["hot expert"], ("uneven", 2): ["hot expert", "collapse"],
}  # fmt: skip
CASES = {"even": "balance=bias", "uneven": "balance=none"}


def study(figure="rules", **words):
    return Study("example", "an example", "Is one even?", "tiny-moe-16e", figure, dict(CASES), **words)


@pytest.mark.slow
@pytest.mark.parametrize("name", study_names())
def test_every_case_of_a_study_is_a_plan_of_its_own_within_one_budget(name):
    found = read_study(name)
    plans = [compose(found.words(case)).plan for case in found.cases]
    starts = {(plan_hash(plan), found.fork(case)) for plan, case in zip(plans, found.cases)}
    assert len(starts) == len(plans)
    assert len(found.question) <= 90, "it is the figure's title"
    if found.figure == RACE:
        refuse_race(found.families, dict(zip(found.cases, plans)))
        return
    if found.figure == "formats":
        assert {plan.precision.format for plan in plans} > {"bf16"}, "no control"
        return
    if found.equal == "seconds":
        assert found.figure == "cost", "curves over tokens would not align"
        return
    assert len({plan.budget.tokens for plan in plans}) == 1
    assert len({tuple(step * p.batch.tokens_per_step for step in p.validation.steps) for p in plans}) == 1, (
        "curves do not align"
    )
    assert len({p.run.log_every_steps * p.batch.tokens_per_step for p in plans}) == 1, "windows do not align"
    widths = {p.model.ffn_width or (p.model.top_k + p.model.shared_experts) * p.model.expert_width for p in plans}
    assert len(widths) == 1 or found.inspects, "active widths differ"
    assert len(found.cases) == 2 * len(found.dials) + 2 or not found.families, "a case belongs to no family"


@pytest.mark.parametrize(
    "change, said",
    [({"question": ""}, "question is ''"), ({"figure": "pie"}, "expected load or"), ({"figure": "sweep"}, "needs an axis"),
     ({"figure": "sweep", "axis": "optim.nope"}, "axis optim.nope is no key"), ({"common": 5}, "common is 5"),
     ({"common": "seed=3"}, "seed=3 in common or a case"), ({"cases": {"a": "++seed=3"}}, "in common or a case"),
     ({"families": ["a", "b"]}, "which are two cases"), ({"figure": "doses"}, "doses of no families"),
     ({"figure": "signal"}, "figure signal of no families"),
     ({"figure": "doses", "families": ["a"]}, "which are two cases"),
     ({"figure": "doses", "families": ["a", "b"], "cases": {"a": "", "a-x-5": "", "b": ""}}, "doses of no families"),
     ({"parts": ["web"]}, "parts .*web.* of figure load, which shows none"),
     ({"colour": "red"}, "unknown field 'colour'"), ({"cases": {"a/b": ""}}, "a/b as a key"), ({"cases": {"a": 3}}, "a is 3"),
     *(({"cases": cases}, "not one fork=CASE@STEP of an earlier case") for cases in (
         {"a": "fork=b@3", "b": ""}, {"a": "", "b": "fork=a@0"}, {"a": "", "b": "fork=a"}, {"a": "", "b": "fork=a@1 fork=a@2"},
         {"a": "", "b": "fork=a@1", "c": "fork=b@1"}))],
)  # fmt: skip
def test_a_file_that_is_no_study_is_refused_with_what_is_wrong(change, said):
    content = {"title": "t", "question": "q?", "lane": "tiny-moe-16e", "figure": "load", "cases": {"a": ""}} | change
    with pytest.raises(UserError, match=said):
        validate(content, StudyFile, Path("studies/x.yaml"))


@pytest.mark.parametrize(
    "path", sorted((micro.ROOT / "results" / "studies").glob("*/study.json")), ids=lambda path: path.parent.name
)
def test_a_study_that_was_published_is_written_again_as_it_stands(path):
    stored = json.loads(path.read_text())["study"]
    content = NamedStudy(**study_of(stored["name"], NamedStudy(**stored)).content()).content()
    assert json.dumps(content) == json.dumps(stored)


def test_relative_load_entropy_and_dead_experts_are_those_of_the_final_scores(tmp_path):
    one = trial(tmp_path, "even", experts=4, top_k=2)
    rows = [json.loads(line) for line in (one.folder / "metrics.jsonl").read_text().splitlines()]
    final = next(row for row in rows if row["kind"] == "final")
    final["counts"] = [[2, 1, 1, 0]] + [[5, 5, 5, 5]] * 3
    (one.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_trial("even", 1, one.folder)
    assert found.load.relative[0].tolist() == [2, 1, 1, 0] and found.load.relative[1].tolist() == [1, 1, 1, 1]
    assert found.health.content() == {
        "worst_entropy_ratio": pytest.approx(0.75), "busiest": 2.0, "dead": 1, "experts": 16
    }  # fmt: skip


def test_update_ratios_are_medians_over_the_second_quarter_of_the_budget(tmp_path):
    one = trial(tmp_path, "even")
    budget = one.plan["budget"]["tokens"]
    for row in one.rows["window"]:
        inside = budget / 4 < row["tokens"] <= budget / 2
        row["groups"]["expert"] = {"update_rms": 3.0 if inside else 100.0, "param_rms": 2.0, "grad_rms": 1.0}
        row["groups"]["router"] = {"update_rms": 0.0, "param_rms": 2.0, "grad_rms": 1.0}
    assert one.updates["expert"] == 1.5 and "router" not in one.updates and "dense" in one.updates


def test_a_stopped_run_is_read_from_what_health_saw_and_has_no_bits_per_byte(tmp_path):
    one = trial(tmp_path, "uneven", stopped=130)
    assert one.bpb is None and one.stopped == "stopped by health (collapse) at step 130" and one.curve[-1][0] == 128 * 4096
    path = one.folder / "stopped.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"counts": [[16] + [0] * 15] * 4}))
    assert read_trial("uneven", 1, one.folder).health.dead == 60
    (one.folder / "stopped.json").unlink()
    with pytest.raises(UserError, match="has not ended"):
        read_trial("uneven", 1, one.folder)


def test_the_table_has_means_of_what_finished_and_the_worst_of_all(tmp_path):
    reasons = ("model.router=hash instead of sigmoid_topk", "validation.steps=[1] instead of [2]")
    trials = [
        trial(tmp_path, "even", 1, step_s=0.2, reasons=reasons), trial(tmp_path, "even", 2, step_s=0.2, offset=0.1),
        trial(tmp_path, "uneven", 1, step_s=0.3, dead=2), trial(tmp_path, "uneven", 2, stopped=64, dead=3),
    ]  # fmt: skip
    table = study_table(study(common="optim.clip_norm=1"), trials, VERDICTS)
    even, uneven = (line.split(" | ") for line in table.splitlines() if line.startswith(("| even", "| uneven")))
    assert even[2] == "2" and "±" in even[3] and even[5] == "-" and even[9:] == ["1.00x", "healthy", "whole |"]
    assert uneven[1:3] == ["`balance=none`", "1 of 2"] and uneven[8:10] == ["3 of 64", "1.50x"]
    bits = [one.record.metrics.val_bpb for one in (trials[2], trials[0])]
    assert uneven[5] == f"{100 * (bits[0] / bits[1] - 1):+.2f}%"  # seed 1 finished on both sides
    assert uneven[10] == "hot expert (2 of 2), collapse (1 of 2)" and "optim.clip_norm=1" in table
    assert "seed 2 stopped by health (collapse) at step 64" in uneven[11]
    assert "Unranked: even: model.router=hash instead of sigmoid_topk; other validation.steps." in table
    record = trials[0].record
    active, total = (f"{record.metrics.tokens / n:.3g}" for n in (record.counts.params_active, record.counts.params_total))
    assert f"Tokens per active and per total parameter: {active} and {total} (even, uneven)." in table


def test_of_many_cases_with_one_ratio_their_number_is_said(tmp_path):
    trials = [trial(tmp_path, f"case-{number}") for number in range(8)]
    by_case = {one.case: [one] for one in trials}
    assert tokens_per_parameter(by_case).endswith("(case-0 and 7 more cases).")
    assert tokens_per_parameter({"stopped": [trial(tmp_path, "stopped", stopped=64)]}) == ""


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_drawn_the_same_twice_with_sick_stopped_and_single_runs(tmp_path, figure):
    trials = [
        trial(tmp_path, "even", 1, experts=64), trial(tmp_path, "uneven", 1, spread=2.0, dead=5, reasons=("unranked=true",)),
        trial(tmp_path, "uneven", 2, spread=2.0, stopped=130),
    ]  # fmt: skip
    axis, words = "batch.tokens_per_step", {}
    if figure in ("doses", *OF_FAMILIES, RACE):
        dials, equal = (("half", "x"), "line") if figure == RACE else (("x-5",), "tokens")
        cases = CASES | {f"{case}-{dial}": "" for case in CASES for dial in dials}
        words = {"families": list(CASES), "cases": cases, "equal": equal}
    asked = replace(study(figure, axis=axis), **words)
    for number, one in enumerate(trials):
        one.plan["batch"]["tokens_per_step"] = 4096 * (1 + number)
    written = [write_study(asked, trials, tmp_path / place, VERDICTS)[1].read_bytes() for place in ("one", "two")]
    assert written[0] == written[1] and len(written[0]) > 10_000
    nothing_finished = [one for one in trials if one.stop]
    assert write_study(asked, nothing_finished, tmp_path / "three", VERDICTS)[1].exists()


def test_a_dense_lane_has_no_load_but_a_cost(tmp_path):
    offsets = {"even": 0.0, "uneven": 0.01}
    folders = [write_run(tmp_path / case / "1", seed=1, experts=0, offset=offset) for case, offset in offsets.items()]
    trials = [read_trial(folder.parent.name, 1, folder) for folder in folders]
    table, figure, numbers = write_study(replace(study("cost"), lane="tiny-dense"), trials, tmp_path / "out", VERDICTS)
    row = next(line.split(" | ") for line in table.read_text().splitlines() if line.startswith("| uneven"))
    bits = [one.record.metrics.val_bpb for one in trials]
    assert row[5] == f"{100 * (bits[1] / bits[0] - 1):+.2f}%" != "+0.00%" and row[6:9] == ["-", "-", "-"]
    assert json.loads(numbers.read_text())["trials"][0]["health"] is None and figure.stat().st_size > 10_000


def test_the_table_of_two_families_says_what_a_dial_does_in_each_and_whether_it_does_more_in_one(tmp_path):
    gains = {"clear": (-0.01, -0.05), "noisy": (-0.02, -0.02)}  # by dial: what it adds in either family
    wobble = {1: 0.0, 2: 0.002, 3: -0.002}
    folders, cases = {}, {}
    for at, family in enumerate(("one", "two")):
        cases[family] = family
        for dial, gain in {"": (0.0, 0.0), **gains}.items():
            case = f"{family}-{dial}" if dial else family
            cases[case] = case
            for seed, noise in wobble.items():
                noise = noise * (at + 1) if dial == "noisy" else 0.0
                offset = gain[at] + noise + 0.1 * at
                folders[case, seed] = write_run(tmp_path / case / str(seed), seed=seed, experts=0, offset=offset)
    trials = [read_trial(case, seed, folder) for (case, seed), folder in folders.items()]
    asked = Study("example", "an example", "Q?", "tiny-dense", "cost", cases, families=["one", "two"])
    verdicts = {key: [] for key in folders}
    table = study_table(asked, trials, verdicts)
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table.splitlines()}
    assert asked.dials == list(gains)
    bits = {key: read_trial(*key, folder).record.metrics.val_bpb for key, folder in folders.items()}
    of_seed = [100 * (bits["two-clear", s] / bits["two", s] - bits["one-clear", s] / bits["one", s]) for s in wobble]
    assert f"{sum(of_seed) / 3:+.2f}%" in rows["clear"][3] and "does more for two" in rows["clear"][4]
    assert "no difference that 3 seeds resolve" in rows["noisy"][4]
    few = study_table(asked, [one for one in trials if one.seed < 3], verdicts)
    assert "n = 2: a verdict takes 3 seeds" in few


@pytest.mark.process
def test_a_published_study_holds_light_evidence_and_is_drawn_again_from_it_without_torch(tmp_path):
    trials = [trial(tmp_path, "even", 2), trial(tmp_path, "uneven", 1, stopped=130)]
    (trials[0].folder / "weights.safetensors").write_bytes(b"large")
    out = tmp_path / "out" / "example"
    table, figure, numbers = publish(study(), trials, out, {(one.case, one.seed): troubles(one.folder) for one in trials})
    assert (
        not list(out.rglob("*.safetensors"))
        and trials_in(out) == {("even", 2), ("uneven", 1)}
        and not (out.parent / ".example.part").exists()
    )
    assert len(list(out.rglob("metrics.jsonl.xz"))) == 2 and not list(out.rglob("metrics.jsonl"))
    assert [one.folder for one in read_folder(out)[1]] == [out / "even" / "2", out / "uneven" / "1"]
    drawn = json.loads(numbers.read_text())["trials"]
    assert drawn[0]["slice_bpb"] == trials[0].bpb and np.mean(drawn[0]["relative_load"]) == pytest.approx(1, abs=1e-3)
    before = {path: path.read_bytes() for path in (table, figure, numbers)}
    verdicts = [(one.case, one.seed, troubles(one.folder)) for one in trials]
    code = (
        "import sys; from pathlib import Path; from harness.report.study.folder import *; "
        f"out = Path(sys.argv[1]); write_study(*read_folder(out), out, {{(c, s): v for c, s, v in {verdicts!r}}}); "
        "import harness.report.study.check; sys.exit('torch' in sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", code, str(out)], cwd=micro.ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in before} == before
    publish(replace(study(), cases={"even": ""}), trials[:1], out, VERDICTS)
    assert not (out / "uneven").exists()


@pytest.mark.slow
def test_records_of_a_study_are_no_leaderboard_rows_and_no_twins_unless_it_is_named(tmp_path):
    one = trial(tmp_path / "runs", "even", lane="tiny-moe-16e")
    publish(study(), [one], tmp_path / "results" / "studies" / "example", VERDICTS)
    results = tmp_path / "results"
    assert find_groups([results]).groups == [] and best_record([results], "tiny-moe-16e", "any").folder is None
    assert len(record_folders([results], studies=True)) == 1
    assert len(find_groups([results / "studies" / "example"]).groups) == 1


@pytest.mark.slow
def test_a_folder_of_a_study_must_hold_whole_runs_of_its_cases(golden, tmp_path, capsys):
    run, out = golden("tiny-moe-16e"), tmp_path / "example"
    asked = replace(study(), lane="tiny-moe-16e", cases={"even": ""})
    publish(asked, [read_trial("even", 1, run)], out, VERDICTS)
    assert main(["study", "--from", str(out)]) == 0
    (out / "study.json").write_text((out / "study.json").read_text().replace('"even":""', '"even":"optim.muon.lr=0.5"'))
    assert main(["study", "--from", str(out)]) == 2
    assert "its plan is not that of case even" in capsys.readouterr().err
    (out / "study.json").write_text((out / "study.json").read_text().replace("optim.muon.lr=0.5", ""))
    (out / "even" / "1").rename(out / "even" / "2")
    assert main(["study", "--from", str(out)]) == 2
    assert "its plan has seed 1" in capsys.readouterr().err
