"""What each dial of a study of two families does in either, and whether it does more in one of them.

A dial's effect is bits of val against its family's own case at equal seeds, in %. The interaction is the second
family's effect minus the first one's, seed by seed, so that what a seed does to both falls out.
"""

from collections.abc import Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.trials import Trial, val_percent


def effects(study: Study, trials: Sequence[Trial], dial: str) -> list[dict[int, float]]:
    """By family: {seed: effect}, of seeds that have one."""
    found = []
    for family in study.families:
        base = [trial for trial in trials if trial.case == family]
        turned = [trial for trial in trials if trial.case == f"{family}-{dial}"]
        found.append({t.seed: value for t in turned if (value := val_percent(t, base)) is not None})
    return found


def interaction_table(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of a study without families, or before both have a dial in common."""
    rows = []
    for dial in study.dials:
        one, other = effects(study, trials, dial)
        both = sorted(one.keys() & other.keys())
        if both:
            samples = [Sample.of(list(one.values())), Sample.of(list(other.values()))]
            between = Sample.of([other[seed] - one[seed] for seed in both])
            rows.append(row([text(dial), *map(_said, samples), _said(between), text(_verdict(study, between))]))
    if not rows:
        return []
    first, second = study.families
    header = ("dial", f"in {first}", f"in {second}", f"{second} minus {first}", "verdict")
    measure = trials[0].measure
    said = f"What a dial changes of {measure} of val at equal seeds, in %: mean, and the {LEVEL:.0%} interval of it."
    return ["", text(said), "", *head(header), *rows]


def _said(sample: Sample) -> str:
    bounds = sample.interval()
    return f"{sample.mean:+.2f}%" + (f" ({bounds[0]:+.2f} to {bounds[1]:+.2f})" if bounds else "")


def _verdict(study: Study, between: Sample) -> str:
    """Less is better: an interaction below 0 is in favour of the second family."""
    bounds = between.interval()
    if between.n < MIN_SEEDS or bounds is None:
        return f"n = {between.n}: a verdict takes {MIN_SEEDS} seeds"
    if bounds[0] <= 0 <= bounds[1]:
        return f"no difference that {between.n} seeds resolve"
    return f"does more for {study.families[bounds[1] < 0]}"
