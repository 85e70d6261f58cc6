"""The gate's detectors, each of which passes and fails; its Markdown and XML; baselines. Synthetic records throughout."""

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import micro
import pytest
from report_factory import edit_record, sign, write_run

from harness.errors import UserError
from harness.record.documents import Probe
from harness.record.results import Baseline, Update
from harness.report.gate import baseline as gate_baseline
from harness.report.gate import noise as gate_noise
from harness.report.gate import output as gate_output
from harness.report.gate import verdict as gate
from harness.report.gate.baseline import figures
from harness.report.gate.verdict import FAIL, PASS, SKIP, Evidence, Side
from harness.report.run_data import load_run
from harness.report.statistics import Sample

SEEDS = (1, 2, 3, 4, 5, 6)
OFFSETS = {1: 0.0, 2: 0.004, 3: -0.003, 4: 0.002, 5: -0.004, 6: 0.001}
SHORT = {"steps": 192, "validations": (96, 144)}


def a_probe(ratio=300.0, version=1, **uniform):
    scores = {"all": 8.0, "slice": 8.0, "masked": 8.0, "targets": 176.0, "expected": 8.0, "expected_targets": 176.0}
    timing = {"version": version, "step_s": 0.03, "reference_s": 1e-4, "ratio": ratio, "quartiles": [290, 310], "rounds": 25}
    return Probe(hardware_class="here", timing=timing, uniform=scores | uniform)


def a_baseline(plans, history=()):
    return Baseline(schema_version=1, lane="tiny-moe-16e", history=list(history), plans=plans)


NONE = a_baseline({})
PROBES = [a_probe(ratio) for ratio in (300, 303, 298, 301, 297)]


def a_run(folder, seed=1, **words):
    return load_run(
        write_run(
            folder / f"run-{len(list(folder.iterdir()))}", seed=seed, **{"offset": OFFSETS.get(seed, 0.0), **SHORT, **words}
        )
    )


@pytest.fixture(name="baseline", scope="module")
def baseline_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    made = gate_baseline.updated(NONE, [a_run(folder, seed) for seed in SEEDS], PROBES, "first", "2026-01-02")
    (plan,) = made.plans.values()
    return plan


def edited_rows(run, change):
    """The run with `change` applied to every row of metrics.jsonl, signed."""
    path = run.folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(run.folder)
    return load_run(run.folder)


def edited(run, **changes):
    edit_record(run.folder, **changes)
    return load_run(run.folder)


def test_a_run_equal_to_its_baseline_passes_every_detector(tmp_path, baseline):
    outcomes = gate.judge(Evidence(a_run(tmp_path), baseline, probes=[a_probe()]))
    assert [o.status for o in outcomes] == [PASS] * 8, outcomes
    assert all(o.rule and o.found for o in outcomes)


def test_another_seed_passes_too_with_the_bits_not_judged(tmp_path, baseline):
    outcomes = gate.judge(Evidence(a_run(tmp_path, 77), baseline, probes=[a_probe()]))
    assert [o.status for o in outcomes] == [SKIP] + [PASS] * 7, outcomes


def test_bits_that_differ_name_the_first_window_and_the_remedy(tmp_path, baseline):
    def change(row):
        if row["kind"] == "window" and row["step"] >= 48:
            row["chain"] = "00" * 32

    run = edited(edited_rows(a_run(tmp_path), change), determinism__chain="00" * 32)
    outcome = gate.exact_bits(Evidence(run, baseline))
    assert outcome.status == FAIL and "window of steps 33 to 48" in outcome.reasons[0]
    assert "gate-update" in outcome.reasons[-1]


def test_other_weights_after_equal_steps_are_a_difference(tmp_path, baseline):
    run = edited(a_run(tmp_path), determinism__weights="00" * 32)
    assert "final weights differ" in gate.exact_bits(Evidence(run, baseline)).reasons[0]


def test_other_scores_of_equal_weights_are_a_change_of_scoring(tmp_path, baseline):
    run = a_run(tmp_path)
    run = edited(run, metrics__val_bpb=run.record.metrics.val_bpb / 1.01)
    outcome = gate.exact_bits(Evidence(run, baseline))
    assert outcome.status == FAIL and "scoring changed" in outcome.reasons[0]


