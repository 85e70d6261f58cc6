"""What the starting plan says of a machine that is busy, before anything is trained."""

from dataclasses import replace

import micro
import pytest
from micro import no_figures_fixture  # noqa: F401
from report_factory import edit_record, write_run

from harness.__main__ import main
from harness.launch.starting_plan import starting_plan
from harness.model.build import count_plan
from harness.plan.compose import compose
from harness.train import machine
from harness.train.occupancy import Look


@pytest.fixture
def plan_of(tmp_path):
    """The starting plan on a machine whose class is known for 400 GFLOP/s and that now measures `now`."""

    def told(now, taken, known=True):
        composed = compose([*micro.MOE, f"run.folder={tmp_path / 'runs'}"])
        here = replace(machine.detect(composed.plan), model="nowhere else", matmul_peak_flops=now)
        if known:
            folder = write_run(tmp_path / "runs" / "a" / "1", hardware_class=here.hardware_class)
            edit_record(folder, hardware__matmul_peak_flops=400e9)
        return starting_plan(composed, here, count_plan(composed.plan), taken)

    return told


def test_a_machine_far_below_the_peak_of_its_class_gets_two_estimates_and_the_reason(plan_of):
    said = plan_of(100e9, None)
    assert "at the 400 GFLOP/s of its class" in said and "at those measured now" in said
    assert "this machine is busy, or slower than its class" in said and "runs/a/1" in said


@pytest.mark.parametrize("now, known", [(390e9, True), (500e9, True), (100e9, False)])
def test_a_machine_that_reaches_the_peak_of_its_class_or_has_none_gets_one_estimate(plan_of, now, known):
    said = plan_of(now, 0.0, known)
    assert "of its class" not in said and "slow  " not in said and "busy  " not in said


def test_a_busy_machine_is_told_with_what_it_costs(plan_of):
    said = plan_of(400e9, 0.45)
    assert "machine busy: others take 45% of the processor time now" in said and "no rank on time" in said


def test_plan_and_speedrun_look_before_they_say_anything(monkeypatch, tmp_path, capsys, no_figures):
    monkeypatch.setattr(Look, "taken", lambda self, here: 0.34)
    assert main(["plan", *micro.MOE]) == 0
    assert "machine busy: others take 34%" in capsys.readouterr().out
    micro.run(tmp_path, "budget.tokens=2048")
    said = capsys.readouterr().out
    assert said.index("machine busy: others take 34%") < said.index("warming up")


@pytest.mark.parametrize(
    "words, says",
    [
        (["lane=physics-dense", "budget.tokens=501760"], None),
        (["lane=physics-dense", "budget.tokens=65536"], "the first 65,536 tokens of val"),
        (["lane=wiki-s-dense", "budget.tokens=1048576"], "all of val"),
        (["lane=wikitext-dense", "budget.tokens=1048576"], "at most the first 1,048,576 tokens of val"),
        (["lane=wiki-s-dense"], None),
    ],
)
def test_what_a_cut_budget_is_scored_on_is_said_before_anything_is_spent(words, says):
    composed = compose(["unranked=true", *words])
    here = replace(machine.detect(composed.plan), model="nowhere else")
    lines = starting_plan(composed, here, count_plan(composed.plan), None).splitlines()
    (scoring,) = [line for line in lines if line.startswith("scoring")] or [None]
    assert scoring is says is None or scoring.startswith(f"scoring   {says}  ")
    assert says != "all of val" or "without wikitext and core: make evaluate" in scoring
