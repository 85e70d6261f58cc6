"""The one way in for files: opened, parsed and held against a model, or refused in a sentence.

A refusal names the file, the place in it (a dotted key, a line), the value found, what was expected and what to do. A file
that cannot be opened is told apart from one that is damaged. What is handed on is the model.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from harness.errors import UserError
from harness.packed import chunks, lies_at
from harness.values import KIND, RULE, Model

MOST_BYTES = 1 << 28  # of one document
MOST_HASHED_BYTES = 1 << 50  # of one file that is only hashed, a piece at a time
DEEPEST = 100  # levels of YAML
MOST_NODES = 100_000  # of YAML, aliases written out
NAMED = 3  # faults of a file that are told in full

M = TypeVar("M", bound=Model)


class _Yaml(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # libyaml, where the wheel has it, is ten times faster
    """Safe YAML in which 1e-8 is a number, as in YAML 1.2 and in the files that people write."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
_repr = Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60
_repr.maxlevel, _repr.maxlist, _repr.maxdict = 2, 3, 3


def remedy_of(path: Path) -> str:
    return f"restore it (git checkout -- {lies_at(path)}, where it was committed) or run that lane again"


def is_there(path: Path) -> bool:
    """Whether there is something of this name, be it a folder, or a link to nothing or to itself: readers say what is wrong
    with it."""
    return os.path.lexists(lies_at(path))


def read_bytes(path: Path, remedy: str | None = None, most: int = MOST_BYTES) -> bytes:
    """The content of a file.

    Raises:
        UserError: it is missing, no file, too large, or may not be read.
    """
    path = lies_at(path)
    size = require_file(path, remedy)
    if size > most:
        raise UserError(f"{path} cannot be read: it has {size:,} bytes, at most {most:,} are read", remedy or remedy_of(path))
    try:
        return b"".join(chunks(path, most, remedy or remedy_of(path)))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {_said(error)}", remedy or remedy_of(path)) from error


def file_hash(path: Path) -> str:
    """sha256 of what a file holds, unpacked where it lies packed. Raises: UserError."""
    path = lies_at(path)
    require_file(path)
    found = hashlib.sha256()
    try:
        for chunk in chunks(path, MOST_HASHED_BYTES, remedy_of(path)):
            found.update(chunk)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {_said(error)}", remedy_of(path)) from error
    return found.hexdigest()


def require_file(path: Path, remedy: str | None = None) -> int:
    """Its size in bytes. A pipe would be waited for without end.

    Raises:
        UserError: it is no regular file.
    """
    path = lies_at(path)
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        what = "is a link to a file that does not exist" if path.is_symlink() else "is missing"
        raise UserError(f"{path} {what}", remedy or remedy_of(path)) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {_said(error)}", remedy or remedy_of(path)) from error
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise UserError(f"{path} cannot be read: it is {what}", remedy or remedy_of(path))
    return found.st_size


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def read_json(path: Path, model: type[M], remedy: str | None = None, newest: int | None = None) -> M:
    """A file with one JSON object. `newest`: the highest schema_version that this harness reads, of a file that has one.

    Raises:
        UserError: it cannot be read, or is no `model`.
    """
    content = parse_json(read_bytes(path, remedy), path, remedy)
    known = model.model_fields if newest is None else {"schema_version": None}
    if not isinstance(content, dict):
        expected = f"no JSON object with {', '.join(list(known)[:3])}"
        raise UserError(f"{path} is truncated or corrupt: {shown(content)} is {expected}", remedy or remedy_of(path))
    if newest is not None:
        _check_version(content.get("schema_version"), newest, path, remedy)
    return validate(content, model, path, remedy)


def _check_version(version: Any, newest: int, path: Path, remedy: str | None) -> None:
    if version is None:
        raise UserError(f"{path} is corrupt: it has no schema_version", remedy or remedy_of(path))
    if type(version) is int and version > newest:
        raise UserError(
            f"{path} has schema version {shown(version)}, this harness reads up to {newest}", "update this checkout: git pull"
        )


def parse_json(content: bytes, path: Path, remedy: str | None = None) -> Any:
    """What JSON says, as plain data.

    Raises:
        UserError: it is no JSON, or nested too deep.
    """
    try:
        return from_json(content)
    except ValueError as error:
        raise UserError(f"{path} is truncated or corrupt ({error})", remedy or remedy_of(path)) from error


