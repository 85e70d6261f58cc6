"""Proves that a lane gives the same bits: two runs, and one killed three times with SIGKILL and resumed.

usage: python -m harness prove [key=value ...] [kills=3] [tokens=N] [ranks=1,2]
       make prove LANE=tiny-moe-16e [RANKS=1,2]

By default a shortened budget of about 48 steps, one at least in every stage of the batch; tokens=0 proves the whole one. With
kills=0 it is two runs. Exit status 1 when a hash chain or the final weights differ, with the first step that does.

With ranks=1,2 there is a run on each of these numbers of ranks, under parallel.sums=units, and the killed one goes on with
another of them after every kill. Experts are spread over the ranks (parallel.ep) where they can be. A plan whose micro-batches
the ranks cannot share gets the largest that they can.
"""

import math
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch import child
from harness.launch.options import Word, Words, several, whole
from harness.record.read import read_record, read_rows

SUMMARY = "same bits: two runs and one killed three times must have equal hash chains"
STEPS = 48
RANKS = several(whole(1), "whole numbers of at least 1, each once, in one list: ranks=1,2")
WORDS = Words("prove", Word("kills", whole(), 3), Word("tokens", whole()), Word("ranks", RANKS, ()), plan=True)
KILL_SEED = 7  # which steps are killed at; the proof itself is repeatable


@dataclass(frozen=True)
class Launch:
    """How a run is started: on so many ranks, with so many threads each (0: what it finds), and with what words of its own."""

    ranks: int = 1
    threads: int = 0
    words: tuple[str, ...] = ()

    @property
    def how(self) -> dict[str, Any]:
        """As `harness.launch.child` is told."""
        threads = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
        return {"program": child.program(self.ranks), "environment": threads}


def main(arguments: list[str]) -> int:
    from harness.plan.compose import compose
    from harness.plan.steps import budget_of_about

    own = WORDS.read(arguments)
    words, kills, plan = own.plan, own.kills, compose(own.plan).plan
    tokens = budget_of_about(plan.batch, plan.budget.tokens, STEPS) if own.tokens is None else own.tokens
    if tokens:
        words = [*words, "unranked=true", f"budget.tokens={tokens}"]
    plan = compose(words).plan
    if own.ranks:
        words = [*words, *_by_units(plan, own.ranks)]
        plan = compose(words).plan
    if kills > max(0, plan.steps - 2):
        raise UserError(
            f"kills={kills} with {plan.steps} steps, of which a run can be killed after all but the first and the last",
            f"choose kills={max(0, plan.steps - 2)} or less, or more tokens=",
        )
    Path(plan.run.folder).mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="prove-", dir=plan.run.folder))
    launches = _launches(own.ranks, words)
    killed = f" and once killed {kills} times" if kills else ""
    untouched = f"untouched on {', '.join(launches)}" if own.ranks else "twice untouched"
    print(f"proving {plan.lane.name}: {plan.steps} steps, {untouched}{killed}, in {home}", flush=True)
    records = {name: _untouched(words, home / chr(ord("a") + at), launch) for at, (name, launch) in enumerate(launches.items())}
    if kills:
        records[f"killed {kills} times"] = _killed(words, home / "killed", plan.steps, kills, [*launches.values()][::-1])
    agree = _report(records, f"slice {plan.track.shortly}")
    if agree:
        shutil.rmtree(home)
        print(f"proved: {len(records)} runs of {plan.lane.name}, equal chains and final weights")
        return 0
    print(f"NOT proved: the runs differ; they are kept in {home}")
    return 1


def _by_units(plan: Any, ranks: Sequence[int]) -> list[str]:
    """The words that let the plan be run on each of these numbers of ranks with the same bits.

    Raises: UserError where some of them cannot share a step.
    """
    from harness.plan.check_parallel import check_ranks, units_of

    if plan.parallel.sums == "units":
        for number in ranks:
            check_ranks(plan, number)
        return []
    known, unit = units_of(plan, math.lcm(*ranks)), plan.parallel.micro_batch_tokens
    if not known:
        raise UserError(
            f"ranks={','.join(map(str, ranks))} cannot all share a step of {' or '.join(map(str, plan.batch.sizes))} tokens in "
            f"whole sequences of {plan.model.sequence_length}",
            "choose numbers that divide the sequences of a step",
        )
    said = ["parallel.sums=units", *([] if unit in known else [f"parallel.micro_batch_tokens={known[-1]}"])]
    print(f"with {' '.join(said)}")
    return said


