"""The marks that a key of the schema carries; `schema.py` says what they mean."""

from dataclasses import field
from typing import Any

from omegaconf import MISSING


def frozen(default: Any = MISSING) -> Any:
    """A key that the lane fixes."""
    return _key(default, frozen=True)


def later(default: Any) -> Any:
    """A frozen key that older plans do not have: at its default it changes nothing, `plan_hash` included."""
    return _key(default, frozen=True, later=True)


def added(default: Any) -> Any:
    """As `later`, of a key that the lane leaves free."""
    return _key(default, later=True)


def bounded(default: Any, **marks: bool) -> Any:
    """A free key whose default is the bound of ranking: below it a run stays ranked, above it only `unranked=true` runs."""
    return _key(default, bounded=True, **marks)


def unhashed(default: Any) -> Any:
    """A key that cannot change the bits of a run."""
    return _key(default, hashed=False)


def _key(default: Any, **marks: bool) -> Any:
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=marks)
    return field(default=default, metadata=marks)
