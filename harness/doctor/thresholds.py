"""Every number that a diagnosis compares with, and why it is that number. Nothing here is a setting of a run.

"Committed runs" are the ranked MoE records in results/; `python -m tests.doctor_measure results` prints what they measure.
"""

from dataclasses import dataclass
from textwrap import fill

from harness.plan.bounds import RANKING


@dataclass(frozen=True)
class Threshold:
    value: float
    unit: str
    reason: str


DOMINANT = Threshold(
    RANKING.collapse_load, "of all top-K sets", "where a run is stopped by default, and not ranked (health.collapse_load)"
)
HOT = Threshold(
    0.5, "as x in (E/K)^x times its share",
    "half way, in ratio, from uniform (1) to dominant (E/K); over two health windows in a row ranked runs stay below "
    "x = 0.34",
)  # fmt: skip
SPREAD = Threshold(
    0.5, "of the experts", "exp(entropy) / E: half of the experts would do. Committed runs stay above 0.92 over a health window"
)
FALLING = Threshold(
    0.1,
    "of the experts",
    "lost over three health windows, each below the one before; committed runs lose at most 0.005 that way",
)
BIAS_RULES = Threshold(
    2.0, "in scores", "scores lie in (0, 1), so a range above 1 can outvote any of them; committed runs peak at 1.02"
)
BIAS_GROWS = Threshold(
    1.5, "times over the last half of a run",
    "counts only where the load is uneven and got no better: in committed runs the range may treble while the load evens out",
)  # fmt: skip
BIAS_COUNTS = Threshold(0.3, "in scores", "a smaller bias range is a start, not a fight")
UNEVEN = Threshold(50.0, "% cv of the load", "committed runs stay below 44% over a health window and below 13% at their end")
MEANING = Threshold(
    0.01, "bits per byte, or per answer", "two seeds of a committed plan differ by as much (sd up to 0.0058 per byte)"
)

WIDER = 5.0  # a band is this much wider than what was measured, each way: other shapes, other learning rates
ZERO_START = ("head",)  # weights that start at zero: update / parameter is about 2/t in step t whatever the rate


@dataclass(frozen=True)
class Band:
    """Update RMS / parameter RMS at the peak learning rate, of a parameter group."""

    low: float
    high: float
    source: str


def _measured(low: float, high: float) -> Band:
    return Band(
        low / WIDER, high * WIDER, f"committed healthy runs have {low:.1e} to {high:.1e}; {WIDER:g} times wider each way"
    )


# Lowest and highest median of a committed run, matrices by Muon, the rest by AdamW: `python -m tests.doctor_measure results`.
MEASURED = {
    "embedding": _measured(3.5e-4, 3.6e-4),
    "dense": _measured(5.6e-3, 1.3e-2),
    "expert": _measured(5.4e-3, 1.4e-2),
    "router": _measured(5.4e-3, 8.3e-3),
    "head": _measured(2.3e-3, 6.6e-3),
}
RULE_OF_THUMB = Band(1e-3 / 30, 1e-3 * 30, "no committed run has this optimizer for this group; about 1e-3 is a common rule of "
                     "thumb for Adam, 30 times wider each way")  # fmt: skip


def band_of(group: str, matrices: str) -> Band:
    """`matrices`: what updates dense and expert matrices, muon | adamw. A group never measured has the rule of thumb."""
    if group in ("dense", "expert") and matrices != "muon":
        return RULE_OF_THUMB
    return MEASURED.get(group, RULE_OF_THUMB)


def thresholds_text() -> str:
    """Every number, and where it comes from."""
    bounds = {name.lower(): bound for name, bound in globals().items() if isinstance(bound, Threshold)}
    lines = [row(name, f"{bound.value:g} {bound.unit}: {bound.reason}") for name, bound in bounds.items()]
    bands = {f"update {group}": band for group, band in MEASURED.items()} | {"update else": RULE_OF_THUMB}
    return "\n".join(lines + [row(name, f"{band.low:.1e} to {band.high:.1e}: {band.source}") for name, band in bands.items()])


def row(name: str, text: str) -> str:
    return fill(text, 118, initial_indent=f"{name:<18}", subsequent_indent=" " * 18)
