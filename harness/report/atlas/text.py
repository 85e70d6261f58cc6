"""A receipt in words. What is not above its control is not called anything else."""

from collections.abc import Iterator

from harness.record.atlas import Atlas, AtlasRun, Span
from harness.report.aligned import aligned
from harness.shown import one_line

CHANNELS, BOUNDARY = ("router", "inputs", "biases", "all"), ("near", "next")
ABOVE, NOT = "above its control", "not told apart from its control"


def as_text(index: Atlas) -> str:
    parts = [_head(index), _settled(index), _drift(index), _told(index), _pairs(index)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def name_of(run: AtlasRun) -> str:
    return one_line(f"{run.lane}, seed {run.seed}, plan {run.plan_hash[:8]}")


def span(found: Span | None, form: str = "{:.3f}") -> str:
    """ "0.123 (0.100 to 0.146)"."""
    if found is None:
        return "-"
    value, low, high = (form.format(x) for x in found)
    return f"{value} ({low} to {high})"


def _head(index: Atlas) -> Iterator[str]:
    m, probe = index.model, index.probe
    yield f"the router of {name_of(index.run)}: {m.experts} experts, top-{m.top_k}, {one_line(m.router)}"
    yield (
        f"  read on {probe.tokens:,} tokens of {one_line(probe.of)} in {probe.windows} windows ({probe.sha256[:8]}), at steps "
        f"{', '.join(f'{taken.step:,}' for taken in index.taken)}; step 0 is the untrained model"
    )
    yield f"  receipt {index.receipt_sha256[:8]}, index {index.index_sha256[:8]}"
    yield "  intervals are over windows; those of one table hold together at 95%"


def _settled(index: Atlas) -> Iterator[str]:
    yield "Margins s_(K) - s_(K+1), and how many experts are used"
    rows = (
        (f"{row.step:,}", str(row.layer),
         *(("-", "-", "-", "-") if row.margin is None else
           (span(row.margin.mean, "{:.2g}"), f"{row.margin.quantiles[1]:.2g}", f"{row.margin.quantiles[2]:.2g}",
            f"{row.margin.ties / index.probe.tokens:.2f}")),
         span(row.effective, "{:.1f}"), str(row.unused), f"{row.busiest:.2f}")
        for row in index.settled
    )  # fmt: skip
    yield from aligned(("step", "layer", "margin", "10%", "median", "tied", "N_eff", "unused", "busiest takes"), rows)
    yield "  tied: the share of tokens whose last expert scores what the next one does; N_eff = E / (1 + CV^2);"
    yield "  busiest takes: the share of tokens that its expert is chosen for"


def _drift(index: Atlas) -> Iterator[str]:
    yield "What moved: a token's set and its set later, and the share of chosen experts that each alone would exchange"
    if not index.drift:
        yield "  nothing to compare: one checkpoint was read"
        return
    rows = []
    for row in index.drift:
        channels = [row.channels and getattr(row.channels, name) for name in CHANNELS]
        boundary = [row.boundary and getattr(row.boundary, name) for name in BOUNDARY]
        figures = (span(found, "{:.2f}") for found in (row.jaccard, row.control, *channels, *boundary))
        rows.append((f"{row.step:,} to {row.to:,}", str(row.layer), *figures))
    yield from aligned(("steps", "layer", "Jaccard", "of tokens apart", *CHANNELS, *BOUNDARY), rows)
    yield "  near: of what moved, the share at the smallest tenth of margins (0.10 by chance); next: of what came, the share"
    if (first := next((row.boundary for row in index.drift if row.boundary), None)) is not None:
        yield f"  that had been the next expert ({first.next_by_chance:.3f} by chance)"


def _told(index: Atlas) -> Iterator[str]:
    yield "Who is for what: what a chosen expert tells of its token, in nats"
    if not index.told:
        yield "  nothing can be told: no label has two states here"
        return
    rows = (
        ("untrained" if row.step == 0 else f"{row.step:,}", str(row.layer),
         one_line(row.of) + (", beyond its id" if row.beyond_ids else ""),
         span((row.information, *row.interval)), span(row.control), ABOVE if row.above else NOT)
        for row in sorted(index.told, key=lambda row: (row.of, row.beyond_ids, row.layer, row.step))
    )  # fmt: skip
    yield from aligned(("step", "layer", "label", "told", "control", " "), rows, last_left=True)
    yield "  control: labels of other windows. What the untrained model tells too is no result of training."


def _pairs(index: Atlas) -> Iterator[str]:
    for title, found in (
        ("Who stands beside whom: shares of tokens whose set has both", index.beside),
        ("Who competes with whom: the last expert chosen, and the next one", index.behind),
    ):
        yield title
        at = [row for row in found if row.step == index.taken[-1].step]
        if not at:
            yield "  none above its control"
            continue
        yield from aligned(
            ("layer", "experts", "share of tokens", "of tokens apart"),
            ((str(row.layer), f"{row.pair[0]} and {row.pair[1]}", span(row.share), span(row.control)) for row in at),
        )
