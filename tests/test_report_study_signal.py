"""A router's signal: what is read of windows, the table, and the figure."""

import json

import pytest
from report_factory import sign
from study_factory import trial

from harness.plan.study import Study, read_study
from harness.report.study import signal
from harness.report.study.folder import write_study
from harness.report.study.signal_table import signal_tables
from harness.report.study.trials import read_trial

CASES = {"bf16": "", "bf16-eps": "", "nvfp4": "", "nvfp4-eps": ""}


def study(figure="signal"):
    return Study("example", "an example", "Who is told?", "tiny-moe-16e", figure, dict(CASES), families=["bf16", "nvfp4"])


def made(home, case, seed):
    family, dial = signal.dial_of(study(), case)
    one = trial(home, case, seed, precision=family, steps=64)
    rows = [json.loads(line) for line in (one.folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "window":
            late = row["tokens"] > one.plan["budget"]["tokens"] / 2
            row["groups"]["router"] = {
                "grad_rms": (2e-4 if dial else 1e-6) * (2 if late else 1),
                "update_rms": 1e-3,
                "param_rms": 0.1,
            }
            if family == "nvfp4":
                row["precision"]["router_grad_rms"] = {"0": 1e-6, "1": 1e-3}
                row["precision"]["smallest_step"] = {"0": 1e-5, "1": 3e-5}
    (one.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(one.folder)
    return read_trial(case, seed, one.folder)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    home = tmp_path_factory.mktemp("signal")
    return [made(home, case, seed) for case in CASES for seed in (1, 2, 3)]


def test_figures_are_of_the_second_half_and_the_floor_of_low_formats_alone(trials):
    by_case = {one.case: one for one in trials}
    assert signal.gradient(by_case["bf16"]) == 2e-6 and signal.gradient(by_case["nvfp4-eps"]) == 4e-4
    assert signal.floor(by_case["bf16"]) is None and signal.floor(by_case["nvfp4"]) == pytest.approx(2e-5)
    assert signal.below(by_case["nvfp4"]) == 0.5 and signal.below(by_case["bf16-eps"]) is None
    assert signal.moved(by_case["bf16"]) == pytest.approx(0.01)
    metrics = by_case["bf16"].record.metrics
    assert signal.worth(by_case["bf16"]) == metrics.slice_bpb_shuffled_routing - metrics.slice_bpb


def test_the_table_and_the_figure(trials, tmp_path):
    rows = [line.split(" | ") for line in signal_tables(study(), trials) if line.startswith("| nvfp4")]
    assert rows[0][1:6] == ["3", "2.0e-06", "2.0e-05", "50%", "1.0e-02"]
    assert signal_tables(study("cost"), trials) == []
    verdicts = {(one.case, one.seed): [] for one in trials}
    drawn = [write_study(study(), trials, tmp_path / place, verdicts)[1].read_bytes() for place in ("a", "b")]
    assert drawn[0] == drawn[1] and len(drawn[0]) > 30_000


def test_the_starving_case_is_its_familys_and_a_dial_turns_one_thing():
    words = read_study("router-signal").words("nvfp4-eps")
    assert words[-5:-3] == ["precision.format=nvfp4", "init.embedding_std=0.02"]
    assert words[-3:] == ["optim.clip_norm=0.1", "optim.adamw.eps=0.001", "optim.adamw.eps=1e-8"]
