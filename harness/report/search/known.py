"""What is known of the noise before a confirmation is run, and what its pairs will therefore find."""

import math
from collections.abc import Iterable, Sequence

from harness.plan.space import Noise
from harness.record.confirmations import Known, Power, Seen
from harness.report.power import POWER, detectable
from harness.report.search.verdict import gap_differences, seconds_differences
from harness.report.statistics import ALPHA, Sample

ENOUGH = 8  # degrees of freedom: below it the sd of one confirmation is less known than what the space states
LEAST_SD = 1e-6  # of figures that came out alike: a test of no spread would find everything

Pairs = tuple[Sequence[Seen], Sequence[Seen]]


def known(noise: Noise, earlier: Iterable[Pairs]) -> Known:
    """`earlier`: both sides of every confirmation and null of the storage. Each spread is around the mean of its own group, and
    pooled; fewer than ENOUGH degrees of freedom give way to what the space states."""
    pooled = _all_pooled(earlier, ENOUGH)
    taken = {key: found for key, found in pooled.items() if found is not None}
    stated = Known.stated(noise)
    if not taken:
        return stated
    told = ", ".join(f"{name} " + ("of earlier runs" if key in taken else "as the space states") for key, name in NAMES.items())
    return stated.model_copy(update=taken | {"source": told})


NAMES = {"slice_sd": "slice", "pair_seconds_sd": "seconds", "pair_gap_sd": "gap"}


def pooled_text(earlier: Iterable[Pairs]) -> str:
    """What the spread of these pairs is."""
    told = {key: "unknown" if sd is None else f"{sd:.4f}" for key, sd in _all_pooled(earlier, 1).items()}
    return (
        f"Standard deviations: slice {told['slice_sd']} over seeds; in a pair ln seconds {told['pair_seconds_sd']}, rest minus "
        f"slice {told['pair_gap_sd']}."
    )


def _all_pooled(earlier: Iterable[Pairs], enough: int) -> dict[str, float | None]:
    earlier = [pairs for pairs in earlier if pairs[0] and len(pairs[0]) == len(pairs[1])]
    slices = [Sample.of([run.slice for run in side]) for pairs in earlier for side in pairs]
    seconds = [seconds_differences(*pairs) for pairs in earlier if not any(run.disturbed for side in pairs for run in side)]
    gaps = [found for pairs in earlier if (found := gap_differences(*pairs))]
    return {key: _pooled(samples, enough) for key, samples in zip(NAMES, (slices, seconds, gaps))}


def _pooled(samples: Sequence[Sample], enough: int) -> float | None:
    samples = [sample for sample in samples if sample.n > 1]
    freedom = sum(sample.n - 1 for sample in samples)
    if freedom < enough:
        return None
    return max(LEAST_SD, math.sqrt(sum((sample.n - 1) * sample.sd**2 for sample in samples) / freedom))


def power_of(known: Known, pairs: int, alpha: float) -> Power:
    return Power(
        power=POWER, alpha=alpha, pairs=pairs, fall=detectable(pairs, known.pair_seconds_sd, alpha),
        slice=detectable(pairs, known.slice_sd, ALPHA), gap=detectable(pairs, known.pair_gap_sd, alpha),
    )  # fmt: skip


def power_text(known: Known, power: Power) -> list[str]:
    """What is said before anything is run."""
    fall = f"{-100 * math.expm1(-power.fall):.1f}%"
    often = f"{power.power:.0%} of the time"
    return [
        f"{power.pairs} pairs at alpha {power.alpha:g} find {often}:",
        f"  seconds: a fall of {fall} or more (sd {known.pair_seconds_sd:.3f} of ln seconds in a pair)",
        f"  line: a slice {power.slice:.4f} below it or more (sd {known.slice_sd:.4f} over seeds, at p < {ALPHA})",
        f"  rest: a gap grown by {power.gap:.4f} or more (sd {known.pair_gap_sd:.4f} in a pair); a smaller one passes unseen",
        f"  standard deviations: {known.source}",
    ]
