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
    """As `later`, of a key that the lane leaves free."""
    metadata = {"later": True}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def unhashed(default: Any) -> Any:
    """A key that cannot change the bits of a run."""
    return field(default=default, metadata={"hashed": False})
