"""The marks that a key of the schema carries; `schema.py` says what they mean.

Every key may also have a range (`least`, `most`: both ends allowed, NaN and infinity never are; of a list they hold for its
items) or the values it is one of (`among`). `check.py` holds them, and `make plan SET=--keys`
prints them; `remedy` is what a refusal says instead of the range.
"""

from dataclasses import field
from typing import Any

from omegaconf import MISSING

SWITCH = ("auto", "on", "off")


def frozen(default: Any = MISSING, **marks: Any) -> Any:
    """A key that the lane fixes. `later=True`: older plans do not have it, and at its default it changes nothing, `plan_hash`
    included."""
    return _key(default, frozen=True, **marks)


def free(default: Any, **marks: Any) -> Any:
    """A key that a recipe or the command line may set; `later` as above."""
    return _key(default, **marks)


def bounded(default: Any, **marks: Any) -> Any:
    """A free key whose default is the bound of ranking: below it a run stays ranked, above it only `unranked=true` runs."""
    return _key(default, bounded=True, **marks)


def unhashed(default: Any, **marks: Any) -> Any:
    """A key that cannot change the bits of a run."""
    return _key(default, hashed=False, **marks)


def _key(default: Any, **marks: Any) -> Any:
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=marks)
    return field(default=default, metadata=marks)
