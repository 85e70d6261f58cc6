"""Proves that a lane gives the same bits: two runs, and one killed three times with SIGKILL and resumed.

usage: python -m harness prove [key=value ...] [kills=3] [tokens=N]
       make prove LANE=tiny-moe-16e

By default a shortened budget of 48 steps; tokens=0 proves the whole one. Exit status 1 when a hash chain or the final
weights differ, with the first step that does.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.errors import UserError
from harness.record.read import read_record, read_rows

SUMMARY = "same bits: two runs and one killed three times must have equal hash chains"
STEPS = 48
KILL_SEED = 7  # which steps are killed at; the proof itself is repeatable


def main(arguments: list[str]) -> int:
    from harness.plan.compose import compose

    own = dict(word.split("=", 1) for word in arguments if word.split("=")[0] in ("kills", "tokens"))
    words = [word for word in arguments if word.split("=")[0] not in own]
    plan = compose(words).plan
    kills = _whole("kills", own.get("kills", "3"))
    tokens = _whole("tokens", own.get("tokens", str(min(STEPS * plan.batch.tokens_per_step, plan.budget.tokens))))
    if tokens:
        words += ["unranked=true", f"budget.tokens={tokens}"]
    plan = compose(words).plan
    Path(plan.run.folder).mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="prove-", dir=plan.run.folder))
    print(f"proving {plan.lane.name}: {plan.steps} steps, twice untouched and once killed {kills} times, in {home}", flush=True)
    records = {
        "first run": _untouched(words, home / "a"),
        "second run": _untouched(words, home / "b"),
        f"killed {kills} times": _killed(words, home / "c", plan.steps, kills),
    }
    agree = _report(records)
    if agree:
        shutil.rmtree(home)
        print(f"proved: {len(records)} runs of {plan.lane.name}, equal chains and final weights")
        return 0
    print(f"NOT proved: the runs differ; they are kept in {home}")
    return 1


def _whole(name: str, text: str) -> int:
    if not text.isdigit():
        raise UserError(f"{name}={text}", f"{name} must be a whole number of 0 or more")
    return int(text)


def _command(words: list[str], folder: Path) -> list[str]:
    from harness.plan.words import word

    own = [word("run.folder", str(folder)), "run.checkpoint_every_s=0", "run.log_every_steps=1", "run.track=off"]
    return [sys.executable, "-m", "harness", "speedrun", *words, *own]


def _untouched(words: list[str], folder: Path) -> Path:
    done = subprocess.run(_command(words, folder), capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"the run ended with status {done.returncode}:\n{done.stdout[-800:]}{done.stderr[-800:]}", "mend that first"
        )
    record = Path(done.stdout.strip().splitlines()[-1].removeprefix("record: "))
    print(f"  {folder.name}: {record.parent}", flush=True)
    return record


def _killed(words: list[str], folder: Path, steps: int, kills: int) -> Path:
    """Kills the run at `kills` random steps with SIGKILL, starting it again each time; then lets it finish."""
    points = sorted(random.Random(KILL_SEED).sample(range(2, steps), min(kills, steps - 2)))
    for point in points:
        with subprocess.Popen(_command(words, folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and _last_step(folder) < point:
                time.sleep(0.02)
            if process.poll() is not None:
                raise UserError(f"the run ended before step {point}: {process.stderr.read()[-800:]}", "mend that first")
            process.send_signal(signal.SIGKILL)
        print(f"  {folder.name}: killed at step {_last_step(folder)}", flush=True)
    return _untouched(words, folder)


def _last_step(folder: Path) -> int:
    """The last step that any run in this folder has logged."""
    for metrics in folder.glob("*/*/metrics.jsonl"):
        steps = read_rows(metrics, ended=False)["step"]
        return steps[-1]["step"] if steps else 0
    return 0


def _report(records: dict[str, Path]) -> bool:
    found = {name: read_record(path.parent) for name, path in records.items()}
    print(f"  {'':<18}{'chain':<20}{'final weights':<20}{'slice bpb':<12}resumes")
    for name, record in found.items():
        chain, weights = (value[:16] for value in (record.determinism.chain, record.determinism.weights))
        print(f"  {name:<18}{chain:<20}{weights:<20}{record.metrics.slice_bpb:<12.6f}{record.resumes}")
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
