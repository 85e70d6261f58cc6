"""A search that was run, and a trainer that writes runs as asked: for the tests of confirmations."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from report_factory import VAL_BYTES, edit_record, set_val, sign, write_run

import harness.launch.search.confirm_plan
import harness.launch.search.nulls
import harness.launch.search.pairs
import harness.plan.space
from harness.__main__ import main
from harness.launch.job import Job
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash, to_yaml
from harness.plan.goal import goal
from harness.plan.schema import Plan
from harness.plan.space import Space
from harness.record.confirmation_files import read_confirmations
from harness.record.confirmations import Confirmation, Seen
from harness.record.ledger import Ledger, LedgerRung, LedgerTrial, counts_of, equivalent_s, write_ledger

HERE = "cpu-a-class"
SEARCH = "runs/search-example"
LEVEL, SLICE_BYTES = 1.6624, 262144  # of tiny's target
STEP, SLOPE = 4096, 0.25
START = 400 * STEP
FILE = yaml.safe_load(f"""
title: an example
question: Who is soonest?
lane: tiny-open
common: run.mlflow=off
scored: {SLICE_BYTES}
rungs: [0.25, 1]
reduction: 3
trials: 4
families:
  dense: {{words: "budget.tokens={START}"}}
  moe:
    words: >-
      model.ffn_width=0 model.num_experts=16 model.expert_width=128 model.top_k=4 balance=bias budget.tokens={START}
dials:
  optim.muon.lr: {{low: 0.005, high: 0.2, log: true}}
  budget.tokens: {{low: 400000, high: 3000000, log: true, step_of: batch}}
