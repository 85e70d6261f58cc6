"""Opens files for all who read: missing, odd, too large and packed ones are told apart here.

A log may lie packed: metrics.jsonl as metrics.jsonl.xz, and whoever reads it need not know. Records state the hash of what is
unpacked, so packing changes none. A run writes its log plain; what is put into results/ is packed. Unpacking is bounded, in
bytes by whoever reads, and to so many times the size of the file that no small file can fill the memory.
"""

import hashlib
import lzma
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError

MOST_BYTES = 1 << 28  # of one document
MOST_FILE_BYTES = 1 << 50  # of one file that is only hashed, a piece at a time
SUFFIX = ".xz"
PACKABLE = ".jsonl"  # only names that end so are looked for packed
CHUNK_BYTES = 1 << 20
MOST_TIMES = 200  # unpacked bytes per packed one; logs have 3 to 6
MOST_MEMORY = 80 << 20  # of the unpacker: xz -9 takes 65 MiB


def lies_at(path: Path) -> Path:
    """Where a file lies: at its name, or packed beside it where its name is not there."""
    if path.suffix != PACKABLE or os.path.lexists(path):
        return path
    packed = path.with_name(path.name + SUFFIX)
    return packed if os.path.lexists(packed) else path


def remedy_of(path: Path) -> str:
    return f"restore it (git checkout -- {path}, where it was committed) or run that lane again"


def said(error: Exception) -> str:
    """What the system says of an error, in a line."""
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def is_there(path: Path) -> bool:
    """Whether there is something of this name, be it a folder, or a link to nothing or to itself: readers say what is wrong
    with it."""
    return os.path.lexists(lies_at(path))


def read_bytes(path: Path, remedy: str | None = None, most: int = MOST_BYTES) -> bytes:
    """Errors: UserError for a file that is missing, no file, too large, packed wrong, or may not be read."""
    return b"".join(_chunks(path, remedy, most))


def file_hash(path: Path) -> str:
    """sha256 of what `read_bytes` would give. Errors: UserError."""
    found = hashlib.sha256()
    for chunk in _chunks(path, None, MOST_FILE_BYTES):
        found.update(chunk)
    return found.hexdigest()


def _chunks(path: Path, remedy: str | None, most: int) -> Iterator[bytes]:
    """The bytes of a file, unpacked where it lies packed; `most` of them."""
    path = lies_at(path)
    remedy = remedy or remedy_of(path)
    size = require_file(path, remedy)
    if size > most:
        raise UserError(f"{path} cannot be read: it has {size:,} bytes, at most {most:,} are read", remedy)
    try:
        with open(path, "rb") as file:
            pieces = iter(lambda: file.read(CHUNK_BYTES), b"")
            yield from _unpacked(pieces, path, min(most, MOST_TIMES * size), remedy) if path.suffix == SUFFIX else pieces
    except OSError as error:
        raise UserError(f"{path} cannot be read: {said(error)}", remedy) from error


def require_file(path: Path, remedy: str | None = None) -> int:
    """Its size in bytes. A pipe would be waited for without end. Errors: UserError for what is no regular file."""
    path = lies_at(path)
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        what = "is a link to a file that does not exist" if path.is_symlink() else "is missing"
        raise UserError(f"{path} {what}", remedy or remedy_of(path)) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {said(error)}", remedy or remedy_of(path)) from error
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise UserError(f"{path} cannot be read: it is {what}", remedy or remedy_of(path))
    return found.st_size


def _unpacked(pieces: Iterator[bytes], path: Path, most: int, remedy: str) -> Iterator[bytes]:
    """What the `pieces` of a packed file hold, a MiB at a time.

    Raises:
        UserError: it is packed wrong, cut off, or holds more than `most` bytes.
    """
    unpacker, seen = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY), 0
    try:
        for piece in pieces:
            if unpacker.eof:
                raise UserError(f"{path} is corrupt: it goes on after its end", remedy)
            while True:
                found = unpacker.decompress(piece, CHUNK_BYTES)
                seen += len(found)
                if seen > most:
                    raise UserError(f"{path} cannot be read: unpacked it has more than {most:,} bytes", remedy)
                yield found
                piece = b""
                if unpacker.eof or unpacker.needs_input:
                    break
    except lzma.LZMAError as error:
        raise UserError(f"{path} is truncated or corrupt ({error})", remedy) from error
    if not unpacker.eof:
        raise UserError(f"{path} is truncated: its packed content is cut off", remedy)
    if unpacker.unused_data:
        raise UserError(f"{path} is corrupt: it goes on after its end", remedy)


def put_kept(source: Path, folder: Path) -> Path:
    """Puts a file into a folder as results/ keeps it: a log packed, any other, and what lies packed, as it is. Its new path."""
    source = lies_at(source)
    content = source.read_bytes()
    target = folder / source.name
    if source.suffix == PACKABLE:
        packed = lzma.compress(content, lzma.FORMAT_XZ)
        if len(content) <= MOST_TIMES * len(packed):  # else nobody could read it
            content, target = packed, target.with_name(target.name + SUFFIX)
    target.write_bytes(content)
    return target