def test_no_baseline_of_this_hardware_class_skips_bits_speed_and_memory_and_judges_the_rest(tmp_path, baseline):
    run = a_run(tmp_path, hardware_class="another")
    status = {o.detector: o.status for o in gate.judge(Evidence(run, baseline, probes=[a_probe()]))}
    assert {name for name, found in status.items() if found == SKIP} == {"exact bits", "speed", "peak memory"}
    assert set(status.values()) == {SKIP, PASS}
    worse = gate.loss_and_bpb(Evidence(a_run(tmp_path, hardware_class="another", offset=0.2), baseline))
    assert worse.status == FAIL and "hardware class cpu-amx" in worse.rule


def test_the_base_supplies_bits_memory_and_speed_where_there_is_no_baseline(tmp_path):
    run = a_run(tmp_path, hardware_class="another")
    peak = run.record.metrics.peak_memory_bytes
    base = Side("base main", figures(run), run.record.counts, [peak], [300, 301, 299], 1)
    good = gate.judge(Evidence(run, None, base, [a_probe(300), a_probe(302)]))
    assert [o.detector for o in good if o.status == SKIP] == ["loss and bpb", "router health"] and not gate_output.failed(good)
    other = replace(
        base, figures=figures(run).model_copy(update={"chain": "00", "windows": [(16, "00")]}), peaks=[peak // 2],
        ratios=[200, 201, 199],
    )  # fmt: skip
    bad = gate.judge(Evidence(run, None, other, [a_probe(300), a_probe(302)]))
    assert [o.detector for o in gate_output.failed(bad)] == ["exact bits", "speed", "peak memory"]
    assert all("base main" in o.reasons[0] for o in gate_output.failed(bad))


def test_bits_that_differ_from_the_base_pass_where_a_newer_baseline_states_why(tmp_path):
    run = a_run(tmp_path)
    base = Side("base main", figures(run).model_copy(update={"weights": "00"}), stated="Muon takes 4 iterations")
    outcome = gate.exact_bits(Evidence(run, None, base))
    assert outcome.status == PASS and "Muon takes 4 iterations" in outcome.found


def test_a_base_with_another_plan_fails_and_names_the_keys(tmp_path):
    run = a_run(tmp_path)
    base = Side("base main", figures(run), changed_plan=("optim.muon.lr: 0.02 -> 0.03",))
    assert "optim.muon.lr: 0.02 -> 0.03" in gate.exact_bits(Evidence(run, None, base)).reasons[0]


@pytest.mark.parametrize("offset, said", [(0.2, "regression"), (-0.2, "implausibly fast convergence")])
def test_losses_outside_seed_noise_fail_on_both_sides(tmp_path, baseline, offset, said):
    outcome = gate.loss_and_bpb(Evidence(a_run(tmp_path, 77, offset=offset), baseline))
    assert outcome.status == FAIL and all(said in reason for reason in outcome.reasons)
    assert "n = 6 seeds" in outcome.rule and "99% for all" in outcome.rule


def test_a_training_loss_that_is_off_in_one_part_only_is_found(tmp_path, baseline):
    def change(row):
        if row["kind"] == "step" and 49 <= row["step"] <= 96:
            row["loss"] += 0.5

    outcome = gate.loss_and_bpb(Evidence(edited_rows(a_run(tmp_path, 77), change), baseline))
    assert len(outcome.reasons) == 1 and "part 2 of 4" in outcome.reasons[0]


def test_one_seed_is_no_measure_of_noise(tmp_path, baseline):
    (name,) = baseline.classes
    one = baseline.classes[name].model_copy(update={"seeds": {"1": baseline.classes[name].seeds["1"]}})
    only = baseline.model_copy(update={"classes": {name: one}})
    outcome = gate.loss_and_bpb(Evidence(a_run(tmp_path, 77, offset=3.0), only))
    assert outcome.status == SKIP and "n = 1" in outcome.found


def test_more_comparisons_widen_each_interval():
    comparison = gate_noise.Comparison("x", 1.0, Sample.of([1.0, 1.1, 0.9, 1.05]), gate_noise.BOTH, "")
    (low_1, high_1), (low_20, high_20) = comparison.interval(1), comparison.interval(20)
    assert low_20 < low_1 < 1.0125 < high_1 < high_20
    assert (low_1, high_1) == comparison.seeds.prediction(0.99)


@pytest.mark.parametrize(
    "words, row, said",
    [
        ({"dead": 2}, {}, "dead experts 2"),
        ({}, {"bias_range": [0.0] * 4}, "bias range"),
        ({}, {"bias_range": [9.0] * 4}, "bias range"),
    ],
)
def test_router_health_outside_the_seeds_range_fails(tmp_path, baseline, words, row, said):
    run = edited_rows(a_run(tmp_path, 77, **words), lambda found: found.update(row if found["kind"] == "window" else {}))
    outcome = gate.router_health(Evidence(run, baseline))
    assert outcome.status == FAIL and said in " ".join(outcome.reasons)


@pytest.mark.parametrize(
    "key, value, said", [("max_load_percent", 12.0, "max load"), ("worst_entropy_ratio", 0.9, "worst entropy")]
)
def test_a_less_even_router_fails_and_a_more_even_one_passes(tmp_path, baseline, key, value, said):
    run = edited(a_run(tmp_path, 77), **{f"router_health__{key}": value})
    outcome = gate.router_health(Evidence(run, baseline))
    assert outcome.status == FAIL and said in outcome.reasons[0]
    even = {"max_load_percent": 6.3, "worst_entropy_ratio": 1.0}[key]
    assert gate.router_health(Evidence(edited(run, **{f"router_health__{key}": even}), baseline)).status == PASS


def test_a_dense_model_has_no_router_to_judge(tmp_path):
    assert gate.router_health(Evidence(a_run(tmp_path, experts=0, lane="tiny-dense"))).status == SKIP


@pytest.mark.parametrize("ratio, status", [(300, PASS), (310, PASS), (375, FAIL), (200, PASS)])
def test_a_slower_step_fails_and_a_faster_one_passes(tmp_path, baseline, ratio, status):
    outcome = gate.speed(Evidence(a_run(tmp_path), baseline, probes=[a_probe(ratio)]))
    assert outcome.status == status, outcome


def test_the_allowed_slowdown_follows_the_measured_spread():
    steady, shaky = [300, 301, 299, 300, 300], [300, 340, 260, 320, 280]
    assert gate_noise.slowdown([375], steady) == (pytest.approx(0.25), pytest.approx(0.0119, abs=1e-3))
    slower, allowed = gate_noise.slowdown([375], shaky)
    assert slower == pytest.approx(0.25) and allowed > 0.25
    assert gate_noise.slowdown([375, 374, 376], shaky)[1] < allowed


def test_ratios_to_another_workload_are_not_compared(tmp_path, baseline):
    assert gate.speed(Evidence(a_run(tmp_path), baseline, probes=[a_probe(900, version=2)])).status == SKIP


@pytest.mark.parametrize("share, status", [(1.0, PASS), (1.09, PASS), (1.12, FAIL), (0.5, PASS)])
def test_a_peak_more_than_a_tenth_higher_fails(tmp_path, baseline, share, status):
    run = a_run(tmp_path)
    run = edited(run, metrics__peak_memory_bytes=int(share * run.record.metrics.peak_memory_bytes))
    assert gate.peak_memory(Evidence(run, baseline)).status == status


def test_one_parameter_more_fails(tmp_path, baseline):
    run = edited(a_run(tmp_path), counts__params_total=5390001)
    outcome = gate.counts(Evidence(run, baseline))
    assert outcome.status == FAIL and "5,390,001 instead of 5,390,000" in outcome.reasons[0]


def test_a_record_that_contradicts_itself_fails(tmp_path, baseline):
    run = edited(a_run(tmp_path), metrics__tokens_per_second=1e6)
    assert "tokens_per_second" in gate.record_integrity(Evidence(run, baseline)).reasons[0]


@pytest.mark.parametrize(
    "wrong", [{"all": 8 / 1.01}, {"slice": 8.00001}, {"masked": 7.9}, {"targets": 175.0}, {"all": math.inf}]
)
def test_a_scorer_that_does_not_give_a_uniform_model_its_bits_fails(tmp_path, baseline, wrong):
    assert gate.scorer(Evidence(a_run(tmp_path), baseline, probes=[a_probe()])).status == PASS
    assert gate.scorer(Evidence(a_run(tmp_path), baseline, probes=[a_probe(**wrong)])).status == FAIL


def test_markdown_and_xml_name_every_detector_once(tmp_path, baseline, monkeypatch):
    run = edited(a_run(tmp_path, 77), counts__params_total=1)
    outcomes = gate.judge(Evidence(run, baseline, probes=[a_probe()]))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    out = tmp_path / "not" / "there"
    gate_output.write(out, "gate: a | b", outcomes)
    rows = [line for line in (out / "gate.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(outcomes) and all(row.count(" | ") == 3 for row in rows)
    assert "**gate: FAILED by counts (not judged: exact bits)**" in (out / "gate.md").read_text()
    assert (tmp_path / "summary.md").read_text() == (out / "gate.md").read_text()
    suite = ElementTree.parse(out / "gate.xml").getroot()
    assert [case.get("name") for case in suite] == [o.detector for o in outcomes]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("8", "1", "1")
    assert len(suite.findall("testcase/failure")) == 1 and len(suite.findall("testcase/skipped")) == 1
    assert "counts" in gate_output.table("t", outcomes) and "FAILED by counts" in gate_output.conclusion(outcomes)


def test_a_logs_control_characters_do_not_break_the_xml():
    outcome = gate.Outcome("run", FAIL, "did not finish", "rule", ("\x1b[Kstopped & <lost>\x00",))
    assert "stopped & <lost>" in ElementTree.fromstring(gate_output.junit("t", [outcome])).find("testcase/failure").text


NOTE = {
    "date": "2026-01-01",
    "commit": "c0ffee",
    "reason": "first",
    "plan_hash": "hash",
    "hardware_class": "here",
    "seeds": [1],
}


def test_a_baseline_comes_back_as_it_was_written(tmp_path, baseline):
    whole = a_baseline({"hash": baseline}, [Update(**NOTE)])
    gate_baseline.write(tmp_path, whole)
    assert gate_baseline.read(tmp_path, "tiny-moe-16e") == whole


def test_an_update_keeps_every_reason_and_other_classes(tmp_path):
    first = gate_baseline.updated(NONE, [a_run(tmp_path, s) for s in (1, 2, 3)], PROBES, "first", "d1")
    elsewhere = [a_run(tmp_path, s, hardware_class="another") for s in (1, 2, 3)]
    second = gate_baseline.updated(first, elsewhere, PROBES, "a second machine", "d2")
    third = gate_baseline.updated(second, [a_run(tmp_path, s) for s in (4, 5, 6)], PROBES, "  faster  ", "d3")
    assert [note.reason for note in third.history] == ["first", "a second machine", "faster"]
    (plan,) = third.plans.values()
    assert {name: sorted(found.seeds) for name, found in plan.classes.items()} == {
        "another": ["1", "2", "3"],
        "cpu-amx_bf16-2t-torch2.13.0": ["4", "5", "6"],
    }
    assert "run" not in plan.plan and "seed" not in plan.plan


@pytest.mark.parametrize("reason", ["", "   "])
def test_an_update_without_a_reason_is_refused(tmp_path, reason):
    with pytest.raises(UserError, match="without a reason"):
        gate_baseline.updated(NONE, [a_run(tmp_path)], PROBES, reason, "d")


def test_runs_of_two_machines_or_twice_one_seed_make_no_baseline(tmp_path):
    for runs in ([a_run(tmp_path, 1), a_run(tmp_path, 2, hardware_class="x")], [a_run(tmp_path, 1), a_run(tmp_path, 1)]):
        with pytest.raises(UserError, match="speed_class|one run a seed"):
            gate_baseline.updated(NONE, runs, PROBES, "why", "d")


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda text: text[: len(text) // 2], "truncated or corrupt"),
        (lambda text: "[]", "truncated or corrupt"),
        (
            lambda text: text.replace('"val_bpb": ', '"val_bpb": "x", "was": ', 1),
            "seeds.1.val_bpb is 'x', expected",
        ),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 99'), "schema version 99"),
        (lambda text: text.replace('"lane": "tiny-moe-16e"', '"lane": "other"', 1), "baseline of lane other"),
    ],
)
def test_a_damaged_baseline_is_named(tmp_path, baseline, damage, said):
    path = gate_baseline.write(tmp_path, a_baseline({"hash": baseline}))
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=said):
        gate_baseline.read(tmp_path, "tiny-moe-16e")


@pytest.mark.process
def test_the_verdict_on_a_finished_run_needs_no_torch(tmp_path, baseline):
    run = a_run(tmp_path)
    gate_baseline.write(tmp_path / "baselines", a_baseline({run.record.plan_hash: baseline}))
    code = (
        "import sys; from harness.__main__ import main; status = main(['gate', *sys.argv[1:]]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = micro.python(code, str(run.folder), f"baselines={tmp_path / 'baselines'}")
    assert done.returncode == 0, done.stderr
    assert "gate: passed (not judged: speed, scorer)" in done.stdout
    edited(run, counts__params_total=1)
    assert micro.python(code, str(run.folder), f"baselines={tmp_path / 'baselines'}").returncode == 1