def _launches(ranks: Sequence[int], words: list[str]) -> dict[str, Launch]:
    """By name. On several numbers of ranks the largest of them has the machine's cores, and the others as many threads a rank:
    bits depend on how many a rank has."""
    if not ranks:
        return {"first run": Launch(), "second run": Launch()}
    threads = 0 if "OMP_NUM_THREADS" in os.environ else max(1, (os.cpu_count() or 1) // max(ranks))
    return {
        f"{number} rank{'s' if number > 1 else ''}": Launch(number, threads, _spread(number, words)) for number in ranks
    }  # fmt: skip


def _spread(ranks: int, words: list[str]) -> tuple[str, ...]:
    """What spreads a plan's experts over so many ranks; nothing where they cannot be spread, or `words` say how they are."""
    from harness.plan.compose import compose

    if ranks == 1 or not compose(words).plan.model.num_experts or any(word.startswith("parallel.ep=") for word in words):
        return ()
    said = (f"parallel.ep={ranks}",)
    try:
        compose([*words, *said])
    except UserError as refused:
        print(f"on {ranks} ranks each has all experts: {refused.problem}")
        return ()
    return said


def _run(words: list[str], folder: Path, launch: Launch) -> list[str]:
    from harness.plan.words import word

    own = [word("run.folder", str(folder)), "run.checkpoint_every_s=0", "run.log_every_steps=1", "run.mlflow=off"]
    return ["speedrun", *words, *launch.words, *own]


def _untouched(words: list[str], folder: Path, launch: Launch) -> Path:
    ended = child.run(_run(words, folder, launch), errors="apart", **launch.how)
    if ended.status or ended.record is None:
        said = f"{ended.said[-800:]}{ended.warned[-800:]}"
        raise UserError(f"the run ended with status {ended.status}:\n{said}", "mend that first")
    print(f"  {folder.name}: {ended.record.parent}", flush=True)
    return ended.record


def _killed(words: list[str], folder: Path, steps: int, kills: int, launches: Sequence[Launch]) -> Path:
    """Kills the run at `kills` random steps with SIGKILL, starting it again each time, as the next of `launches`; then lets it
    finish."""
    points = sorted(random.Random(KILL_SEED).sample(range(2, steps), kills))
    turns = cycle(launches)
    for point, launch in zip(points, turns):
        how = launch.how
        with (
            tempfile.TemporaryFile("w+") as errors,
            child.started(_run(words, folder, launch), stderr=errors, **how) as process,
        ):
            while process.poll() is None and _last_step(folder) < point:
                time.sleep(0.02)
            if process.poll() is not None:
                errors.seek(0)
                raise UserError(f"the run ended before step {point}: {errors.read()[-800:]}", "mend that first")
            if launch.ranks == 1:
                process.send_signal(signal.SIGKILL)
            else:
                os.kill(_rank_of(process.pid), signal.SIGKILL)  # its launcher then ends the others
        print(f"  {folder.name}: killed at step {_last_step(folder)}", flush=True)
    return _untouched(words, folder, next(turns))


def _rank_of(launcher: int) -> int:
    """The process of the last rank that torchrun has started."""
    return int(Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[-1])


def _last_step(folder: Path) -> int:
    """The last step that any run in this folder has logged."""
    for metrics in folder.glob("*/*/metrics.jsonl"):
        steps = read_rows(metrics, ended=False)["step"]
        return steps[-1]["step"] if steps else 0
    return 0


def _report(records: dict[str, Path], slice_in: str) -> bool:
    found = {name: read_record(path.parent) for name, path in records.items()}
    print(f"  {'':<18}{'chain':<20}{'final weights':<20}{slice_in:<{len(slice_in) + 3}}resumes")
    for name, record in found.items():
        chain, weights = (value[:16] for value in (record.determinism.chain, record.determinism.weights))
        print(f"  {name:<18}{chain:<20}{weights:<20}{record.metrics.slice_bpb:<{len(slice_in) + 3}.6f}{record.resumes}")
    first, *others = found.values()
    for name, record in list(found.items())[1:]:
        if record.hardware_class != first.hardware_class:
            print(f"  {name} ran on another hardware class: {record.hardware_class}, not {first.hardware_class}")
    for name, path in list(records.items())[1:]:
        step = _first_difference(next(iter(records.values())), path)
        if step:
            print(f"  {name} leaves the first run at step {step}")
    return all(record.determinism == first.determinism for record in others)


def _first_difference(a: Path, b: Path) -> int | None:
    from harness.report.verify.executions import parting

    return parting(
        *([(row["step"], row["chain"]) for row in read_rows(path.parent / "metrics.jsonl")["window"]] for path in (a, b))
    )[1]