""")


def space(**changes: Any) -> Space:
    return Space(**FILE | {"name": "example"} | changes)


def seen(seed: int = 1, seconds: float = 100.0, slice: float = 1.65, gap: float = 0.12, **changes: Any) -> Seen:
    """`gap`: of the rest of val above the slice."""
    given = {
        "seed": seed, "folder": f"runs/tiny-open/{seed}-aaaaaaaa", "record_sha256": "ab" * 32, "chain": "cd" * 32,
        "seconds": seconds, "slice": slice, "rest": slice + gap, "entropy": 0.98, "dead": 0, "health": [], "unranked": [],
        "disturbed": None,
    }  # fmt: skip
    return Seen(**given | changes)


def trial(family: str, sampler: str, number: int, lr: float, *, figure: float = 1.655, seconds: float = 70.0, **changes: Any):
    """A complete trial at 300 steps, whose last rung came to `figure`."""
    words = [word for word in FILE["families"][family]["words"].split() if not word.startswith("budget")]
    words += [f"optim.muon.lr={lr:g}", f"budget.tokens={300 * STEP}"]
    rung = LedgerRung(
        share=1.0, words=["lane=tiny-open", *words], plan_hash="ee" * 32, folder=f"runs/tiny-open/1-{family}{number}",
        status="ran", record_sha256=sha256(f"{family}/{sampler}/{number}".encode()).hexdigest(), chain="cd" * 32,
        slice_bpb=figure, figure=figure, train_s=seconds, equivalent_s=equivalent_s(seconds, figure, LEVEL, SLOPE),
    )  # fmt: skip
    given = {
        "number": number, "arm": f"{family}/{sampler}", "family": family, "sampler": sampler, "words": words,
        "params": {"optim.muon.lr": lr}, "state": "complete", "rungs": [rung], "rung": 1, "equivalent_s": rung.equivalent_s,
    }  # fmt: skip
    return LedgerTrial(**given | changes)


TRIALS = [
    trial("dense", "tpe", 1, 0.03),
    trial("moe", "tpe", 1, 0.04, seconds=90.0),
    trial("moe", "random", 1, 0.05, seconds=80.0),
]


def searched(folder: Path, trials: Sequence[LedgerTrial] = TRIALS, **changes: Any) -> Ledger:
    """Writes ledger.json of the example into the folder of its search."""
    of = space()
    given = {
        "schema_version": 1, "space": of, "space_sha256": of.sha256, "hardware_class": HERE, "commit": "c0" * 20,
        "target": "xz_given_train", "metric": "slice_bpb", "level": LEVEL, "slopes": {"dense": SLOPE, "moe": SLOPE},
        "counts": counts_of(list(trials)), "trials": list(trials),
    }  # fmt: skip
    ledger = Ledger(**given | changes)
    folder.mkdir(parents=True, exist_ok=True)
    write_ledger(folder, ledger)
    return ledger


def noisy(plan: Plan, seed: int) -> dict[str, Any]:
    """What a run comes to: the slice falls by SLOPE per ln(tokens), seconds are as the tokens are, and a seed has its luck."""
    random = np.random.default_rng([seed, plan.budget.tokens, round(1e4 * plan.optim.muon.lr)])
    slice_bpb = LEVEL - 0.01 - SLOPE * np.log(plan.budget.tokens / (300 * STEP)) + 0.002 * random.standard_normal()
    seconds = 0.25 * plan.budget.tokens / STEP * np.exp(0.01 * random.standard_normal())
    return {"slice": float(slice_bpb), "gap": 0.12 + 0.001 * random.standard_normal(), "seconds": float(seconds)}


def open_run(
    home: Path,
    plan: Plan,
    *,
    slice: float,
    gap: float,
    seconds: float,
    reasons: tuple[str, ...] = (),
    taken: float = 0.0,
    **more: Any,
) -> Path:
    """The run folder of a plan of an open lane in `home`, whose figures are as asked; `more`: changes of its record."""
    steps, m = plan.steps, plan.model
    before = 1.27 + 0.36 * (384 / steps) ** 0.9 if steps > 90 else 8 - 0.045 * steps  # of the factory
    place, stem = home / plan.lane.name, f"{plan.seed}-{plan_hash(plan)[:8]}"
    if (place / stem).exists() and not (place / stem / "record.json").exists():
        (place / stem).rmdir()  # half done, and made to start anew: nothing is in it
    number = sum((path / "record.json").exists() for path in place.glob(f"{stem}*"))
    folder = write_run(
        place / (f"{stem}.{number + 1}" if number else stem), lane=plan.lane.name, twin=None, experts=m.num_experts,
        top_k=m.top_k, layers=m.layers, steps=steps, validations=(), step_s=seconds / steps, hardware_class=HERE,
        reasons=reasons, seed=plan.seed, taken=taken, offset=slice - before,
    )  # fmt: skip
    (folder / "plan.yaml").write_text(to_yaml(plan))
    identity = {"plan_hash": plan_hash(plan), "seed": plan.seed, "hardware_class": HERE}
    (folder / "identity.json").write_text(json.dumps(identity))
    line, passes = goal(plan.track), slice <= goal(plan.track).level
    edit_record(
        folder, plan_hash=plan_hash(plan), lines={name: asdict(it) for name, it in plan.track.lines.items()},
        data={key: getattr(plan.track, key) for key in ("train_sha256", "val_sha256", "train_bytes", "val_bytes")},
        metrics__target=line.as_record(), metrics__target_reached=passes,
        metrics__time_to_target_s=seconds if passes else None,
        metrics__tokens_to_target=steps * STEP if passes else None,
    )  # fmt: skip
    sign(folder)
    set_val(folder, slice + gap * (VAL_BYTES - SLICE_BYTES) / VAL_BYTES)
    if more:
        edit_record(folder, **more)
    return folder


class Trainer:
    """In place of processes: `comes_to(plan, seed)` says what a run comes to; `ran` has (seed, hash of the plan) of each.
    Before run number `stops_at` it is interrupted."""

    def __init__(self, home: Path, comes_to: Callable[[Plan, int], dict[str, Any]] = noisy):
        self.home, self.comes_to, self.ran, self.stops_at = home, comes_to, [], None

    def __call__(self, words: Sequence[str]) -> tuple[int, Path | None]:
        plan = compose(list(words)).plan
        if self.stops_at == len(self.ran):
            raise KeyboardInterrupt
        self.ran.append((plan.seed, plan_hash(plan)))
        reasons = ("unranked=true",) if plan.unranked else ()
        return 0, open_run(self.home, plan, reasons=reasons, **self.comes_to(plan, plan.seed)) / "record.json"


@pytest.fixture(name="home")
def home_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where space `example` is known, on a machine of class HERE with a clean tree."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "example.yaml").write_text(yaml.safe_dump(FILE, sort_keys=False))
    monkeypatch.setattr(harness.plan.space, "SPACES", tmp_path / "spaces")
    for module in (harness.launch.search.confirm_plan, harness.launch.search.nulls):
        monkeypatch.setattr(module, "commit", lambda: ("c0" * 20, False))
    monkeypatch.setattr(
        harness.launch.search.confirm_plan, "make_job", lambda name, words, plan: Job(name, words, plan, plan_hash(plan), HERE)
    )
    return tmp_path


@pytest.fixture(name="confirm")
def confirm_fixture(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., SimpleNamespace]:
    """`confirm example WORDS` with a trainer that writes runs at once. Gives the exit status, what ran, and what was said."""
    trainer = Trainer(home / "runs")
    monkeypatch.setattr(harness.launch.search.pairs, "aloud", trainer)
    monkeypatch.setattr(harness.launch.search.pairs, "quietly", lambda log: trainer)

    def go(*words, name="example"):
        trainer.ran.clear()
        status = main(["confirm", *([name] if name else []), *words])
        said = capsys.readouterr()
        return SimpleNamespace(status=status, ran=list(trainer.ran), out=said.out, err=said.err)

    go.trainer = trainer
    return go


def confirmations(home: Path) -> list[Confirmation]:
    return read_confirmations(home / SEARCH)
