"""Checkpoints that survive a kill at any moment: safetensors beside a JSON that commits them, nothing pickled.

`step-000128.safetensors` is written, synced and renamed first; its note `step-000128.json`, which holds its sha256, the state
of the run beside the tensors, and a sha256 of that, follows. A file without its note never counts. The newest that reads back
whole wins; a damaged one is named and passed over.

Where state is spread over ranks each writes a file of its own, `step-000128.rank-003-of-008.safetensors`: its slices, and the
first one all that is the same on all ranks. Once every file lies there the first rank writes the note, with the sha256 of
each. Any number of ranks reads it, each those rows that it needs; all of them take the same checkpoint.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from torch import Tensor

from harness.errors import UserError
from harness.files import file_sha256, replace_atomically, sync, whole
from harness.ranks import ALONE, Ranks
from harness.reading import parse_json, read_bytes, validate
from harness.record import checkpoint_files
from harness.record.documents import CheckpointNote, RunState
from harness.train import slices
from harness.train.shards import WHOLE, Shards

Found = TypeVar("Found")


@dataclass
class Checkpoint:
    """`tensors`: whole ones, of which those that were written in slices are joined where rows of them are asked for."""

    step: int
    tensors: Mapping[str, Tensor | slices.Stack]
    meta: RunState


def save(
    folder: Path, step: int, tensors: Mapping[str, Tensor], meta: RunState, keep: int, always: Collection[int] = (),
    shards: Shards = WHOLE,
) -> None:  # fmt: skip
    """Writes one checkpoint and drops all but the newest `keep` up to it and those of the steps in `always`.

    `shards`: what of `tensors` are slices. Each of the ranks that they are spread over calls it, with tensors of its own;
    `meta` is the first one's.

    Raises:
        UserError: a disk is full, of one rank or another: on all of them. Older checkpoints stay.
    """
    ranks, own = shards.ranks, shards.own(tensors)
    path = folder / checkpoint_files.name(step, ranks.rank, ranks.world)

    def written() -> str:
        part = named.enter_context(whole(path))
        slices.write(part, own, {name: rows for name, t in own.items() if (rows := shards.rows(name, t))})
        sync(part)
        return file_sha256(part)

    def on_all(work: Callable[[], Found]) -> Found:
        return ranks.all_or_none(partial(_explained, folder, step, work))

    with ExitStack() as named:
        digest = on_all(written)
        on_all(named.close)
    digests = ranks.everyones_values(digest)
    on_all(lambda: _commit(folder, step, digests, meta) if ranks.is_first else None)
    if ranks.is_first:
        known = [done for done in steps(folder) if done <= step]
        _drop_all_but({*known[-keep:], *(done for done in known if done in always)}, folder, step, len(digests))


def _explained(folder: Path, step: int, work: Callable[[], Found]) -> Found:
    """Turns a full disk into the sentence that a user can act on."""
    try:
        return work()
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write the checkpoint of step {step} to {folder}: {error}",
            f"free some space and run the same command again; {_newest(folder)}",
        ) from error


def _commit(folder: Path, step: int, digests: list[str], meta: RunState) -> None:
    """`digests`: sha256 of the files of all ranks, in their order. Raises: OSError."""
    if len(digests) == 1:
        files: dict[str, Any] = {"sha256": digests[0]}
    else:
        files = {"files": {checkpoint_files.name(step, rank, len(digests)): each for rank, each in enumerate(digests)}}
    note = CheckpointNote(step=step, **files, meta=meta).content()
    text = json.dumps(note | {"note_sha256": _note_sha256(note)})
    replace_atomically(folder / checkpoint_files.note_name(step), [text.encode()])


def _drop_all_but(kept: set[int], folder: Path, step: int, files: int) -> None:
    """Later ones too: a run that is at this step has passed them over as damaged. And what a kill left half written, or other
    numbers of ranks than these `files` of `step`."""
    names = {f"step-{each:06d}" for each in kept}
    current = {checkpoint_files.name(step, rank, files) for rank in range(files)} | {checkpoint_files.note_name(step)}
    for path in sorted(folder.glob("step-*"), key=lambda path: path.suffix):  # .json first: then the rest no longer counts
        of = path.name.partition(".")[0]
        if of not in names or (of == f"step-{step:06d}" and path.name not in current):
            path.unlink(missing_ok=True)


def steps(folder: Path) -> list[int]:
    """Steps that have a committed checkpoint, ascending."""
    return checkpoint_files.committed(folder)


def load(folder: Path, step: int, ranks: Ranks = ALONE, judge: Callable[[Checkpoint], None] = lambda found: None) -> Checkpoint:
    """The checkpoint of this step, if none of these ranks finds anything wrong with it, nor `judge` on any. Nothing is copied:
    its tensors are mapped to the files.

    Raises:
        ValueError: it names the file and what is wrong with it; on every rank what the first of them says that found anything.
    """

    def opened() -> Checkpoint:
        found = Checkpoint(step, slices.read([folder / name for name in note.hashes]), note.meta)
        judge(found)
        return found

    note = _agreed(ranks, lambda: _verified(folder, step, ranks))  # before anyone makes sense of a damaged file
    return _agreed(ranks, opened)


def _agreed(ranks: Ranks, look: Callable[[], Found]) -> Found:
    """What each rank finds, where none raises a ValueError; else that of the first which does, on all of them."""
    found = problem = None
    try:
        found = look()
    except ValueError as error:
        problem = str(error)
    for said in ranks.everyones_values(problem):
        if said:
            raise ValueError(said)
    return found


def _verified(folder: Path, step: int, ranks: Ranks) -> CheckpointNote:
    """The note of a checkpoint, once this rank's share of the files has the hashes that it states. Raises: ValueError."""
    note = _note(folder / checkpoint_files.name(step), step)
    for name, expected in list(note.hashes.items())[ranks.rank :: ranks.world]:
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read: {error}") from error
        if found != expected:
            raise ValueError(f"{folder / name} is corrupt: sha256 {found[:12]}, expected {expected[:12]}")
    return note


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
        if content.keys() not in ({"step", "sha256", "meta"}, {"step", "files", "meta"}) or note.step != step:
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
    folder: Path, say: Callable[[str], None], judge: Callable[[Checkpoint], None] = lambda found: None, ranks: Ranks = ALONE
) -> Checkpoint | None:
    """The newest checkpoint that reads back whole and against which `judge` raises no ValueError, the same one on each of these
    ranks; `say` is told about each that is passed over."""
    for step in reversed(ranks.broadcast(steps(folder))):
        try:
            return load(folder, step, ranks, judge)
        except ValueError as error:
            say(f"{error}; falling back to the one before it")
    return None


def _newest(folder: Path) -> str:
    done = steps(folder)
    return f"it goes on from step {done[-1]}" if done else "it starts from the beginning"
