"""A JSON document that states the sha256 of its own content, so that it cannot be changed unseen."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from harness import values as v
from harness.errors import UserError
from harness.reading import parse_json, read_bytes, read_json

SEAL = "index_sha256"
M = TypeVar("M", bound=v.Model)


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with its hash, which does not depend on how it is laid out."""
    return content | {SEAL: _sha256(content)}


def read_sealed(path: Path, model: type[M], remedy: str, newest: int) -> M:
    """Raises: UserError when it cannot be read, is of a newer version, or was changed since it was written."""
    found = read_json(path, model, remedy, newest)
    content = parse_json(read_bytes(path, remedy), path, remedy)
    stated = content.pop(SEAL, None)
    if stated != _sha256(content):
        raise UserError(f"{path} was changed after it was written: its {SEAL} does not match its content", remedy)
    return found


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
