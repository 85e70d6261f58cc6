"""The gate as a user meets it: bad words, a base commit, an update from finished runs, the workflow that CI runs."""

import subprocess
from dataclasses import replace

import micro
import pytest
import yaml
from micro import finished_fixture  # noqa: F401
from report_factory import write_run

from harness.__main__ import main
from harness.errors import UserError
from harness.launch import gate, gate_update, worktree
from harness.launch.checkout import Checkout, JobFailed
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.lanes import ROOT
from harness.record.documents import Probe
from harness.report.gate import baseline as gate_baseline
from harness.report.run_data import load_run

TIMING = {"version": 1, "step_s": 0.03, "reference_s": 1e-4, "ratio": 300.0, "quartiles": [290, 310], "rounds": 25}
UNIFORM = {"all": 8.0, "slice": 8.0, "masked": 8.0, "targets": 9.0, "expected": 8.0, "expected_targets": 9.0}


@pytest.fixture(name="pretended")
def pretended_fixture(monkeypatch, tmp_path, finished):
    """Training hands out one finished micro run, the probe a fixed measurement; calls are listed."""
    calls = []
    run = load_run(finished())

    def train(self, words, folder, name="train"):
        calls.append(("train", self.root))
        return run

    def probe(self, words, folder, name="probe"):
        calls.append(("probe", self.root))
        return Probe(hardware_class=run.record.hardware_class, timing=TIMING, uniform=UNIFORM)

    monkeypatch.setattr(Checkout, "train", train)
    monkeypatch.setattr(Checkout, "probe", probe)
    return run, calls


def the_gate(tmp_path, *words):
    return main(["gate", *micro.MOE, f"baselines={tmp_path / 'baselines'}", f"out={tmp_path / 'out'}", *words])


