"""How many experts are used, whatever their number, and whether the unused half is needed: the figures of a study of sparsity.

Cases are named ARM-E, such as bias-64: an arm is one way to balance, at several numbers of experts. N_eff = E / (1 + CV^2) is
the mean over MoE layers, its logarithm where it is set against E. Should the same number of experts be used whatever E is, CV
grows as the square root of E by arithmetic alone, and N_eff does not.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.record.damaged import at_once
from harness.report.statistics import MIN_SEEDS, Sample
from harness.report.study.trials import Trial

HALF, COLD = 0.5, "coldest"
DIGITS = 12  # of a slope: what is below is rounding
SIZES = 3  # numbers of experts at which an arm must stand, for a power of E


def arm_of(case: str) -> str:
    return case.rpartition("-")[0] or case


def effective(trial: Trial) -> float:
    """N_eff over val, the mean over MoE layers."""
    return float(trial.load.effective.mean())


def cv(trial: Trial) -> float:
    """As a fraction, the mean over MoE layers."""
    return float(trial.load.cv_percent.mean() / 100)


def dead_share(trial: Trial) -> float:
    return float(trial.load.dead.sum() / trial.load.counts.size)


def cost(trial: Trial, what: str, which: str, share: float = HALF) -> float | None:
    """Bits a token more where such a share of the experts of all MoE layers is `removed` or `exchanged`; None if none was."""
    rows = at_once(trial.damage.interferences) if trial.damage else []
    found = [row.nats[0] for row in rows if (row.what, row.which, row.share) == (what, which, share) and row.nats]
    return found[0] / math.log(2) if found else None


def of_arms(trials: Sequence[Trial]) -> dict[str, dict[int, list[Trial]]]:
    """{arm: {E: its runs that finished}} of MoE runs, in the order of the cases, E ascending."""
    found: dict[str, dict[int, list[Trial]]] = {}
    for trial in trials:
        if trial.record and trial.experts:
            found.setdefault(arm_of(trial.case), {}).setdefault(trial.experts, []).append(trial)
    return {arm: dict(sorted(sizes.items())) for arm, sizes in found.items()}


def power(sizes: Mapping[int, Sequence[Trial]], figure: Callable[[Trial], float]) -> Sample | None:
    """The power of E that a figure grows by: the slope of its logarithm, of each seed that stands at all sizes; None below
    SIZES sizes, or where the figure is 0."""
    if len(sizes) < SIZES:
        return None
    slopes = []
    for seed in sorted({trial.seed for some in sizes.values() for trial in some}):
        values = [next((figure(trial) for trial in some if trial.seed == seed), 0.0) for some in sizes.values()]
        if min(values) > 0:
            slopes.append(round(float(np.polyfit(np.log(list(sizes)), np.log(values), 1)[0]), DIGITS))
    return Sample.of(slopes) if slopes else None


def in_words(found: Sample | None) -> str:
    """What the power by which N_eff grows says of the claim that CV falls with E."""
    if found is None:
        return f"stands at fewer than {SIZES} numbers of experts"
    bounds = found.interval()
    if found.n < MIN_SEEDS or bounds is None:
        return f"n = {found.n}: a verdict takes {MIN_SEEDS} seeds"
    if bounds[0] <= 0 <= bounds[1]:
        return "as many experts at any E: CV moves by arithmetic alone"
    if bounds[0] <= 1 <= bounds[1]:
        return "the same share of experts at any E: CV does not follow E"
    if bounds[0] > 1:
        return "a larger share of the experts, the more there are"
    return (
        "fewer experts, the more there are"
        if bounds[1] < 0
        else "more experts, the more there are, and a smaller share of them"
    )
