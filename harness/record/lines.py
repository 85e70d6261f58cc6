"""Files of rows, one JSON object a line, as the typed dicts that their kinds say."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Discriminator, TypeAdapter, ValidationError
from pydantic_core import from_json

from harness.errors import UserError
from harness.packed import lies_at
from harness.reading import faults_of, read_bytes, refusal, remedy_of

MOST_LOG_BYTES = 1 << 33


def read_lines(path: Path, models: Mapping[str, Any], ended: bool = True) -> list[Any]:
    """The rows of a file with one JSON object a line, of the kinds in `models`, in their order; others are left alone. A file
    that has not `ended` may be in the middle of its last line, which then does not count.

    Raises:
        UserError: it cannot be read, a row is none of its kind, or the steps of one kind do not rise.
    """
    path = lies_at(path)
    content = read_bytes(path, most=MOST_LOG_BYTES)
    lines = (content if ended else content[: content.rfind(b"\n") + 1]).splitlines()
    rows = _all_of(lines, models)
    rows = _one_by_one(lines, models, path) if rows is None else rows
    last = dict.fromkeys(models, 0)
    for row in rows:
        if row["step"] <= last[row["kind"]]:
            raise UserError(f"{path} is corrupt: its {row['kind']} rows are not in step order", remedy_of(path))
        last[row["kind"]] = row["step"]
    return rows


def _all_of(lines: Sequence[bytes], models: Mapping[str, Any]) -> list[Any] | None:
    """Every line as a row, parsed and checked in one go, which is three times as fast; None where that cannot be done."""
    try:
        rows = _adapter(Annotated[Union[tuple(models.values())], Discriminator("kind")]).validate_json(  # noqa: UP007
            b"[%s]" % b",".join(lines)
        )
        return rows if len(rows) == len(lines) else None
    except ValidationError:
        return None  # whoever looks at them one by one says what is wrong


def _one_by_one(lines: Sequence[bytes], models: Mapping[str, Any], path: Path) -> list[Any]:
    """The rows of the known kinds."""
    numbers: dict[str, list[int]] = {kind: [] for kind in models}
    parsed = [_line(line, number, number == len(lines), path) for number, line in enumerate(lines, 1)]
    for number, row in enumerate(parsed, 1):
        kind = row.get("kind") if isinstance(row, dict) else None
        if not isinstance(kind, str):
            raise UserError(f"{path} is corrupt in line {number}: a row without a kind", remedy_of(path))
        if kind in models:
            numbers[kind].append(number)
    checked: dict[int, Any] = {}
    for kind, at in numbers.items():
        try:
            checked |= zip(at, _adapter(models[kind]).validate_python([parsed[number - 1] for number in at]))
        except ValidationError as error:
            faults = [{**fault, "loc": (f"line {at[fault['loc'][0]]}: ", *fault["loc"][1:])} for fault in faults_of(error)]
            raise refusal(faults, path, None) from error
    return [checked[number] for number in sorted(checked)]


def _line(line: bytes, number: int, last: bool, path: Path) -> Any:
    try:
        return from_json(line)
    except ValueError as error:
        what = "truncated: its last line is cut off" if last else f"corrupt in line {number} ({error})"
        raise UserError(f"{path} is {what}", remedy_of(path)) from error


@cache
def _adapter(kind: Any) -> TypeAdapter:
    """It checks a list of them."""
    return TypeAdapter(list[kind])