@pytest.mark.parametrize(
    "words, said",
    [
        (["lane=tiny-mo-16e"], "did you mean tiny-moe-16e?"),
        (["nowhere"], "neither key=value nor a run folder"),
        (["base=no-such-branch"], "unknown commit, branch or tag 'no-such-branch'"),
        (["base=--help"], "unknown commit"),
        (["base="], "base= has no value"),
        (["lane=tiny-moe-16e", "optim.muon.lr=0.5"], "has no baseline"),
        (["update", "lane=tiny-moe-16e"], "without a reason"),
        (["update", "lane=tiny-moe-16e", "reason= "], "without a reason"),
        (["update", "reason=x", "seeds=1,b"], "seeds=1,b"),
        (["update", "reason=x", "seeds=1,2"], "2 seeds"),
        (["update", "reason=x", "nowhere"], "neither key=value nor a run folder"),
    ],
)
def test_a_mistake_is_explained_and_starts_nothing(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.setattr(Checkout, "run", lambda *_: pytest.fail("something was started"))
    update = words[:1] == ["update"]
    own = [f"baselines={tmp_path / 'b'}", f"out={tmp_path / 'out'}"]
    assert main(["gate", *(words[:1] if update else []), *own, *(words[1:] if update else words)]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_plan_without_a_baseline_is_told_how_it_differs_from_the_nearest(tmp_path, pretended, capsys):
    run, _ = pretended
    made_baseline(tmp_path, run)
    assert the_gate(tmp_path, "optim.muon.lr=0.5") == 2
    assert "optim.muon.lr: 0.02 -> 0.5" in capsys.readouterr().err


def made_baseline(tmp_path, run):
    probes = [Probe(hardware_class="x", timing=TIMING | {"ratio": ratio}, uniform=UNIFORM) for ratio in (300, 301, 299)]
    made = gate_baseline.updated(gate_baseline.empty("tiny-moe-16e"), [run], probes, "first", "2026-01-01")
    gate_baseline.write(tmp_path / "baselines", made)


def test_a_run_equal_to_its_baseline_passes_and_leaves_its_verdict(tmp_path, pretended, capsys):
    run, calls = pretended
    made_baseline(tmp_path, run)
    assert the_gate(tmp_path) == 0
    assert "gate: passed (not judged: loss and bpb, router health)" in capsys.readouterr().out
    assert (tmp_path / "out" / "gate.md").exists() and (tmp_path / "out" / "gate.xml").exists()
    assert calls == [("train", ROOT), ("probe", ROOT)]


def test_a_slow_probe_is_measured_again_before_it_stands(tmp_path, pretended, monkeypatch, capsys):
    run, calls = pretended
    made_baseline(tmp_path, run)
    monkeypatch.setitem(TIMING, "ratio", 400.0)
    assert the_gate(tmp_path) == 1
    assert "FAILED by speed" in capsys.readouterr().out and len(calls) == 1 + 1 + gate.MORE_PROBES


def test_a_run_that_does_not_finish_fails_with_the_end_of_its_log(tmp_path, pretended, monkeypatch, capsys):
    made_baseline(tmp_path, pretended[0])

    def diverges(*_):
        raise JobFailed("training", 3, "stopped by health (divergence)")

    monkeypatch.setattr(Checkout, "train", diverges)
    assert the_gate(tmp_path) == 1
    assert "stopped by health (divergence)" in capsys.readouterr().out
    assert "status 3" in (tmp_path / "out" / "gate.xml").read_text()


def test_base_and_head_are_trained_once_and_timed_in_turns(tmp_path, pretended, capsys):
    _, calls = pretended
    assert the_gate(tmp_path, "base=HEAD") == 0
    sides = [(what, "head" if root == ROOT else "base") for what, root in calls]
    assert sides[:2] == [("train", "base"), ("train", "head")]
    timed = [side for what, side in sides if what == "probe"]
    assert timed in (["base", "head"] * gate.BASE_PROBES, ["head"] * gate.BASE_PROBES)  # the latter: HEAD has no probe yet
    assert "equal to base HEAD" in capsys.readouterr().out
    assert not any(root.exists() for _, root in calls if root != ROOT)


def test_a_worktree_holds_the_commit_and_leaves_nothing_behind():
    def listed() -> str:
        return subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    with worktree.worktree("HEAD") as there:
        assert there.commit == worktree.resolve("HEAD") and len(there.commit) == 40
        assert (there.root / "harness" / "__main__.py").exists()
        assert str(there.root) in listed()
    assert not there.root.exists()
    assert str(there.root) not in listed()  # other tests' worktrees may be there at the same moment


def test_an_update_trains_the_seeds_that_are_missing_and_keeps_earlier_reasons(tmp_path, pretended, monkeypatch, capsys):
    run, calls = pretended
    trained = []

    def train(self, words, folder, name="train"):
        trained.append(words)
        (seed,) = [int(word.removeprefix("seed=")) for word in words if word.startswith("seed=")]
        return replace(run, record=run.record.model_copy(update={"seed": seed}))

    monkeypatch.setattr(Checkout, "train", train)
    monkeypatch.setattr(gate_update, "_refuse", lambda *_: None)  # the pretended seeds contradict their plan.yaml
    places = [f"baselines={tmp_path / 'baselines'}", f"out={tmp_path / 'out'}"]
    assert main(["gate", "update", "reason=first", str(run.folder), *places]) == 0
    assert [words[-1] for words in trained] == ["seed=2", "seed=3"]
    assert {plan_hash(compose(words).plan) for words in trained} == {run.record.plan_hash}  # the finished run's own plan
    assert main(["gate", "update", "reason=second", "seeds=4,5,6", *micro.MOE, *places]) == 0
    found = gate_baseline.read(tmp_path / "baselines", "tiny-moe-16e")
    assert [(note.reason, note.seeds) for note in found.history] == [("first", [1, 2, 3]), ("second", [4, 5, 6])]
    (plan,) = found.plans.values()
    (of_class,) = plan.classes.values()
    assert sorted(of_class.seeds) == ["4", "5", "6"] and len(of_class.ratios) == gate_update.PROBES
    assert str(tmp_path) not in (tmp_path / "baselines" / "tiny-moe-16e.json").read_text()


@pytest.mark.parametrize(
    "named, given, expected",
    [
        (None, [], [1, 2, 3]),
        (None, [2], [1, 2, 3]),
        (None, [4, 7, 9, 11], [4, 7, 9, 11]),
        ([5, 6, 7], [], [5, 6, 7]),
        ([1, 2], [9], [1, 2, 9]),
    ],
)
def test_seeds_are_those_named_else_those_given_filled_up_to_three(named, given, expected):
    assert gate_update._seeds(named, given) == expected


def test_a_record_that_contradicts_itself_becomes_no_baseline(tmp_path, finished):
    from harness.plan.compose import compose

    run = load_run(finished())
    gate_update._refuse(run, compose(micro.MOE).plan)
    metrics = run.record.metrics.model_copy(update={"mfu": 0.5})
    run = replace(run, record=run.record.model_copy(update={"metrics": metrics}))
    with pytest.raises(UserError, match="contradicts itself"):
        gate_update._refuse(run, compose(micro.MOE).plan)
    with pytest.raises(UserError, match="these words make"):
        gate_update._refuse(load_run(write_run(tmp_path / "other")), compose(micro.MOE).plan)


def test_the_workflow_is_yaml_that_gates_pull_requests_against_main():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "gate.yml").read_text())
    assert "pull_request" in workflow[True]  # YAML 1.1 reads the key `on` as true
    steps = workflow["jobs"]["gate"]["steps"]
    assert all("@v" in step["uses"] for step in steps if "uses" in step)
    (gated,) = [step["run"] for step in steps if "make gate" in step.get("run", "")]
    assert "BASE=origin/main" in gated
