"""The run folder: who may write to it, what is in it, and whether a new run starts, goes on, or takes the next name.

    runs/<lane>/<seed>-<plan hash>/     plan.yaml  identity.json  metrics.jsonl  checkpoints/  record.json  *.png

`identity.json` holds what must match for a run to go on with the same bits. A lock held by the living process keeps two
runs out of one folder; a killed process loses it by itself.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

from harness.errors import UserError
from harness.files import CHUNK_BYTES, replace_atomically
from harness.plan.fingerprint import differences, plan_hash, to_yaml
from harness.plan.schema import Plan
from harness.plan.stored import read_stored_plan
from harness.reading import is_there, require_file
from harness.record.documents import Identity
from harness.record.read import read_identity
from harness.record.schema import Provenance

AWAITED = "scores-awaited"  # a file beside a record that has no public scores yet


def identity(plan: Plan, hardware_class: str, provenance: Provenance, ranks: int = 1) -> Identity:
    """`ranks`: how many there are, where the class does not name them."""
    return Identity(
        plan_hash=plan_hash(plan),
        seed=plan.seed,
        fork=plan.fork,
        commit=provenance.commit,
        source_sha256=provenance.source_sha256,
        versions=provenance.versions,
        hardware_class=hardware_class,
        **({"ranks": ranks} if ranks > 1 else {}),
    )


@dataclass
class RunFolder:
    path: Path
    lock: TextIO | None  # held by the first rank only
    resumes: bool  # whether an unfinished run is in it

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def write(self, name: str, text: str) -> None:
        """Writes a file of the folder, whole or not at all.

        Raises:
            UserError: the disk is full.
        """
        with writing(self.path / name):
            replace_atomically(self.path / name, [text.encode()])

    def await_scores(self) -> None:
        """From here on the record that lies here is one whose public scores are still to come: the run is not finished."""
        self.write(AWAITED, "")

    def has_scores(self) -> None:
        (self.path / AWAITED).unlink(missing_ok=True)

    def release(self) -> None:
        if self.lock:
            self.lock.close()

    def forget(self) -> None:
        """Removes a folder that was just made for a run which cannot start after all."""
        if self.lock and not self.resumes:
            shutil.rmtree(self.path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a full disk into the sentence that a user can act on."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {path}: {error}", "free some space and run the same command again") from error


def open_folder(plan: Plan, who: Identity, say) -> RunFolder:
    """The folder for this run, locked. `say` is told when an unfinished run is passed over and why.

    Raises:
        UserError: the same run is still going in another process, the folder cannot be made, or an unfinished run's plan.yaml
            is not this plan (the difference is shown).
    """
    stem = f"{plan.seed}-{who.plan_hash[:8]}" + ("-fork" if plan.fork else "")
    parent = Path(plan.run.folder) / plan.lane.name
    for number in range(1, 10_000):
        path = parent / (stem if number == 1 else f"{stem}.{number}")
        folder = _try(path, plan, who, say)
        if folder is not None:
            return folder
    raise UserError(f"10,000 runs named {stem} in {parent}", "remove some: python -m harness prune")


def _try(path: Path, plan: Plan, who: Identity, say) -> RunFolder | None:
    """This folder if it is free or holds an unfinished run of ours; None when the next name must be tried."""
    if is_finished(path):
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / "lock", "a")
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error}", "choose another place with run.folder=PATH") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(
            f"{path} is being written by a run that is still going", "wait for it, stop it, or use another seed"
        ) from None
    stored = read_identity(path)
    if stored is None:
        folder = RunFolder(path, lock, resumes=False)
        folder.write("plan.yaml", to_yaml(plan))
        folder.write("identity.json", json.dumps(who.content(), indent=1))
        return folder
    mine, theirs = who.content(), stored.content()
    for said in (mine, theirs):  # where bits depend on how many there are, the class says it
        said.pop("ranks", None)
    changed = [key for key in mine | theirs if not (key in mine and key in theirs and theirs[key] == mine[key])]
    planned = differences(plan, _stored_plan(path / "plan.yaml"))
    if planned or "plan_hash" in changed:
        lock.close()
        shown = "\n    ".join(planned) or f"plan_hash {stored.plan_hash} -> {who.plan_hash}"
        raise UserError(
            f"{path} holds an unfinished run of another plan:\n    {shown}", "restore its plan.yaml, or move the folder away"
        )
    if is_there(path / "metrics.jsonl"):
        require_file(path / "metrics.jsonl", "move the folder away")
    if is_there(path / "checkpoints") and not (path / "checkpoints").is_dir():
        raise UserError(f"{path / 'checkpoints'} is no folder", "move the run's folder away")
    if changed:
        lock.close()
        say(
            f"{path} holds an unfinished run that cannot go on here with the same bits "
            f"({', '.join(changed)} changed); starting anew"
        )
        return None
    folder = RunFolder(path, lock, resumes=True)
    if (path / "plan.yaml").read_bytes() != to_yaml(plan).encode():  # in a key that no bits depend on
        folder.write("plan.yaml", to_yaml(plan))
    return folder


def _stored_plan(path: Path) -> dict[str, Any]:
    return read_stored_plan(path, "move the folder away")


def is_finished(path: Path) -> bool:
    """Whether a run ended here: with a record that has all its scores, or stopped by health."""
    return is_there(path / "stopped.json") or (is_there(path / "record.json") and not is_there(path / AWAITED))


def is_running(run: Path) -> bool:
    """Whether a living process writes to this run folder."""
    lock = run / "lock"
    if not lock.is_file():
        return False
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class MetricsLog:
    """metrics.jsonl: one JSON object a line, appended. Its position and the sha256 of what stands before it go into
    checkpoints; a resume cuts back to them."""

    def __init__(self, path: Path, position: int = 0):
        """The log at `path`, cut to `position`.

        Raises:
            UserError: it cannot be written.
        """
        with writing(path):
            self.file = open(path, "ab")
            self.cut(position)

    def cut(self, position: int) -> None:
        """Forgets all but the first `position` bytes."""
        self.file.truncate(position)
        self.file.seek(0, os.SEEK_END)
        self.digest = _digest(Path(self.file.name), position)

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Writes these rows behind what is there.

        Raises:
            UserError: the disk is full.
        """
        content = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
        with writing(self.file.name):
            self.file.write(content)
            self.file.flush()
        self.digest.update(content)

    def sync(self) -> int:
        """Bytes written, now on the disk: a checkpoint never points past what is there."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    @property
    def sha256(self) -> str:
        """The hash of what was written: never of what a faulty disk has made of it."""
        return self.digest.hexdigest()


def prefix_sha256(path: Path, length: int) -> str | None:
    """The hash of the first `length` bytes of a file; None where it has not as many."""
    if length > (path.stat().st_size if path.exists() else 0):
        return None
    return _digest(path, length).hexdigest()


def _digest(path: Path, length: int):
    digest, left = hashlib.sha256(), length
    with open(path, "rb") as file:
        while left and (chunk := file.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    return digest