def read_yaml(path: Path, model: type[M], remedy: str | None = None) -> M:
    """A file with one YAML mapping.

    Raises:
        UserError: it cannot be read, or is no `model`.
    """
    return validate(yaml_mapping(path, remedy), model, path, remedy)


def yaml_mapping(path: Path, remedy: str | None = None) -> dict[str, Any]:
    """What a YAML file holds, as plain data of what JSON has too: no tags, no dates.

    Raises:
        UserError: it cannot be read, or holds no mapping.
    """
    text = yaml_text(path, remedy)
    try:
        parsed = yaml.load(text, _Yaml)
        _refuse_odd(parsed)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is truncated or corrupt ({_said(error)})", remedy or remedy_of(path)) from error
    if not isinstance(parsed, dict):
        what = "it is empty" if parsed is None else f"{shown(parsed)} is no mapping"
        raise UserError(f"{path} is corrupt: {what}", remedy or remedy_of(path))
    return parsed


def yaml_text(path: Path, remedy: str | None = None) -> str:
    """What a parser of YAML may be given.

    Raises:
        UserError: it cannot be read, or would lead a parser astray.
    """
    content = read_bytes(path, remedy)
    try:
        text = content.decode()
        _refuse_hostile(text)
        return text
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} is truncated or corrupt ({_said(error)})", remedy or remedy_of(path)) from error


def _refuse_hostile(text: str) -> None:
    """libyaml's composer follows nesting without end and takes the process with it, so depth is looked at before; a tag makes
    what it likes of a value. Text that can have neither is not looked at: a level costs a bracket or a column."""
    columns = max(map(len, text.splitlines()), default=0)
    if columns + text.count("[") + text.count("{") <= 1000 and "!" not in text:
        return
    depth = 0
    for event in yaml.parse(text, _Yaml):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        if getattr(event, "tag", None):
            raise ValueError(f"a tag in line {event.start_mark.line + 1}")


def _refuse_odd(parsed: Any) -> None:
    """Only what JSON has too: YAML knows dates, sets and keys that are no text, and aliases that stand for what holds them, or
    for ever more."""
    level, seen = [parsed], 0
    for _ in range(DEEPEST):
        below: list[Any] = []
        for node in level:
            if isinstance(node, (dict, list)):
                below += node.values() if isinstance(node, dict) else node
            elif isinstance(node, str):
                node.encode()  # an escape may stand for half a character
            elif not isinstance(node, (int, float, type(None))):
                raise ValueError(f"{shown(node)} is a {type(node).__name__}: put it in quotes")
            if isinstance(node, dict) and (odd := [key for key in node if not isinstance(key, str)]):
                raise ValueError(f"the key {shown(odd[0])} is no text")
        level, seen = below, seen + len(below)
        if seen > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} values")
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def validate(content: Any, model: type[M], path: Path, remedy: str | None = None) -> M:
    """What a file holds, as a `model`.

    Raises:
        UserError: it is none; the first faults are named.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise refusal(faults_of(error), path, remedy) from error


def faults(content: Any, model: type[Model]) -> list[str]:
    """What keeps a part of a file from being a `model`, a sentence each."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        return [fault_text(fault) for fault in faults_of(error)]
    return []


def faults_of(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False)


def refusal(faults: Sequence[Any], path: Path, remedy: str | None) -> UserError:
    told = [fault_text(fault) for fault in faults[:NAMED]]
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return UserError(f"{path} is corrupt: {'; '.join(told)}{more}", remedy or remedy_of(path))


def fault_text(fault: ErrorDetails) -> str:
    """One fault as a sentence."""
    place, found = place_of(fault["loc"]), shown(fault["input"])
    match fault["type"]:
        case "missing":
            return f"{place} is missing"
        case "too_short":
            return f"{place} is empty"
        case kind if kind == KIND:
            return f"{place} is {found}, expected {fault['msg']}"
        case "list_type" | "tuple_type":
            return f"{place} is {found}, expected a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{place} is {found}, expected an object"
        case kind if kind == RULE:
            return f"{place}: {fault['msg']}" if place else fault["msg"]
    return f"{place} is {found}: {fault['msg']}"


def place_of(steps: Iterable[str | int]) -> str:
    """("metrics", "curve", 3, "step") -> "metrics.curve[3].step"."""
    place = ""
    for step in steps:
        if isinstance(step, int):
            place += f"[{step}]"
        elif step == "[key]":
            place += " as a key"
        else:
            place += step if not place or place.endswith(": ") else f".{step}"
    return place


def shown(value: Any) -> str:
    """A value found, shortened."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
