"""A space to search, and a trainer that computes in place of training: a run's figures are a function of its plan alone."""

import json
import math
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from report_factory import write_run

from harness.launch.job import Job
from harness.launch.search import course as courses
from harness.launch.search.course import Course
from harness.launch.search.runs import Outcome
from harness.plan.space import Space
from harness.plan.space_check import drawn
from harness.record.ledger import Ledger
from harness.train.machine import Machine, detect

START = 1572864
FILE = yaml.safe_load(f"""
title: an example
question: Who is soonest?
lane: tiny-open
common: run.mlflow=off
scored: 262144
rungs: [0.25, 1]
reduction: 3
trials: 6
families:
  dense: {{words: "budget.tokens={START}"}}
dials:
  optim.muon.lr: {{low: 0.005, high: 0.2, log: true}}
  batch.tokens_per_step: {{choices: [1024, 4096]}}
  budget.tokens: {{low: 400000, high: 3000000, log: true, step_of: batch}}
""")
MOE = {"words": f"model.ffn_width=0 model.num_experts=16 model.expert_width=128 model.top_k=4 budget.tokens={START}"}


def space(**changes: Any) -> Space:
    return Space(**FILE | {"name": "example"} | changes)


@cache
def here() -> Machine:
    """This machine, measured once."""
    return detect(drawn(space(), "dense").rungs[-1].plan)


@cache
def _record() -> dict[str, Any]:
    with TemporaryDirectory() as home:
        return json.loads((write_run(Path(home) / "run", experts=0, steps=16, validations=()) / "record.json").read_text())


def figures(plan: Any) -> tuple[float, float]:
    """(seconds, bits of the slice): bits fall with the budget, and lie above that by how far the rate is from 0.03."""
    train_s = plan.budget.tokens / 1e5
    return train_s, 1.6624 + 0.3 * abs(math.log(plan.optim.muon.lr / 0.03)) - 0.3 * math.log(train_s / 12)


class Fake:
    """A trainer. `calls`: names and plans of what it made, in order; `at`: by number of a call, what happens in place of a run:
    an exception to raise, or an Outcome."""

    def __init__(self, at: dict[int, Any] | None = None, before=lambda job: None):
        self.calls: list[tuple[str, str]] = []
        self.at, self.before = at or {}, before

    def __call__(self, job: Job, seed: int) -> Outcome:
        folder = Path("runs") / job.lane / f"{seed}-{job.plan_hash[:8]}"
        if (folder / "record.json").exists():
            return Outcome(folder, made=False)
        self.before(job)
        happens = self.at.get(len(self.calls))
        self.calls.append((job.name, job.plan_hash))
        if isinstance(happens, BaseException):
            raise happens
        if happens is not None:
            return happens
        train_s, bits = figures(job.plan)
        record = json.loads(json.dumps(_record()))
        record |= {"plan_hash": job.plan_hash, "hardware_class": job.hardware_class, "seed": seed, "lane": job.lane}
        record["clock"] |= {"train_s": train_s, "wall_s": train_s + 40}
        record["metrics"]["slice_bpb"] = bits
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record))
        return Outcome(folder)


def whole_run(job: Job, seed: int) -> Outcome:
    """A trainer whose runs hold under every check of a record, of another plan than they were asked for."""
    folder = Path("runs") / job.lane / f"{seed}-{job.plan_hash[:8]}"
    if folder.exists():
        return Outcome(folder, made=False)
    steps = 16 * (1 + job.plan.by_step.total // 100_000)
    offset = abs(math.log(job.plan.optim.muon.lr / 0.03)) / 10
    words = {"lr": job.plan.optim.muon.lr, "offset": offset, "lane": job.lane, "hardware_class": job.hardware_class}
    words["taken"] = 0.001
    return Outcome(write_run(folder, experts=0, steps=steps, validations=(), seed=seed, reasons=("unranked=true",), **words))


def course(monkeypatch: Any, trainer: Any, of: Space | None = None, machine: Machine | None = None) -> Course:
    """In the folder that one is in."""
    monkeypatch.setattr(courses, "detect", lambda plan: machine or here())
    monkeypatch.setattr(courses, "LOOK_S", 0.01)
    return Course.of(of or space(), trainer)


def finished(monkeypatch: Any, trainer: Any, of: Space | None = None) -> Ledger:
    made = course(monkeypatch, trainer, of)
    assert made.run(100.0) == ""
    return made.write()


def told(ledger: Ledger) -> list[tuple]:
    """What must not depend on when a search was interrupted."""
    return [
        (t.arm, t.number, t.words, t.params, t.state, t.equivalent_s, [r.record_sha256 for r in t.rungs]) for t in ledger.trials
    ]
