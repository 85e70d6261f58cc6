"""Files named by their sha256, and results computed once: everything the harness keeps in its cache folder.

A file is looked for in the cache, then in the folder or URL in SPEEDRUN_MIRROR, then at its public sources, and its hash is
checked wherever it came from, so a mirror needs no trust and a broken download cannot become data. A bad file is set aside
as `*.bad` rather than deleted: it is evidence. Nothing in the cache is ever half written: a file appears under its name by
`os.replace`, after `fsync`.
"""

import hashlib
import http.client
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen
from uuid import uuid4

import numpy as np

from harness.data.cache import cache_folder
from harness.errors import UserError
from harness.files import CHUNK_BYTES, file_sha256, replace_atomically

Progress = Callable[[str], None]  # told a sentence before and during a long computation
Source = str | Callable[[], Iterable[bytes]]  # a URL or a path, or a function that yields the file's bytes
TIMEOUT_S = 30  # without a byte from a server

log = logging.getLogger(__name__)


class Unavailable(Exception):
    """A source does not have the file, or broke off."""


def fetch(name: str, sha256: str, sources: Sequence[Source] = ()) -> Path:
    """The path of a file in the cache whose bytes have this sha256 (64 hex digits), fetched if need be.

    `name` is the file's path below the mirror, and gives the cached file its suffix. A source that lacks the file, breaks
    off or has other bytes is logged and the next one is asked.

    Raises UserError when no source has the right bytes: it lists each with the reason, and the hash found against the one
    expected.
    """
    path = cache_folder() / "artifacts" / (sha256 + Path(name).suffix)
    failures = []
    with using(path.parent):
        found = file_sha256(path) if path.exists() else None
    if found == sha256:
        return path
    if found is not None:
        failures.append(_wrong_hash(name, path, sha256, found, set_aside(path)))

    mirror = os.environ.get("SPEEDRUN_MIRROR")
    candidates = [*([_below(mirror, name)] if mirror else []), *sources]
    for source in candidates:
        origin = source if isinstance(source, str) else getattr(source, "__name__", repr(source))
        partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
        try:
            write_atomically(partial, _read(source))
        except Unavailable as why:
            failures.append(f"{name}: {origin}: {why}")
            log.warning(failures[-1])
            continue
        found = file_sha256(partial)
        if found == sha256:
            with using(path.parent):
                os.replace(partial, path)
            return path
        failures.append(_wrong_hash(name, origin, sha256, found, set_aside(partial, path)))
    raise UserError(
        f"no source has {name} with sha256 {sha256}:\n  " + "\n  ".join(failures or ["there is no source to ask"]),
        f"put the right file at {name} below a folder or URL and set SPEEDRUN_MIRROR to it (now: {mirror or 'not set'})",
    )


def derived(name: str, key: Any, build: Callable[[], Any]) -> Any:
    """`build()`, computed once per (name, key) and kept in the cache; JSON data or a numpy array, the array read-only.

    `key` (JSON data) holds everything the result depends on, data hashes above all. The first call returns what the later
    ones will read, so a tuple is a list from the start. Two processes that miss at the same time both compute, and each
    writes the whole file: the last one stays. A file that is corrupt is set aside as `*.bad` and computed again.

    Raises UserError when the cache cannot be written, and whatever `build` raises.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "derived" / f"{name}-{digest[:32]}"
    with using(path.parent):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = None
    if content is not None:
        try:
            return _decode(content)
        except (ValueError, RecursionError) as why:
            log.warning(f"{path} is corrupt ({why}): moved to {set_aside(path)}, computing it again")
    content = _encode(build())
    write_atomically(path, [content])
    return _decode(content)


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """`replace_atomically` in the cache folder. UserError when it cannot be written.

    What `chunks` raises passes through and leaves nothing behind; an OSError of its own would be taken for the folder's.
    """
    with using(path.parent):
        replace_atomically(path, chunks)


@contextmanager
def using(folder: Path) -> Iterator[None]:
    """Turns a full disk or an unwritable folder into the sentence that a user can act on."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot use the cache folder {folder}: {error.strerror or error}",
            f"make room there, or set SPEEDRUN_CACHE to another folder (now: {cache_folder()})",
        ) from error


def _read(source: Source) -> Iterator[bytes]:
    """The bytes of a source in chunks; Unavailable for whatever keeps it from giving all of them."""
    try:
        if callable(source):
            yield from source()
        elif "://" in source:
            with urlopen(source, timeout=TIMEOUT_S) as response:
                expected, seen = response.headers.get("Content-Length"), 0
                while chunk := response.read(CHUNK_BYTES):
                    seen += len(chunk)
                    yield chunk
                if expected is not None and seen != int(expected):
                    raise Unavailable(f"broke off after {seen:,} of {int(expected):,} bytes")
        else:
            with open(source, "rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def _below(mirror: str, name: str) -> str:
    if "://" in mirror:
        return f"{mirror.rstrip('/')}/{quote(name)}"
    return str(Path(mirror).expanduser() / name)


def _wrong_hash(name: str, origin: Path | str, expected: str, found: str, bad: Path) -> str:
    message = f"{name}: {origin} has the wrong sha256: expected {expected}, found {found}; set aside as {bad}"
    log.warning(message)
    return message


def set_aside(path: Path, meant_for: Path | None = None) -> Path:
    """Renames a bad file to `*.bad`, beside where it would have stood; the new path."""
    bad = (meant_for or path).with_name((meant_for or path).name + ".bad")
    with using(path.parent):
        try:
            os.replace(path, bad)
        except FileNotFoundError:
            pass  # another process has set it aside
    return bad


def _encode(value: Any) -> bytes:
    """One line of JSON (kind and sha256 of the rest), then JSON or the .npy format."""
    if isinstance(value, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        kind, payload = "npy", buffer.getvalue()
    else:
        kind, payload = "json", json.dumps(value).encode()
    header = {"kind": kind, "sha256": hashlib.sha256(payload).hexdigest()}
    return json.dumps(header).encode() + b"\n" + payload


def _decode(content: bytes) -> Any:
    """Raises ValueError on anything that `_encode` did not write."""
    first_line, _, payload = content.partition(b"\n")
    header = json.loads(first_line)
    found = hashlib.sha256(payload).hexdigest()
    if not isinstance(header, dict) or header.get("sha256") != found:
        raise ValueError(f"its bytes have sha256 {found}, its first line says otherwise")
    if header["kind"] == "json":
        return json.loads(payload)
    array = np.load(io.BytesIO(payload), allow_pickle=False)
    array.flags.writeable = False
    return array
