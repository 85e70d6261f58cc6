"""Proves that a lane gives the same bits: two runs, and one killed three times with SIGKILL and resumed.

usage: python -m harness prove [key=value ...] [kills=3] [tokens=N]
       make prove LANE=tiny-moe-16e

By default a shortened budget of about 48 steps, one at least in every stage of the batch; tokens=0 proves the whole one. With
kills=0 it is two runs. Exit status 1 when a hash chain or the final weights differ, with the first step that does.
"""

import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from harness.errors import UserError
from harness.launch import child
from harness.launch.options import Word, Words, whole
from harness.record.read import read_record, read_rows

SUMMARY = "same bits: two runs and one killed three times must have equal hash chains"
STEPS = 48
WORDS = Words("prove", Word("kills", whole(), 3), Word("tokens", whole()), plan=True)
KILL_SEED = 7  # which steps are killed at; the proof itself is repeatable


def main(arguments: list[str]) -> int:
    from harness.plan.compose import compose
    from harness.plan.steps import budget_of_about

    own = WORDS.read(arguments)
    words, kills, plan = own.plan, own.kills, compose(own.plan).plan
    tokens = budget_of_about(plan.batch, plan.budget.tokens, STEPS) if own.tokens is None else own.tokens
    if tokens:
        words = [*words, "unranked=true", f"budget.tokens={tokens}"]
    plan = compose(words).plan
    if kills > max(0, plan.steps - 2):
        raise UserError(
            f"kills={kills} with {plan.steps} steps, of which a run can be killed after all but the first and the last",
            f"choose kills={max(0, plan.steps - 2)} or less, or more tokens=",
        )
    Path(plan.run.folder).mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="prove-", dir=plan.run.folder))
    killed = f" and once killed {kills} times" if kills else ""
    print(f"proving {plan.lane.name}: {plan.steps} steps, twice untouched{killed}, in {home}", flush=True)
    records = {"first run": _untouched(words, home / "a"), "second run": _untouched(words, home / "b")}
    if kills:
        records[f"killed {kills} times"] = _killed(words, home / "c", plan.steps, kills)
    agree = _report(records, f"slice {plan.track.shortly}")
    if agree:
        shutil.rmtree(home)
        print(f"proved: {len(records)} runs of {plan.lane.name}, equal chains and final weights")
        return 0
    print(f"NOT proved: the runs differ; they are kept in {home}")
    return 1


def _run(words: list[str], folder: Path) -> list[str]:
    from harness.plan.words import word

    own = [word("run.folder", str(folder)), "run.checkpoint_every_s=0", "run.log_every_steps=1", "run.mlflow=off"]
    return ["speedrun", *words, *own]


def _untouched(words: list[str], folder: Path) -> Path:
    ended = child.run(_run(words, folder), errors="apart")
    if ended.status or ended.record is None:
        said = f"{ended.said[-800:]}{ended.warned[-800:]}"
        raise UserError(f"the run ended with status {ended.status}:\n{said}", "mend that first")
    print(f"  {folder.name}: {ended.record.parent}", flush=True)
    return ended.record


def _killed(words: list[str], folder: Path, steps: int, kills: int) -> Path:
    """Kills the run at `kills` random steps with SIGKILL, starting it again each time; then lets it finish."""
    points = sorted(random.Random(KILL_SEED).sample(range(2, steps), kills))
    for point in points:
        with tempfile.TemporaryFile("w+") as errors, child.started(_run(words, folder), stderr=errors) as process:
            while process.poll() is None and _last_step(folder) < point:
                time.sleep(0.02)
            if process.poll() is not None:
                errors.seek(0)
                raise UserError(f"the run ended before step {point}: {errors.read()[-800:]}", "mend that first")
            process.send_signal(signal.SIGKILL)
        print(f"  {folder.name}: killed at step {_last_step(folder)}", flush=True)
    return _untouched(words, folder)


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
