"""`make bench SET=decode`: rows of a MoE and its twin, counted bytes, the words it takes, the figure."""

import json

import micro
import pytest
import torch
from micro import finished_fixture  # noqa: F401

from harness.__main__ import main
from harness.bench import decode as bench
from harness.bench.steps import twin_of
from harness.plan.compose import compose
from harness.train import machine


@pytest.fixture(autouse=True)
def few_batches(monkeypatch):
    monkeypatch.setattr(bench, "BATCHES", (1, 3))


def test_rows_say_what_is_read_written_kept_and_touched():
    plan = compose(micro.MOE).plan
    twin = twin_of(plan, micro.MOE)
    here, said = machine.detect(plan), []
    found = bench.decode({"moe": plan, "dense": twin}, here, 1, None, said.append)
    assert [(row["name"], row["batch"]) for row in found["rows"]] == [("moe", 1), ("dense", 1), ("moe", 3), ("dense", 3)]
    size = {"native": 2}.get(here.arithmetic, 4)
    for row in found["rows"]:
        assert row["prefill_tokens_s"] > 0 and row["decode_tokens_s"] > 0
        assert row["cache_bytes"] == row["batch"] * 16 * 2 * 2 * 32 * size  # tokens, keys and values, layers, width
        touched = row["experts_touched"]
        assert touched is None if row["name"] == "dense" else 2 <= touched <= min(8, 2 * row["batch"])
    assert [row["of_twin"] for row in found["rows"] if row["name"] == "dense"] == [1.0, 1.0]
    assert set(found["weight_bytes"]) == {"moe", "dense"} and len(said) == 7


def test_a_served_models_matrices_lie_in_the_dtype_of_products():
    plan = compose(micro.MOE).plan
    here = machine.detect(plan)
    model = bench.served(plan, here, None)
    dtype = torch.bfloat16 if here.arithmetic == "native" else torch.float32
    assert model.blocks[0].attention.query.dtype == model.blocks[0].feedforward.up.dtype == dtype
    assert model.blocks[0].feedforward.router.weight.dtype == model.embedding.dtype == torch.float32


@pytest.mark.slow
def test_the_verb_takes_a_runs_weights_and_draws(tmp_path, finished, capsys):
    run = finished("moe")
    words = [word for word in micro.MOE if not word.startswith("run.")]
    assert main(["bench", "decode", f"run={run}", "rounds=1", f"out={tmp_path}", *words]) == 0
    found = json.loads((tmp_path / "decode.json").read_text())
    assert found["part"] == "decode" and len(found["rows"]) == 4
    assert (tmp_path / "decode.png").stat().st_size > 10_000 and "experts" in capsys.readouterr().out
