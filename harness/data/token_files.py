"""Documents as tokens: each file of a corpus is tokenized once, into a file of the cache that is memory-mapped afterwards.

The name of a token file is a hash of what it depends on (the text's hash, the tokenizer's files, the reader), so nothing ever
has to be invalidated. Work that was cut off goes on after the last finished file. Layout, little-endian: 8 bytes of magic,
uint64 length of the header, the header (JSON, padded with blanks to a multiple of 8), int64 offsets of the documents (one more
than there are documents), uint16 tokens. End-of-text is not in the file: it belongs to the way documents are packed.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.artifact import Progress, set_aside, using, write_atomically
from harness.data.cache import cache_folder
from harness.data.tokenizer import Tokenizer

MAGIC = b"MOETOKEN"
METHOD = 1  # part of the name: raise it when the same text would give other tokens
BATCH_BYTES = 4 << 20  # of text handed to the tokenizer at once
REPORT_S = 5.0


@dataclass(frozen=True)
class TokenFile:
    """`tokens` uint16 (N,) and `offsets` int64 (documents + 1,), memory-mapped; document d is offsets[d] to offsets[d + 1].
    `text_bytes`: UTF-8 bytes of all documents; `sha256`: of offsets and tokens."""

    tokens: np.ndarray
    offsets: np.ndarray
    text_bytes: int
    sha256: str


def tokenize(
    name: str, text_hash: str, reader: str, documents: Callable[[], Iterable[str]], tokenizer: Tokenizer,
    progress: Progress | None = None,
) -> TokenFile:  # fmt: skip
    """The token file of a text with this hash, read by `reader` (a name); `documents` is called only where it is not there.

    A damaged file is set aside and made again. 10 MB of text a second on two cores. Raises: whatever `documents` does.
    """
    path = path_of(text_hash, reader, tokenizer)
    found = _open(path)
    if found is None:
        write_atomically(path, _encoded(name, documents(), tokenizer, progress))
        found = _open(path)
        assert found is not None, "a token file that was just written"
    return found


def path_of(text_hash: str, reader: str, tokenizer: Tokenizer) -> Path:
    key = json.dumps([text_hash, reader, tokenizer.hash, METHOD])
    return cache_folder() / "tokens" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.tokens"


def _encoded(name: str, documents: Iterable[str], tokenizer: Tokenizer, progress: Progress | None) -> Iterator[bytes]:
    parts: list[np.ndarray] = []
    lengths: list[int] = []
    text_bytes, started, reported = 0, time.monotonic(), time.monotonic()
    for batch in _batches(documents):
        encoded = tokenizer.encode_batch(batch)
        parts += [np.array(tokens, np.uint16) for tokens in encoded]
        lengths += map(len, encoded)
        text_bytes += sum(len(text.encode()) for text in batch)
        if progress and time.monotonic() - reported > REPORT_S:
            reported = time.monotonic()
            rate = text_bytes / (reported - started)
            progress(f"tokenizing {name}: {text_bytes / 1e6:,.0f} MB of text, {rate / 1e6:.1f} MB/s")
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype("<i8")
    payload = [offsets.tobytes(), *(part.astype("<u2", copy=False).tobytes() for part in parts)]
    digest = hashlib.sha256()
    for part in payload:
        digest.update(part)
    header = {"name": name, "documents": len(lengths), "tokens": int(offsets[-1]), "text_bytes": text_bytes,
              "sha256": digest.hexdigest()}  # fmt: skip
    yield _head(header)
    yield from payload
    if progress:
        progress(f"tokenized {name}: {header['documents']:,} documents, {header['tokens']:,} tokens, "
                 f"{text_bytes / 1e6:,.0f} MB in {time.monotonic() - started:.1f} s")  # fmt: skip


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _head(header: dict[str, Any]) -> bytes:
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    return MAGIC + len(content).to_bytes(8, "little") + content


def _open(path: Path) -> TokenFile | None:
    """None where there is no whole file. Reads all of it once, to check its hash: 1 s for a gigabyte."""
    with using(path.parent):
        if not path.exists():
            return None
        size = os.path.getsize(path)
        content = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
    try:
        if bytes(content[:8]) != MAGIC:
            raise ValueError("no magic")
        start = 16 + int.from_bytes(bytes(content[8:16]), "little")
        header = json.loads(bytes(content[16:start]))
        split = start + 8 * (header["documents"] + 1)
        if size != split + 2 * header["tokens"]:
            raise ValueError("wrong length")
        if hashlib.sha256(content[start:]).hexdigest() != header["sha256"]:
            raise ValueError("wrong sha256")
    except (ValueError, KeyError, TypeError, RecursionError):
        set_aside(path)
        return None
    return TokenFile(content[split:].view("<u2"), content[start:split].view("<i8"), header["text_bytes"], header["sha256"])
