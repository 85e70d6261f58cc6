"""What a dial changes of a figure of its runs, against its family's own case at equal seeds, and how much more in one of two
families."""

import math
from collections.abc import Callable, Mapping, Sequence

from harness.plan.study import Study
from harness.report.statistics import MIN_SEEDS, Sample
from harness.report.study.trials import Trial, val_bpb

Value = Callable[[Trial], float | None]
BySeed = Mapping[int, float]


def dials(study: Study) -> dict[str, tuple[str, dict[str, str]]]:
    """By family, {"": ...} of a study without: the case that others are compared with, and the others by dial."""
    if study.families:
        return {family: (family, {dial: f"{family}-{dial}" for dial in study.dials}) for family in study.families}
    first, *others = study.cases
    return {"": (first, {case: case for case in others})}


def by_seed(trials: Sequence[Trial], case: str, value: Value) -> dict[int, float]:
    return {trial.seed: found for trial in trials if trial.case == case and (found := value(trial)) is not None}


def percents(trials: Sequence[Trial], base: str, case: str, value: Value = val_bpb) -> dict[int, float]:
    """{seed: what `case` has more than `base`, in %}, of the seeds at which both have it."""
    of_base = by_seed(trials, base, value)
    return {seed: 100 * (v / of_base[seed] - 1) for seed, v in by_seed(trials, case, value).items() if seed in of_base}


def changes(trials: Sequence[Trial], base: str, case: str, value: Value) -> dict[int, float]:
    """{seed: what `case` has more than `base`}, of the seeds at which both have it."""
    return between(by_seed(trials, base, value), by_seed(trials, case, value))


def effects(study: Study, trials: Sequence[Trial], dial: str, value: Value = val_bpb) -> list[dict[int, float]]:
    """`percents` of a dial by family."""
    return [percents(trials, base, cases[dial], value) for base, cases in dials(study).values()]


def between(one: BySeed, other: BySeed) -> dict[int, float]:
    """What `other` has more than `one`, seed by seed, so that what a seed does to both falls out."""
    return {seed: other[seed] - value for seed, value in one.items() if seed in other}


def sample(found: BySeed) -> Sample | None:
    return Sample.of(list(found.values())) if found else None


def resolved(found: Sample) -> bool:
    """Whether the interval leaves 0 out, with seeds enough for a claim."""
    bounds = found.interval()
    return found.n >= MIN_SEEDS and bounds is not None and not bounds[0] <= 0 <= bounds[1]


def in_times(found: Sample) -> str:
    """ "1.200x (1.100 to 1.309)", the geometric mean of what are ln ratios, without an interval of one seed."""
    bounds = found.interval()
    return f"{math.exp(found.mean):.3f}x" + (" ({:.3f} to {:.3f})".format(*map(math.exp, bounds)) if bounds else "")


def in_percent(found: Sample) -> str:
    """ "+1.20% (+0.90 to +1.50)", without an interval of one seed."""
    bounds = found.interval()
    return f"{found.mean:+.2f}%" + (f" ({bounds[0]:+.2f} to {bounds[1]:+.2f})" if bounds else "")
