"""What one plan changes of another, key by key, in the words one would type: `optim.muon.lr 0.02 -> 0.05`.

Both are plans as records store them, so that the two may be of different versions of the schema: a key that one of them is
too old to have stands at its default. Keys that change no bit, and the track, which all plans of a board share, are left out;
of the lane its name counts alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.plan.schema import UNHASHED, walk
from harness.plan.stored import settings

ORDER = {key: place for place, (key, _) in enumerate(walk())}  # the schema's
SHARED = ("lane.", "track.")  # what the lane's name says, and what all plans of a board have in common
LANE, EXPERTS = "lane.name", "model.num_experts"
FIRST = ("lane", EXPERTS, "budget.", "batch.", "model.")


@dataclass(frozen=True)
class Change:
    """A key with its values in two plans."""

    key: str
    before: Any
    after: Any

    @property
    def text(self) -> str:
        """Exact."""
        return f"{self.key} {written(self.before)} -> {written(self.after)}"

    @property
    def short(self) -> str:
        """Floats at four significant digits."""
        return f"{self.key} {_rounded(self.before)} -> {_rounded(self.after)}"


def changes(plan: Mapping[str, Any], before: Mapping[str, Any]) -> list[Change]:
    """What `plan` changes of the plan `before`, both as parsed from plan.yaml, in the schema's order: the lane first."""
    now, was = settings(dict(plan)), settings(dict(before))
    keys = [key for key in now | was if key == LANE or not (key in UNHASHED or key.startswith(SHARED))]
    changed = [key for key in keys if now.get(key) != was.get(key)]
    return [
        Change("lane" if key == LANE else key, was.get(key), now.get(key))
        for key in sorted(changed, key=lambda key: (ORDER.get(key, len(ORDER)), key))
    ]


def ordered(changed: Iterable[Change]) -> list[Change]:
    """What tells most first: the lane, what seconds follow from, then the rest as it was."""
    return sorted(
        changed, key=lambda change: next((i for i, name in enumerate(FIRST) if change.key.startswith(name)), len(FIRST))
    )


def written(value: Any) -> str:
    """A value of a plan as the command line takes it, but for the quotes of a text."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else '""'


def _rounded(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_rounded, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else written(value)


def leaf(key: str) -> str:
    """The shortest end of a key that no other key of the schema has: `muon.lr` of `optim.muon.lr`."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if sum(other == end or other.endswith(f".{end}") for other in ORDER) == 1:
            return end
    return key
