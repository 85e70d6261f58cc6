"""What a diagnosis returns."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Try:
    """Something to try: why it may help, and the words that do it, written for the command line of `speedrun`.

    `from_checkpoint`: it can go on from a checkpoint before the trouble; a change that must act from the first step cannot."""

    why: str
    words: tuple[str, ...]
    from_checkpoint: bool = True


@dataclass(frozen=True)
class Finding:
    """`name`: the diagnosis; `layers`: the transformer layers that have it, none where it is not a matter of a layer; `since`:
    the first step of the trouble, None where it has no beginning; `evidence`: the numbers that `says` speaks of."""

    name: str
    says: str
    why: str
    layers: tuple[int, ...] = ()
    since: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    tries: tuple[Try, ...] = ()
