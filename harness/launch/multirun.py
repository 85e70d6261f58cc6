"""Sweeps: Hydra's --multirun with its sweepers and launchers; every job is a `speedrun` process of its own.

A process a job keeps peak memory, clocks and compiled code of one run away from the next. The job's value, which a searching
sweeper minimizes, is val_bpb. A launcher may start jobs in other processes or on other machines, so all that this process
learns of them is what they leave in the sweep's folder, which lies with the runs: a file a job that names its record. A job
whose scheduler warns it of the time limit leaves a checkpoint, and is started again with the same words.
"""

import json
import os
import signal
import statistics
import sys
from datetime import datetime
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from harness.errors import UserError
from harness.files import replace_atomically
from harness.launch import child, plugins
from harness.plan import lanes
from harness.plan.schema import Run
from harness.plan.words import known_words, word
from harness.reading import read_json
from harness.record.documents import SweepJob
from harness.record.read import read_record
from harness.record.schema import Record
from harness.terminal import warn

QUIET = ("hydra.sweep.subdir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")
OUTCOMES = "job-*.json"  # the star is the job's number
HEALTH, LEFT = 3, 128 + signal.SIGUSR2  # exit statuses of a run: it ended so, or the same command goes on with it


def record_of(outcome: SweepJob) -> Record | None:
    return read_record(Path(outcome.record).parent) if outcome.record else None


def multirun(words: list[str]) -> int:
    """Runs every job, then prints one line each. Exit status 1 when any failed; the others still run."""
    lanes.register()
    words = known_words(words, sweeps=True)
    said = list(map(OverridesParser.create().parse_override, words))
    plugins.refuse_missing(said)
    home = _home(said)
    for earlier in home.glob(OUTCOMES):  # of another sweep in the same folder
        earlier.unlink()
    # From whatever folder or machine a launcher starts a job, it finds this checkout's harness.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(lanes.ROOT), os.environ.get("PYTHONPATH")]))
    words += [*plugins.slurm_words(said), *QUIET, word("hydra.sweep.dir", str(home))]
    sys.argv = ["harness speedrun", "--multirun", *words]
    failed = False
    try:
        hydra.main(config_path=str(lanes.RECIPES), config_name="plan", version_base="1.3")(job)()
    except SystemExit as left:  # Hydra has said why
        failed = bool(left.code)
    outcomes = [read_json(path, SweepJob) for path in sorted(home.glob(OUTCOMES))]
    if not outcomes:
        raise UserError("no job ran", f"check the sweep's values, and what its launcher has left in {home}")
    _summary(outcomes)
    print(f"sweep: {home}")
    return int(failed or any(outcome.status != 0 for outcome in outcomes))


def job(_: DictConfig) -> float:
    """One job of a sweep, wherever its launcher has put it; one of its tasks, where it has several. Returns val_bpb, infinity
    for a run that failed and on tasks other than the first."""
    here = HydraConfig.get()
    overrides = list(here.overrides.task)
    path = Path(here.sweep.dir) / OUTCOMES.replace("*", f"{here.job.num:05}")
    first = plugins.join_tasks() == 0
    if path.exists() and (ended := read_json(path, SweepJob)).record:  # started again after it had ended
        return _value(ended)
    print(f"\n== {' '.join(overrides)}", flush=True)
    log = plugins.errors_of_task()
    outcome = SweepJob(overrides=overrides, status=None, record=None, errors=str(log) if log else None)
    if first:
        _leave(path, outcome)
    ended = child.aloud(["speedrun", *overrides], tells=plugins.is_task())
    unfinished = ended.record is None and ended.status != HEALTH and (ended.told or ended.status == LEFT)
    if unfinished and plugins.is_task() and (why_not := plugins.start_again()):
        warn(why_not)
    if not first:
        return float("inf")
    record = str(ended.record.resolve()) if ended.record else None
    outcome = outcome.model_copy(update={"status": ended.status, "record": record})
    _leave(path, outcome)
    return _value(outcome)


def _leave(path: Path, outcome: SweepJob) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, [json.dumps(outcome.content(), indent=1).encode()])


def _value(outcome: SweepJob) -> float:
    found = record_of(outcome)
    return found.metrics.val_bpb if found else float("inf")


def _home(words: list[Override]) -> Path:
    """The sweep's folder: the one that was named, else a new one among the runs, where it makes no tree dirty."""
    said = {parsed.key_or_group: parsed for parsed in words}
    for key in ("hydra.sweep.dir", "run.folder"):
        if key in said and said[key].is_sweep_override():
            raise UserError(f"{key} of a sweep has several values", "one folder holds the whole sweep")
    if "hydra.sweep.dir" in said:
        return Path(str(said["hydra.sweep.dir"].value())).resolve()
    runs = Path(str(said["run.folder"].value()) if "run.folder" in said else Run().folder)
    return (runs / f"sweep-{datetime.now():%Y%m%d-%H%M%S-%f}").resolve()


def _summary(outcomes: list[SweepJob]) -> None:
    print(f"\n{'to target':>12}{'slice':>9}{'all val':>9}{'tokens/s':>10}")
    finished = []
    for outcome in outcomes:
        said, record = " ".join(outcome.overrides), record_of(outcome)
        if record is None:
            how = "no end" if outcome.status is None else f"exit {outcome.status}"
            print(f"{'left' if outcome.status == LEFT else 'failed':>12}{how:>9}{'':>19}   {said}")
            if outcome.errors:
                print(f"{'':>40}   it said: {outcome.errors}")
            continue
        m = record.metrics
        finished.append(m.val_bpb)
        said += f"   (no claim about speed: {record.disturbed})" if record.disturbed else ""
        target = f"{m.time_to_target_s:.1f} s" if m.time_to_target_s is not None else "not reached"
        row = f"{target:>12}{m.slice_bpb:>9.4f}{m.val_bpb:>9.4f}{m.tokens_per_second:>10,.0f}"
        print(f"{row}   {said}")
    if len(finished) > 1:
        print(
            f"val_bpb: mean {statistics.mean(finished):.4f}, sd {statistics.stdev(finished):.4f} over n = {len(finished)} runs"
        )
