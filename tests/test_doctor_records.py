"""Doctor on records: no false alarm on golden ones, whole or cut short, and what cannot be trained here is written."""

import json
import math

import micro
import pytest
from golden_runs import GOLDEN, MOE, golden_fixture  # noqa: F401
from report_factory import edit_record, write_run

from harness.__main__ import main
from harness.doctor import thresholds
from harness.doctor.diagnose import diagnose
from harness.doctor.learning import settled_ratios
from harness.doctor.patient import Patient, read_patient
from tests.doctor_measure import measure_text


@pytest.mark.parametrize("name", GOLDEN)
def test_a_healthy_record_is_healthy(golden, name, capsys):
    assert main(["doctor", str(golden(name))]) == 0
    assert "verdict   healthy" in capsys.readouterr().out


@pytest.mark.parametrize("name", MOE)
def test_a_healthy_run_was_healthy_at_every_window_on_its_way(golden, name):
    """The first hundred steps are uneven in every run: whoever looks then must not be told to stop."""
    folder = golden(name)
    whole = read_patient(folder)
    for end in (row["step"] for row in whole.windows):
        rows = {kind: [row for row in of_kind if row["step"] <= end] for kind, of_kind in whole.rows.items()}
        so_far = Patient(folder, whole.plan, rows | {"final": []}, None, None)
        found = diagnose(so_far).findings
        assert not found, f"step {end}: {found[0].says}"


