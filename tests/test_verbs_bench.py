"""Bench: three contestants side by side."""

import json

import micro
import pytest

import harness.verbs.bench as bench
from harness.__main__ import main


def test_a_bench_of_a_micro_lane_prints_three_rows_and_writes_them(tmp_path, monkeypatch, capsys):
    plans = []
    build = bench._session
    monkeypatch.setattr(bench, "_session", lambda plan, here: plans.append(plan) or build(plan, here))
    twin_width = "model.ffn_width=32"  # of the dense twin; a MoE model without dense layers has no use for it
    assert main(["bench", *micro.MOE, twin_width, "rounds=2", f"run.folder={tmp_path / 'runs'}"]) == 0
    said, written = capsys.readouterr().out, json.loads((tmp_path / "runs" / "bench.json").read_text())
    names = ["tiny-moe-16e", "mask and loop", "tiny-dense"]
    assert [row["name"] for row in written["rows"]] == names and written["rounds"] == 2
    assert all(any(line.startswith(name) for line in said.splitlines()) for name in names)
    for row in written["rows"]:
        assert row["tokens_per_second"] == pytest.approx(256 / row["step_s"]) and row["mfu"] > 0
        low, high = row["quartiles_s"]
        assert 0 < low <= row["step_s"] <= high
    assert written["rows"][0]["ratio"] == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["bench.json"]

    ours, loop, twin = plans
    assert loop.kernels.backend == "reference" and loop.model == ours.model
    assert twin.model.num_experts == 0 and twin.model.ffn_width == 32 and twin.model.width == 32  # dense, as its name says


def test_contestants_take_turns_and_warm_up_is_thrown_away():
    class Session:
        order = []

        def __init__(self, name):
            self.name = name

        def step(self, index):
            self.order.append((self.name, index))

    seconds = bench._interleaved({name: Session(name) for name in "ab"}, 3, "cpu")
    assert Session.order == [(name, index) for index in range(5) for name in "ab"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    "words, said",
    [
        (["rounds=0"], "rounds=0"),
        (["rounds=many"], "rounds=many"),
        (["lane=tiny-dense"], "no experts"),
        (["rounds="], "rounds="),
    ],
)
def test_mistakes_are_explained(words, said, capsys):
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err
