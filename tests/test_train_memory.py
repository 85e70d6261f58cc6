"""What `make plan` says of memory, part by part, against what a step of a small lane allocates, on one rank and on several."""

import json
from dataclasses import replace

import micro
import processes
import pytest
from memory_on_ranks import allocated, taken

from harness.data.corpora import load_for
from harness.model.build import count_plan
from harness.plan.compose import compose
from harness.ranks import Ranks
from harness.train import machine, wire
from harness.train.memory import memory
from harness.train.session import Session

# Compiling takes longer than all else here: parts are as large as the wide plan's whole step, whose compilations they share,
# and whose width the others have.
SMALL = "unranked=true batch.tokens_per_step=1024 budget.tokens=65536 run.mlflow=off model.layers=2".split()
WIDE = ["lane=tiny-moe-16e", *SMALL, "model.width=512", "model.num_experts=8"]
PLANS = {
    "wide": WIDE,
    "in parts": [*WIDE, "batch.tokens_per_step=4096", "parallel.micro_batch_tokens=1024"],
    "not compiled": [*WIDE, "kernels.compile=off"],
    "fp32": [*WIDE, "precision.format=fp32"],
    # Of what the streams keep 10 rounds between 8 of them are the same share as 20 between 4, and half as much is unrolled.
    "streams": [
        "lane=tiny-dense",
        *SMALL,
        "model.width=512",
        "model.residual=hyper",
        "residual.hyper.streams=8",
        "residual.hyper.rounds=10",
    ],
    "convolved": [*WIDE, "model.memories=[canon,engram]"],
    "looked up in both layers": [*WIDE, "model.memories=[canon,engram]", "memory.engram.layers=[0,1]"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_parts_are_what_a_step_allocates(name):
    plan = compose(PLANS[name]).plan
    here = machine.detect(plan)
    session = Session(plan, here, Ranks(0, 1), load_for(plan))
    session.step(0)
    found = memory(plan, here)
    assert found.weights == 4 * session.counts.params_total == found.gradients
    state = sum(t.numel() * t.element_size() for t in session.optimizer.state().values())
    assert found.moments == pytest.approx(state, rel=0.01)
    peak, _ = allocated(lambda: session.step(1))
    expected = found.held - found.weights - found.moments  # which were there before
    assert 0.8 * expected < peak < 1.2 * expected, (peak, expected, str(found))


# Several ranks

PROGRAM = (micro.ROOT / "tests" / "memory_on_ranks.py").read_text()
# Experts are most of it, as where somebody spreads them. One thread, nothing compiled: four processes at once.
SPREAD = (
    "model.width=256", "model.heads=4", "model.num_experts=64", "model.expert_width=128", "model.top_k=4",
    "batch.tokens_per_step=2048", "parallel.micro_batch_tokens=256", "parallel.sums=units",
)  # fmt: skip
OPTIMIZERS = {"muon": (), "adamw": ("optim.matrices=adamw",)}


def planned(words, world):
    plan = compose([*micro.MOE, *words]).plan
    return memory(plan, replace(machine.detect(plan), world_size=world))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_of_four_ranks_takes_what_the_plan_says_within_a_tenth_and_a_quarter_of_the_experts(optimizer, tmp_path):
    words = (*SPREAD, *OPTIMIZERS[optimizer])
    done = processes.run_ranks(4, PROGRAM, str(tmp_path), *words, "parallel.ep=4", timeout=240)
    assert [rank.returncode for rank in done] == [0] * 4, "".join(rank.stderr[-3000:] for rank in done)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    one, said, alone = taken(words, micro.ALONE), planned((*words, "parallel.ep=4"), 4), planned(words, 1)
    assert alone.held == pytest.approx(one["held"], rel=0.1), str(alone)
    for rank in ranks:
        assert said.held == pytest.approx(rank["held"], rel=0.1), str(said)
        assert said.weights == rank["weights"] and said.moments == pytest.approx(rank["moments"], rel=0.01)
        assert 4 * rank["experts"] == 4 * said.experts == one["experts"] == alone.experts
        assert 4 * rank["moments of experts"] == one["moments of experts"]
        assert rank["held"] < one["held"] / 2
        _sends_what_is_said(rank["sent"], (*words, "parallel.ep=4"))


def _sends_what_is_said(sent, words):
    """Of rows within a tenth, since routing is not quite balanced; of gradients all but the scalars that go with them."""
    plan = compose([*micro.MOE, *words]).plan
    said = {name: it.size for name, it in wire.sent(plan, count_plan(plan), 4).items()}
    rows = sum(size for name, size in said.items() if name.startswith("rows"))
    assert sent["exchange_rows"] == pytest.approx(rows, rel=0.1)
    assert sent["exchange"] == pytest.approx(said["gradients, folded each round"], rel=0.02)
    assert sent["everyones"] == pytest.approx(said["gradients, gathered at the end"], rel=0.02)
