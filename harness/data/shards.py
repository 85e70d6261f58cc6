"""Token files in the format of published speedruns: 256 int32 of header (magic, version, number of tokens), then uint16 tokens.

End-of-text stands before each document; there is no table of documents. Little-endian throughout.
"""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from harness.errors import UserError
from harness.files import replace_atomically

MAGIC, VERSION, HEADER_INTS = 20240520, 1, 256
HEADER_BYTES = 4 * HEADER_INTS
SHARD_TOKENS = 100_000_000  # of a written file, as in the published ones


def read_shard(path: Path) -> np.ndarray:
    """Its tokens, uint16, 1-D, memory-mapped. Raises UserError for a file of another format, another version or length."""
    try:
        size = path.stat().st_size
        header = np.fromfile(path, "<i4", min(HEADER_INTS, size // 4))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", "name a file that exists") from error
    if len(header) < HEADER_INTS or header[0] != MAGIC:
        found = f"begins with {header[0]}" if len(header) else "is empty"
        raise UserError(f"{path} is no token file: it {found}, not with {MAGIC}", "fetch it again, or name other files")
    if header[1] != VERSION:
        raise UserError(f"{path} has version {header[1]} of the token format, this harness reads {VERSION}", "name other files")
    stated, found = int(header[2]), (size - HEADER_BYTES) / 2
    if stated != found:
        what = "truncated" if found < stated else "longer than it says"
        raise UserError(f"{path} is {what}: its header states {stated:,} tokens, it holds {found:,.1f}", "fetch it again")
    if stated < 1:
        raise UserError(f"{path} holds no tokens", "name other files")
    return np.memmap(path, "<u2", "r", offset=HEADER_BYTES)


def write_shards(folder: Path, name: str, pieces: Iterable[np.ndarray], shard_tokens: int = SHARD_TOKENS) -> list[Path]:
    """Writes a stream (uint16, given in pieces) as NAME_000000.bin, NAME_000001.bin, ...; each is whole or absent.

    Raises UserError when the folder cannot be written.
    """
    paths = []
    try:
        for number, tokens in enumerate(_cut(pieces, shard_tokens)):
            header = np.zeros(HEADER_INTS, "<i4")
            header[:3] = MAGIC, VERSION, len(tokens)
            path = folder / f"{name}_{number:06d}.bin"
            replace_atomically(path, [header.tobytes(), tokens.astype("<u2", copy=False).tobytes()])
            paths.append(path)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}", "make room or name another folder") from error
    return paths


def _cut(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The stream in lengths of `size`, the last one shorter."""
    held: list[np.ndarray] = []
    length = 0
    for piece in pieces:
        while length + len(piece) >= size:
            part, piece = piece[: size - length], piece[size - length :]
            yield np.concatenate([*held, part])
            held, length = [], 0
        held.append(piece)
        length += len(piece)
    if length:
        yield np.concatenate(held)


def find_shards(where: str) -> tuple[list[Path], list[Path]]:
    """(train, val) of a file, a folder's *.bin files or a glob, each sorted by name: "val" in a file's name marks val.

    Raises UserError when one of the two is missing.
    """
    pattern = Path(where).expanduser()
    found = sorted(pattern.glob("*.bin")) if pattern.is_dir() else [Path(p) for p in sorted(glob.glob(str(pattern)))]
    splits = [p for p in found if "val" not in p.name], [p for p in found if "val" in p.name]
    for name, paths in zip(("train", "val"), splits):
        if not paths:
            raise UserError(
                f"data.shards={where} names {len(found)} files, none of them of {name}",
                "python -m harness prepare wiki --as-bin FOLDER writes both; a file of val has val in its name",
            )
    return splits
