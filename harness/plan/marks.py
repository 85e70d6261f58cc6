"""The marks that a key of the schema carries; `schema.py` says what they mean."""

from dataclasses import field
from typing import Any

from omegaconf import MISSING


def frozen(default: Any = MISSING) -> Any:
    """A key that the lane fixes."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"frozen": True})
    return field(default=default, metadata={"frozen": True})


def later(default: Any) -> Any:
    """A frozen key that older plans do not have: at its default it changes nothing, `plan_hash` included."""
    known = frozen(default)
    return field(default=known.default, default_factory=known.default_factory, metadata={"frozen": True, "later": True})


def added(default: Any) -> Any:
    """A free key that older plans do not have: at its default it changes nothing, `plan_hash` included."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"later": True})
    return field(default=default, metadata={"later": True})


def unhashed(default: Any) -> Any:
    """A key that cannot change the bits of a run."""
    return field(default=default, metadata={"hashed": False})
