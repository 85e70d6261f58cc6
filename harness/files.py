"""Files and folders that are whole or absent, whatever happens while they are written; and the hashes of files."""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

CHUNK_BYTES = 1 << 20
STALE_S = 24 * 3600  # what is half written and untouched for this long belongs to a process that was killed
PART = re.compile(r"\..*\.[0-9a-f]{32}\.tmp")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path`, on which the block writes a file or a folder; at its end that is named `path`, in place of the file
    or the empty folder there. Where the block fails nothing is left of it.

    Raises:
        OSError: the folder around it cannot be written, or `path` is a folder that is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    part = path.with_name(f".{path.name[:80]}.{uuid4().hex}.tmp")
    try:
        yield part
        for each in part.rglob("*") if part.is_dir() else [part]:
            if each.is_file():
                sync(each)
        os.replace(part, path)
    finally:
        _remove(part)


def replace_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Writes a file that is whole or absent. Raises: OSError when its folder cannot be written."""
    with whole(path) as part, part.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)


def file_sha256(path: Path) -> str:
    """Raises: OSError, also for what is no regular file: a pipe would be waited for."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed left half written."""
    for part in folder.glob(".*.tmp"):
        try:
            if PART.fullmatch(part.name) and time.time() - part.stat().st_mtime > STALE_S:
                _remove(part)
        except FileNotFoundError:
            pass  # another process was faster


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
