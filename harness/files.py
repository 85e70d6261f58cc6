"""Files that are whole or absent, and their hashes."""

import errno
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

CHUNK_BYTES = 1 << 20
STALE_S = 24 * 3600  # a partial file untouched for this long belongs to a process that was killed


def replace_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Writes a file that is whole or absent, whatever happens meanwhile.

    Raises:
        OSError: its folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = path.with_name(f".{path.name[:80]}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The hash of a file's content.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe would be waited for.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed left half written."""
    for temporary in folder.glob(".*.tmp"):
        try:
            if time.time() - temporary.stat().st_mtime > STALE_S:
                temporary.unlink()
        except FileNotFoundError:
            pass  # another process was faster
