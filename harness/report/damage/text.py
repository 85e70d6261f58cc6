"""What interfering with a run's routers cost, in words."""

from collections.abc import Iterator

from harness.record.damaged import Damage, at_once
from harness.report.aligned import aligned
from harness.report.atlas.text import name_of, span
from harness.shown import one_line

WAYS = ("removed", "exchanged")
FORETOLD = {
    "sets": "sets that moved", "router": "experts exchanged", "inputs": "inputs moved", "load": "loads apart",
    "evenness": "unevenness", "weights": "weights apart", "model": "models apart",
}  # fmt: skip
SIGNED = "{:+.4f}"


def as_text(found: Damage) -> str:
    parts = [_head(found), _interferences(found), _transplants(found)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(found: Damage) -> Iterator[str]:
    m, probe = found.model, found.probe
    yield f"the routers of {name_of(found.run)}: {m.experts} experts, top-{m.top_k}, {one_line(m.router)}"
    yield (
        f"  read on {probe.tokens:,} tokens of {one_line(probe.of)} in {probe.windows} windows ({probe.sha256[:8]}): "
        f"{found.nats:.4f} nats a token at step {m.step:,}"
    )
    yield "  costs are nats a token more; intervals are over windows, 95% each"


def _interferences(found: Damage) -> Iterator[str]:
    yield "Experts of all MoE layers at once, never chosen (removed) or in each other's place (exchanged)"
    rows: dict[tuple[float, str], dict[str, str]] = {}
    for row in at_once(found.interferences):
        cells = rows.setdefault((row.share, row.which), {name: f"{row.foretold[name]:.3f}" for name in ("load", "said")})
        cells[row.what] = span(row.nats, SIGNED)
    yield from aligned(
        ("share", "which", "of the load", "of what is added", *WAYS),
        ((f"{share:.0%}", one_line(which), cells["load"], cells["said"], *(cells.get(way, "-") for way in WAYS))
         for (share, which), cells in rows.items()),
    )  # fmt: skip
    if not any(row.what == "removed" for row in found.interferences):
        yield "  none is removed: no token has a next best expert"


def _transplants(found: Damage) -> Iterator[str]:
    yield f"Routers of earlier checkpoints in the model of step {found.model.step:,}"
    if not found.transplants:
        yield "  none: it kept no checkpoint (run.checkpoint_steps=[...] keeps them and moves no bit), or the router is fixed"
        return
    rows = (
        ("untrained" if row.step == 0 else f"{row.step:,}", "all" if row.layer is None else str(row.layer),
         span(row.nats, SIGNED), *(f"{row.foretold[name]:.3f}" for name in FORETOLD))
        for row in found.transplants
    )  # fmt: skip
    yield from aligned(("step", "layer", "cost", *FORETOLD.values()), rows)
    yield "  sets that moved: 1 - Jaccard of a token's set then and now; experts exchanged: by this router, where it is put"
