"""Checkpoints that survive a kill at any moment: safetensors beside a JSON that commits them, nothing pickled.

`step-000128.safetensors` is written, synced and renamed first; its note `step-000128.json`, which holds its sha256, the state
of the run beside the tensors, and a sha256 of that, follows. A file without its note never counts. The newest that reads back
whole wins; a damaged one is named and passed over.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import UserError
from harness.files import file_sha256, replace_atomically, whole
from harness.reading import parse_json, read_bytes, validate
from harness.record.documents import CheckpointNote, RunState


@dataclass
class Checkpoint:
    step: int
    tensors: dict[str, Tensor]
    meta: RunState


def save(folder: Path, step: int, tensors: dict[str, Tensor], meta: RunState, keep: int, always: Collection[int] = ()) -> None:
    """Writes one checkpoint and drops all but the newest `keep` up to it and those of the steps in `always`.

    Raises: UserError when the disk is full; older ones stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:06d}.safetensors"
    try:
        with whole(path) as part:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part)
            digest = file_sha256(part)
        note = CheckpointNote(step=step, sha256=digest, meta=meta).content()
        replace_atomically(path.with_suffix(".json"), [json.dumps(note | {"note_sha256": _note_sha256(note)}).encode()])
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write the checkpoint of step {step} to {folder}: {error}",
            f"free some space and run the same command again; {_newest(folder)}",
        ) from error
    known = [done for done in steps(folder) if done <= step]
    _drop_all_but({*known[-keep:], *(done for done in known if done in always)}, folder)


def _drop_all_but(kept: set[int], folder: Path) -> None:
    """Later ones too: a run that is at this step has passed them over as damaged. And what a kill left half written."""
    names = {f"step-{step:06d}" for step in kept}
    for path in sorted(folder.glob("step-*"), key=lambda path: path.suffix):  # .json first: then the rest no longer counts
        if path.stem not in names:
            path.unlink(missing_ok=True)


def steps(folder: Path) -> list[int]:
    """Steps that have a committed checkpoint, ascending."""
    found = (re.fullmatch(r"step-(\d+)", path.stem) for path in folder.glob("step-*.json"))
    return sorted(int(match[1]) for match in found if match)


def load(folder: Path, step: int) -> Checkpoint:
    """Raises: ValueError naming the file and what is wrong with it."""
    path = folder / f"step-{step:06d}.safetensors"
    try:
        note = _note(path, step)
        found = file_sha256(path)
        if found != note.sha256:
            raise ValueError(f"{path} is corrupt: sha256 {found[:12]}, expected {note.sha256[:12]}")
        return Checkpoint(note.step, load_file(path), note.meta)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _note(path: Path, step: int) -> CheckpointNote:
    """What commits a checkpoint: its step, the hash of its tensors, the state beside them. Notes of before they had a hash of
    their own are taken as they are.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    place = path.with_suffix(".json")
    try:
        content = parse_json(read_bytes(place), place)
        note = validate(content, CheckpointNote, place)
        stated = content.pop("note_sha256", None)
        if content.keys() != {"step", "sha256", "meta"} or note.step != step:
            raise ValueError(f"it holds {', '.join(content)} of step {note.step}")
        if stated is not None and stated != _note_sha256(content):
            raise ValueError(f"sha256 {_note_sha256(content)[:12]}, expected {stated[:12]}")
    except ValueError as error:
        why = error.problem if isinstance(error, UserError) else error
        raise ValueError(f"{path} cannot be read: its note is corrupt: {why}") from error
    return note


def _note_sha256(note: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def load_newest(
    folder: Path, say: Callable[[str], None], judge: Callable[[Checkpoint], None] = lambda found: None
) -> Checkpoint | None:
    """The newest checkpoint that reads back whole and against which `judge` raises no ValueError; `say` is told about each
    that is passed over."""
    for step in reversed(steps(folder)):
        try:
            found = load(folder, step)
            judge(found)
            return found
        except ValueError as error:
            say(f"{error}; falling back to the one before it")
    return None


def _newest(folder: Path) -> str:
    done = steps(folder)
    return f"it goes on from step {done[-1]}" if done else "it starts from the beginning"
