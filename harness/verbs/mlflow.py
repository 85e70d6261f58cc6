"""Logs run folders to MLflow: finished ones, one that goes on, or one that was made on another machine.

usage: python -m harness mlflow RUN [RUN ...] [--follow] [--store URI]
       make mlflow RUN=runs/tiny-moe-16e/1-0123abcd

examples
  python -m harness mlflow runs/tiny-moe-16e/1-0123abcd                 plan, curves, router metrics, figures, record
  python -m harness mlflow runs/tiny-moe-16e/1-0123abcd --follow        the same until the run ends, at the lowest priority
  python -m harness mlflow results                                      every run folder below it
  mlflow ui --backend-store-uri sqlite:///runs/mlflow.db               looks at them

The store is MLFLOW_TRACKING_URI, else the SQLite file runs/mlflow.db with its artifacts beside it. A run folder is one MLflow
run: logging it again adds what is new. `speedrun` logs each run at its end; run.mlflow=live while it goes on, run.mlflow=off
never.
"""

import os
import time
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import SWITCH, TEXT, Names, Word, Words
from harness.reading import is_there

RUNS = Names("run folder", least=1, remedy="python -m harness mlflow runs/LANE/SEED-PLAN")
WORDS = Words("mlflow", Word("follow", SWITCH, False), Word("store", TEXT), names=RUNS)
SUMMARY = "log run folders to MLflow, finished or live"
POLL_S = 5.0


def main(arguments: list[str]) -> int:
    a = WORDS.read(arguments)
    folders = [folder for path in a.names for folder in _folders(path)]
    if a.follow and len(folders) > 1:
        raise UserError(f"--follow with {len(folders)} run folders", "follow one")
    if a.follow:
        os.nice(19)  # the run it watches is being timed
    from harness.record.mlflow_sink import Sink, default_store

    sink = Sink(a.store or default_store())
    for folder in folders:
        _log(sink, folder, a.follow)
    print(f"MLflow: mlflow ui --backend-store-uri {sink.store}")
    return 0


def _folders(path: Path) -> list[Path]:
    found = [path] if is_there(path / "identity.json") else sorted(p.parent for p in path.rglob("identity.json"))
    if not found:
        raise UserError(f"{path} is no run folder and has none below it", "name a folder below runs/ or results/")
    return found


def _log(sink, folder: Path, follow: bool) -> None:
    from harness.record.folder import is_running

    goes_on = True
    while goes_on:
        goes_on = follow and is_running(folder)  # asked first: what it writes before it ends is read below
        begun = time.perf_counter()
        done = sink.track(folder)
        if done is None:
            print(f"{folder}: no closed window yet" + ("" if goes_on else ", nothing to log"), flush=True)
        elif done[1] or not goes_on:
            print(f"{folder}: {done[1]:,} new points, MLflow run {done[0]}, {time.perf_counter() - begun:.1f} s", flush=True)
        if goes_on:
            time.sleep(POLL_S)
