"""Frees disk: deletes checkpoints of finished runs; with --all also unfinished, stopped and proof folders.

usage: python -m harness prune [--all] [--folder runs]
       make prune

Records, metrics, plans, figures and final weights of finished runs stay. A run that is still going is never touched.
"""

import shutil
from pathlib import Path

from harness.launch.options import PATH, SWITCH, Word, Words
from harness.record.folder import is_running

WORDS = Words("prune", Word("all", SWITCH, False), Word("folder", PATH, Path("runs")))
SUMMARY = "delete checkpoints of finished runs (--all: unfinished runs too)"


def main(arguments: list[str]) -> int:
    a = WORDS.read(arguments)
    freed = 0
    for identity in sorted(a.folder.rglob("identity.json")):
        run = identity.parent
        finished = (run / "record.json").exists()
        if is_running(run):
            print(f"kept, still running: {run}")
        elif a.all and not finished:
            freed += _delete(run)
        elif finished and (run / "checkpoints").is_dir():
            freed += _delete(run / "checkpoints")
    for proof in sorted(a.folder.glob("prove-*")) if a.all else []:
        if not any(is_running(path.parent) for path in proof.rglob("identity.json")):
            freed += _delete(proof)
    print(f"freed {freed / 1e6:,.1f} MB in {a.folder}")
    return 0


def _delete(folder: Path) -> int:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    print(f"deleted {folder}")
    return size
