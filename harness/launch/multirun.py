"""Sweeps: Hydra's --multirun with its sweepers and launchers; every job is a `speedrun` process of its own.

A process a job keeps peak memory, clocks and compiled code of one run away from the next. The job's value, which a searching
sweeper minimizes, is val_bpb. A launcher may start jobs in other processes or on other machines, so all that this process
learns of them is what they leave in the sweep's folder, which lies with the runs: a file a job that names its record.
"""

import json
import os
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
from harness.launch import child
from harness.launch.plugins import join_tasks, refuse_missing
from harness.plan import lanes
from harness.plan.schema import Run
from harness.plan.words import known_words, word
from harness.reading import read_json
from harness.record.documents import SweepJob
from harness.record.read import read_record
from harness.record.schema import Record

QUIET = ("hydra.sweep.subdir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")
OUTCOMES = "job-*.json"  # the star is the job's number


def record_of(outcome: SweepJob) -> Record | None:
    return read_record(Path(outcome.record).parent) if outcome.record else None


def multirun(words: list[str]) -> int:
    """Runs every job, then prints one line each. Exit status 1 when any failed; the others still run."""
    lanes.register()
    words = known_words(words, sweeps=True)
    said = list(map(OverridesParser.create().parse_override, words))
    refuse_missing(said)
    home = _home(said)
    # From whatever folder or machine a launcher starts a job, it finds this checkout's harness.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(lanes.ROOT), os.environ.get("PYTHONPATH")]))
    sys.argv = ["harness speedrun", "--multirun", *words, *QUIET, word("hydra.sweep.dir", str(home))]
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
    return int(failed or any(outcome.status for outcome in outcomes))


def job(_: DictConfig) -> float:
    """One job of a sweep, wherever its launcher has put it. Returns val_bpb, infinity for a run that failed."""
    here = HydraConfig.get()
    overrides = list(here.overrides.task)
    print(f"\n== {' '.join(overrides)}", flush=True)
    rank = join_tasks()
    status, record = child.speedrun(overrides)
    if rank:  # the first one has the record
        return float("inf")
    outcome = SweepJob(overrides=overrides, status=status, record=str(record.resolve()) if record else None)
    path = Path(here.sweep.dir) / OUTCOMES.replace("*", f"{here.job.num:05}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(outcome.content(), indent=1))
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
            print(f"{'failed':>12}{'exit ' + str(outcome.status):>9}{'':>19}   {said}")
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
