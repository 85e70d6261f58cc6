"""The swap contract: field by field what two groups share, and whether only the swapped component differs.

A component is a part of the plan that one would swap on purpose. A comparison is called fair when exactly one component
differs and nothing of the protocol, the size of the active FFN, the code, the machine or the effort spent on tuning does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.plan import parts
from harness.plan.fingerprint import flattened
from harness.plan.schema import LATER
from harness.report.board.claims import trials
from harness.report.groups import Group

COMPONENTS: dict[str, tuple[str, ...]] = {
    "attention": (), "residual": (), "memory": (),
    "FFN": ("model.ffn_width", "model.num_experts", "model.expert_width", "model.top_k", "model.shared_experts",
            "model.leading_dense_layers", "model.moe_every", "balance."),
    "precision": ("precision.",),
    "gains": ("gains.",),
    "loss": ("ahead.",),
    "optimizer": ("optim.",),
    "schedule": ("schedule.",),
    "initialization": ("init.",),
    "activation": ("model.activation",),
    "trunk": ("model.", "data.document_mask"),
    "kernels": ("kernels.", "parallel."),
}  # fmt: skip
PROTOCOL = ("track.", "data.shards", "data.task_shares", "batch.", "budget.", "validation.", "health.")
for _name, _kind in parts.KINDS.items():  # what chooses a part, and the part's own keys
    if _kind.component == "protocol":
        PROTOCOL += (*_kind.chosen_by, f"{_name}.")
    else:
        COMPONENTS[_kind.component] += (*_kind.chosen_by, f"{_name}.")
LEFT_OUT = ("lane.", "run.", "seed", "unranked", "fork", "precision.require_native")  # names and places, which change nothing


@dataclass(frozen=True)
class Field:
    """`part` is the component, or "protocol", "size", "code", "machine", "effort"."""

    part: str
    name: str
    a: Any
    b: Any

    @property
    def differs(self) -> bool:
        return self.a != self.b


@dataclass(frozen=True)
class Contract:
    fields: tuple[Field, ...]

    @property
    def swapped(self) -> list[str]:
        """The components that differ, in the order of COMPONENTS."""
        differing = {field.part for field in self.fields if field.differs}
        return [name for name in COMPONENTS if name in differing]

    @property
    def why_not_fair(self) -> list[str]:
        """One sentence for each reason that forbids the word; empty for a fair comparison."""
        reasons = []
        if len(self.swapped) > 1:
            reasons.append(f"{len(self.swapped)} components differ: {', '.join(self.swapped)}")
        if not self.swapped:
            reasons.append("no component differs: these are runs of one recipe")
        reasons += [f"{f.name} differs: {f.a} against {f.b}" for f in self.fields if f.differs and f.part not in COMPONENTS]
        effort = next(f for f in self.fields if f.part == "effort")
        if not effort.differs and effort.a == NOT_STATED:
            reasons.append("tuning trials are stated for neither side")
        return reasons


NOT_STATED = "not stated"


def contract(a: Group, b: Group, claim_a: Any, claim_b: Any) -> Contract:
    """`claim_a`, `claim_b`: the claims that the groups were submitted under, or None."""
    return Contract((*_plan_fields(a, b), *_derived(a, b), *_effort(claim_a, claim_b)))


def _plan_fields(a: Group, b: Group) -> Iterator[Field]:
    flat_a, flat_b = flattened(a.plan), flattened(b.plan)
    for key in [*flat_a, *(key for key in flat_b if key not in flat_a)]:
        if not key.startswith(LEFT_OUT):
            neutral = LATER.get(key, "absent")  # what older plans say by not having the key
            yield Field(_part(key), key, flat_a.get(key, neutral), flat_b.get(key, neutral))


def _part(key: str) -> str:
    if key.startswith(PROTOCOL):
        return "protocol"
    return next((name for name, keys in COMPONENTS.items() if key.startswith(keys)), "protocol")


def _derived(a: Group, b: Group) -> Iterator[Field]:
    yield Field("size", "active FFN width", active_ffn_width(a.plan), active_ffn_width(b.plan))
    for part in ("train", "val"):
        key = f"{part}_sha256"
        yield Field("protocol", f"data, {part}", getattr(a.first.data, key)[:12], getattr(b.first.data, key)[:12])
    yield Field("protocol", "bytes of val scored", a.first.metrics.scored_bytes, b.first.metrics.scored_bytes)
    part = "machine" if a.precision == b.precision else "precision"
    yield Field(part, "execution", *(group.first.precision.execution for group in (a, b)))
    yield Field("code", "source", _sources(a), _sources(b))
    yield Field("machine", "hardware class", a.hardware_class, b.hardware_class)


def active_ffn_width(plan: dict[str, Any]) -> int:
    """Hidden units that a token meets in a layer of the kind the lane is named for."""
    model = plan["model"]
    if not model["num_experts"]:
        return model.get("ffn_width", 0)
    return (model["top_k"] + model.get("shared_experts", 0)) * model.get("expert_width", 0)


def _sources(group: Group) -> str:
    found = {(run.record.provenance.source_sha256 or "unknown")[:12] for run in group.runs}
    return ", ".join(sorted(found))


def _effort(claim_a: Any, claim_b: Any) -> Iterator[Field]:
    stated = [NOT_STATED if (n := trials(claim)) is None else n for claim in (claim_a, claim_b)]
    yield Field("effort", "tuning trials before the plan", *stated)
