"""The kinds of value that a file may hold, each with the words for what was expected there.

Strict: true is no number and "1" is none either. Whole numbers fit 64 bits. Measured ones are bounded far beyond anything that
was ever measured and far within what a float holds, so that sums, squares and ratios of them stay finite.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from harness.errors import nearest

MOST_WHOLE = 2**63 - 1
LARGEST, SMALLEST = 1e50, 1e-50
KIND, RULE = "kind", "rule"  # of an error: its message is what was expected; a whole sentence


@dataclass(frozen=True, eq=False)
class _Kind:
    """Annotates a type: what pydantic is to check, and the words of its refusal."""

    expected: str
    schema: CoreSchema

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(self.schema, custom_error_type=KIND, custom_error_message=self.expected)


def _whole(low: int, expected: str) -> _Kind:
    return _Kind(expected, core_schema.int_schema(strict=True, ge=low, le=MOST_WHOLE))


def _number(low: float, high: float, expected: str) -> _Kind:
    return _Kind(expected, core_schema.float_schema(strict=True, allow_inf_nan=False, ge=low, le=high))


def _words(pattern: str, expected: str, longest: int | None = None) -> _Kind:
    return _Kind(expected, core_schema.str_schema(strict=True, pattern=pattern, max_length=longest))


Flag = Annotated[bool, _Kind("true or false", core_schema.bool_schema(strict=True))]
Int = Annotated[int, _whole(-MOST_WHOLE, "a whole number")]
Whole = Annotated[int, _whole(0, "a whole number of 0 or more")]
Count = Annotated[int, _whole(1, "a whole number of 1 or more")]
Number = Annotated[float, _number(-LARGEST, LARGEST, "a finite number")]
Finite = Annotated[float, _number(-sys.float_info.max, sys.float_info.max, "a finite number")]  # nobody reckons with it
Least0 = Annotated[float, _number(0.0, LARGEST, "a finite number of 0 or more")]
Positive = Annotated[float, _number(SMALLEST, LARGEST, "a finite number above 0")]
Share = Annotated[float, _number(0.0, 1.0, "a number from 0 to 1")]
# What training saw may be NaN or infinite, and says so.
Measured = Annotated[float, _Kind("a number", core_schema.float_schema(strict=True, allow_inf_nan=True))]
Text = Annotated[str, _words(r"^[^\x00-\x08\x0B-\x1F\x7F]*$", "text without control characters")]
Filled = Annotated[str, _words(r"^[^\x00-\x08\x0B-\x1F\x7F]+$", "text that is not empty")]
# Names and hashes become part of a path.
Name = Annotated[str, _words(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", "a name of letters, digits, . _ and -", 100)]
Hex = Annotated[str, _words(r"^[0-9a-f]{8,128}$", "a hash of 8 or more hexadecimal digits")]
Index = Annotated[str, _words(r"^[0-9]{1,9}$", "a whole number as text")]


OPEN = ConfigDict(extra="allow")  # fields that it does not name stay: a newer harness may have written them


class Model(BaseModel):
    """A JSON object or YAML mapping: what a file says, read by attributes and written by `content`."""

    model_config = ConfigDict(OPEN, frozen=True, protected_namespaces=(), defer_build=True)

    def content(self) -> dict[str, Any]:
        """The object as JSON data: every field that it was given, those of a newer harness among them, and no default."""
        return self.model_dump(exclude_unset=True)


class Closed(Model):
    """One that people write by hand, where an unknown field is a mistyped one."""

    @model_validator(mode="before")
    @classmethod
    def _knows_every_field(cls, content: Any) -> Any:
        for name in content if isinstance(content, dict) else ():
            if name not in cls.model_fields:
                raise broken(f"unknown field {name!r}: {nearest(str(name), cls.model_fields)}")
        return content


def broken(rule: str) -> PydanticCustomError:
    """What a validator raises: each value is of its type, and yet this does not hold."""
    return PydanticCustomError(RULE, "{rule}", {"rule": rule})


def one_of(*choices: str) -> Any:
    """Text that is one of these."""
    return Annotated[str, _Kind(" or ".join(choices), core_schema.literal_schema(list(choices)))]


def absent() -> Any:
    """The default of a field that may be left out, but is not null where it is there."""
    return Field(default=None)
