"""A step timed beside a fixed workload, and the scorer's check with a uniform model."""

import json

import micro
import pytest
import torch

from harness.__main__ import main
from harness.evaluate.bpb import Score
from harness.evaluate.uniform import uniform_scores
from harness.train import reference
from harness.train.reference import against_reference


def test_the_ratio_is_that_of_the_two_times(monkeypatch):
    """On a clock that only the works move: a busy machine cannot change what is divided by what."""
    now = 0.0

    def lasting(seconds):
        def work():
            nonlocal now
            now += seconds

        return work

    monkeypatch.setattr(reference, "BLOCK_S", 0.002)
    monkeypatch.setattr(reference.time, "perf_counter", lambda: now)
    timing = against_reference(lasting(0.004), lasting(0.001), "cpu")
    assert timing.ratio == pytest.approx(4) and timing.rounds >= reference.MIN_ROUNDS
    assert timing.quartiles[0] <= timing.ratio <= timing.quartiles[1]


def test_the_workload_repeats_itself_and_leaves_no_gradients():
    plan = micro.session().plan
    work = reference.reference(plan, torch.device("cpu"))
    work()
    work()
    held = [cell.cell_contents for cell in work.__closure__ if isinstance(cell.cell_contents, list)]
    parameters = [p for found in held for p in found]
    assert parameters and all(p.grad is None and bool(torch.isfinite(p).all()) for p in parameters)


@pytest.mark.parametrize("lane", [micro.MOE, micro.DENSE], ids=["moe", "dense"])
def test_a_uniform_model_scores_eight_bits_by_every_way_of_scoring(lane):
    session = micro.session(lane=lane)
    found = uniform_scores(session.model, session.corpus.val, 256)
    assert all(found[key] == pytest.approx(8, abs=1e-6) for key in ("all", "slice", "masked"))
    assert found["targets"] == found["expected_targets"] == 256 + 32 + 16


def test_a_wrong_count_of_bytes_shows_in_the_uniform_score(monkeypatch):
    whole = Score.bpb
    monkeypatch.setattr(Score, "bpb", lambda self, length=None: whole(self, length) / 1.01)
    session = micro.session()
    assert uniform_scores(session.model, session.corpus.val, 256)["all"] == pytest.approx(8 / 1.01)


def test_probe_prints_and_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "MAX_S", 0.1)
    out = tmp_path / "a" / "probe.json"
    assert main(["probe", *micro.DENSE, f"out={out}"]) == 0
    found = json.loads(out.read_text())
    assert found["timing"]["ratio"] > 0 and found["uniform"]["all"] == pytest.approx(8, abs=1e-6)
    assert f"{found['timing']['ratio']:.2f}" in capsys.readouterr().out