@pytest.mark.parametrize("name", MOE)
def test_the_bands_of_update_ratios_hold_what_they_were_measured_on(golden, name):
    """In the narrow band, before it is made wider."""
    for group, ratios in settled_ratios(read_patient(golden(name))).items():
        band, values = thresholds.MEASURED[group], sorted(ratio for _, ratio in ratios)
        low, high = band.low * thresholds.WIDER, band.high / thresholds.WIDER
        assert 0.98 * low <= values[len(values) // 2] <= 1.02 * high, group


def test_measure_prints_what_the_thresholds_rest_on(golden, capsys):
    home = [golden(name) for name in MOE][0].parents[2]
    said = measure_text(home)
    assert f"{len(MOE)} records" in said and "update router" in said and "cv at most" in said
    assert main(["doctor", "--thresholds"]) == 0
    said = capsys.readouterr().out
    assert "dominant" in said and "common rule" in said and "committed" in said


@pytest.fixture
def run(tmp_path):
    """A healthy synthetic run of 384 steps: 4 layers, 16 experts, top-4, with updates of the usual size."""
    folder = write_run(tmp_path / "runs" / "tiny-moe-16e" / "1-0123abcd")

    def as_usual(row):
        for group, rms in row["groups"].items():
            rms["update_rms"] = rms["param_rms"] * (thresholds.MEASURED[group].low * thresholds.MEASURED[group].high) ** 0.5

    edit(folder, from_step(0, as_usual))
    return folder


def edit(folder, change):
    """Rewrites metrics.jsonl row by row; `change(row)` may alter it."""
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def findings(folder, control=None):
    return diagnose(read_patient(folder), read_patient(control) if control else None).findings


def from_step(step, change):
    """`change(row)` on the windows that end after `step`."""
    return lambda row: change(row) if row["kind"] == "window" and row["step"] > step else None


def give(layer, expert, share):
    """Gives an expert of a layer that share of its load; the others share the rest evenly."""

    def change(row):
        total = sum(row["counts"][layer])
        rest = (total - int(share * total)) // (len(row["counts"][layer]) - 1)
        row["counts"][layer] = [rest] * len(row["counts"][layer])
        row["counts"][layer][expert] = int(share * total)

    return change


def test_the_synthetic_run_itself_is_healthy(run):
    assert not findings(run)


def test_a_plan_with_huge_health_windows_does_not_dilute_what_the_last_one_shows(run):
    """Over half of the run, 192 steps, an expert that starved in the last 64 had tokens."""
    (run / "plan.yaml").write_text((run / "plan.yaml").read_text() + "health: {window_steps: 1000000}\n")

    def starve(row):
        row["counts"][2][5] = 0

    edit(run, from_step(384 - 64, starve))
    assert [finding.name for finding in findings(run)] == ["dead_experts"]


def test_dead_experts_are_dated_from_the_window_that_first_had_no_token_for_them(run):
    def starve(row):
        row["counts"][2][5] = row["counts"][2][11] = 0

    edit(run, from_step(288, starve))
    (dead,) = findings(run)
    assert (dead.name, dead.layers, dead.since) == ("dead_experts", (2,), 289)
    assert dead.evidence["experts"] == [5, 11] and "steps 321 to 384" in dead.says


def test_an_expert_that_starves_for_less_than_a_health_window_is_not_dead(run):
    edit(run, from_step(336, lambda row: row["counts"][2].__setitem__(5, 0)))
    assert not findings(run)


def test_an_expert_dead_on_val_alone_is_dead(run):
    edit(run, lambda row: row["counts"][1].__setitem__(3, 0) if row["kind"] == "final" else None)
    (dead,) = findings(run)
    assert dead.layers == (1,) and dead.evidence == {"experts": [3], "in_training": [], "on_val": [3]}


def test_an_expert_dominant_on_val_alone_is_dominant(run):
    edit(run, lambda row: give(1, 6, 0.249)(row) if row["kind"] == "final" else None)
    (finding,) = findings(run)
    assert (finding.name, finding.layers, finding.since) == ("dominant_expert", (1,), None) and "val" in finding.says


@pytest.mark.parametrize("share, name", [(0.245, "dominant_expert"), (0.2, "hot_expert")])
def test_an_expert_near_1_over_k_is_dominant_and_one_below_it_hot(run, share, name):
    edit(run, from_step(192, give(3, 7, share)))
    (finding,) = findings(run)
    assert (finding.name, finding.layers, finding.since) == (name, (3,), 193) and finding.evidence["expert"] == 7


def test_a_hot_expert_of_long_ago_is_no_finding(run):
    edit(run, lambda row: give(3, 7, 0.24)(row) if row["kind"] == "window" and row["step"] <= 192 else None)
    assert not findings(run)


def test_collapse_names_the_layer_that_went_first(run):
    def narrow(layer, experts):
        def change(row):
            total = sum(row["counts"][layer])
            row["counts"][layer] = [total // experts] * experts + [1] * (16 - experts)

        return change

    edit(run, from_step(256, narrow(0, 6)))
    edit(run, from_step(160, narrow(2, 7)))
    (collapse,) = [finding for finding in findings(run) if finding.name == "collapse"]
    assert collapse.layers == (2, 0) and collapse.since == 161
    assert collapse.evidence["began"] == {"2": 161, "0": 257} and "16.0 -> " in collapse.says or "15." in collapse.says


def test_a_load_that_narrows_window_by_window_is_found_before_it_has_collapsed(run):
    def narrower(row):
        experts = 16 - (row["step"] - 1) // 64
        total = sum(row["counts"][1])
        row["counts"][1] = [total // experts] * experts + [9] * (16 - experts)

    edit(run, from_step(0, narrower))
    (collapse,) = findings(run)
    assert collapse.name == "collapse" and collapse.layers == (1,)
    assert collapse.evidence["effective_experts"]["1"] > 10


@pytest.mark.parametrize("per_layer", [True, False])
def test_a_router_gradient_below_the_smallest_step_is_found_in_its_layer(run, per_layer):
    def telemetry(row):
        if row["kind"] == "window":
            step = row["groups"]["router"]["grad_rms"]
            row["precision"] = {"smallest_step": {"0": step / 9, "1": step * 9}}
            if per_layer:
                row["precision"]["router_grad_rms"] = {"0": step, "1": step / 2}

    edit(run, telemetry)
    (finding,) = findings(run)
    assert (finding.name, finding.layers) == ("router_gradient", (1,))
    assert finding.evidence["smallest_step"] / finding.evidence["router_grad_rms"] == pytest.approx(18 if per_layer else 9)


def test_a_run_without_precision_telemetry_is_not_asked_for_it(run):
    edit(run, lambda row: row.__setitem__("precision", None))
    assert not findings(run)


def test_a_bias_that_grows_while_the_load_stays_uneven_fights(run):
    def fight(row):
        give(1, 4, 0.2)(row)
        row["bias_range"][1] = row["step"] / 400

    edit(run, from_step(0, fight))
    fights = [finding for finding in findings(run) if finding.name == "balancing_fights"]
    assert not fights, "a plan without balancing has nothing that fights"
    with open(run / "plan.yaml", "a") as plan:
        plan.write("balance: {rule: bias, rate: 0.02}\n")
    (fight,) = [finding for finding in findings(run) if finding.name == "balancing_fights"]
    assert fight.layers == (1,) and "0.48 (step 192) to 0.96" in fight.says
    edit(run, from_step(192, lambda row: row["counts"].__setitem__(1, [sum(row["counts"][1]) // 16] * 16)))
    assert not findings(run), "a bias that grows and evens the load does its work"


def test_an_update_far_too_large_is_brought_back_by_that_group_alone(run):
    edit(run, from_step(0, lambda row: row["groups"]["expert"].__setitem__("update_rms", 0.03)))
    (finding,) = findings(run)
    assert finding.evidence["group"] == "expert" and finding.evidence["ratio"] > finding.evidence["band"][1]
    (word,) = finding.tries[0].words
    factor = float(word.removeprefix("optim.multipliers.expert="))
    low, high = finding.evidence["band"]
    assert low < finding.evidence["ratio"] * factor < high


def test_a_learned_router_ahead_of_its_hash_twin_is_healthy(run, tmp_path):
    twin = write_run(tmp_path / "hash", offset=0.05)
    text = (twin / "plan.yaml").read_text()
    (twin / "plan.yaml").write_text(text.replace("  num_experts: 16", "  num_experts: 16\n  router: hash"))
    assert not findings(run, twin)
    edit(run, lambda row: row.__setitem__("slice_bpb", row["slice_bpb"] + 0.05) if row["kind"] == "validation" else None)
    (finding,) = findings(run, twin)
    assert finding.name == "no_better_than_hash" and finding.evidence["step"] == 384


def test_routing_that_may_be_shuffled_means_nothing(run):
    own = json.loads((run / "record.json").read_text())["metrics"]["slice_bpb"]
    edit_record(run, metrics__slice_bpb_shuffled_routing=own + 0.004)
    (finding,) = findings(run)
    assert finding.name == "no_better_than_hash" and "+0.0040" in finding.says


def test_a_stop_without_counts_still_says_what_health_saw(run):
    (run / "record.json").unlink()
    stop = {"reason": "collapse", "step": 400, "what": "step 400, layer 1: expert 5 dominant", "remedy": "x", "checkpoints": []}
    (run / "stopped.json").write_text(json.dumps(stop))
    (finding,) = findings(run)
    assert finding.name == "stopped_collapse" and finding.says == stop["what"]


def test_what_a_stop_saw_counts_as_the_present(run):
    """The log ends at a window before the stop: the steps in between are in stopped.json alone."""
    (run / "record.json").unlink()
    logged = [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["kind"] == "window"]
    inside = [row["counts"] for row in logged if row["step"] > 336]
    counts = [[sum(column) for column in zip(*layers)] for layers in zip(*inside)]
    counts[2][6] += sum(counts[2])
    stop = {"reason": "collapse", "step": 400, "what": "", "remedy": "", "checkpoints": [], "counts": counts}
    (run / "stopped.json").write_text(json.dumps(stop))
    patient = read_patient(run)
    now = patient.health_windows[-1]
    assert (now.first, now.last) == (337, 400) and now.counts.tolist() == counts
    assert (patient.spans[-1].first, patient.spans[-1].last) == (385, 400)
    assert math.isclose(patient.spans[-1].counts[2, 6], sum(counts[2]) / 2, rel_tol=0.1)


def test_counts_of_another_model_are_refused(run, capsys):
    edit(run, from_step(300, lambda row: row["counts"].pop()))
    assert main(["doctor", str(run)]) == 2
    assert "does not belong to its plan" in capsys.readouterr().err


def test_a_folder_of_runs_names_the_runs_in_it(run, capsys):
    assert main(["doctor", str(run.parent)]) == 2
    assert str(run) in capsys.readouterr().err


@pytest.mark.process
def test_doctor_needs_no_torch(run):
    code = (
        "import sys; from harness.__main__ import main; status = main(['doctor', sys.argv[1]]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = micro.python(code, str(run))
    assert done.returncode == 0, done.stderr
