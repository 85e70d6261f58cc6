"""Files that may lie packed: metrics.jsonl as metrics.jsonl.xz, evaluations.json alike, and whoever reads them need not know.

Records state the hash of what is unpacked, so packing changes none. A run writes its log plain; what is put into results/ is
packed. Unpacking is bounded, in bytes by whoever reads, and to so many times the size of the file that no small file can fill
the memory.
"""

import lzma
import os
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError

SUFFIX = ".xz"
PACKABLE = (".jsonl", "evaluations.json")  # only names that end so are looked for packed
CHUNK_BYTES = 1 << 20
MOST_TIMES = 200  # unpacked bytes per packed one; logs have 3 to 6
MOST_MEMORY = 80 << 20  # of the unpacker: xz -9 takes 65 MiB


def lies_at(path: Path) -> Path:
    """Where a file lies: at its name, or packed beside it where its name is not there."""
    if not path.name.endswith(PACKABLE) or os.path.lexists(path):
        return path
    packed = path.with_name(path.name + SUFFIX)
    return packed if os.path.lexists(packed) else path


def chunks(path: Path, most: int, remedy: str) -> Iterator[bytes]:
    """The bytes of a regular file as `lies_at` gives it, unpacked, a MiB at a time.

    Raises:
        UserError: it is packed wrong, cut off, or holds more than `most` bytes once unpacked.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        pieces = iter(lambda: file.read(CHUNK_BYTES), b"")
        if path.suffix == SUFFIX:
            most = min(most, MOST_TIMES * os.fstat(file.fileno()).st_size)
            pieces = _unpacked(pieces, path, most, remedy)
        yield from pieces


def _unpacked(pieces: Iterator[bytes], path: Path, most: int, remedy: str) -> Iterator[bytes]:
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
    """Puts a file into a folder as results/ keeps it: what may be packed so, any other as it is. Its new path."""
    source = lies_at(source)
    content = source.read_bytes()
    target = folder / source.name
    if source.name.endswith(PACKABLE):
        packed = lzma.compress(content, lzma.FORMAT_XZ)
        if len(content) <= MOST_TIMES * len(packed):  # else nobody could read it
            content, target = packed, target.with_name(target.name + SUFFIX)
    target.write_bytes(content)
    return target
