"""What each dial of a study of two families does in either, and whether it does more in one of them.

A dial's effect is bits of val against its family's own case at equal seeds, in %. The interaction is the second family's effect
minus the first one's, seed by seed.
"""

from collections.abc import Callable, Mapping, Sequence

from harness.plan.race import RACE
from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.families import BySeed, between, effects, in_percent, resolved, sample
from harness.report.study.trials import Trial

OF_COSTS = ("doses", "epochs", "formats", RACE)  # figures of studies whose dials cost: who pays more is said


def interaction_table(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of a study without families, of a race, whose bits stand beside its seconds, or before both
    families have a dial in common."""
    if study.figure == RACE:
        return []
    said = "What a dial changes of {measure} of val at equal seeds, in %: mean, and the {level:.0%} interval of it."
    if study.parts:
        alone = " and ".join(study.parts)
        said += f" This is all of val, with parts of whose kind not every case has read any; {alone} stand below by themselves."
    return of_changes(study, trials, {dial: effects(study, trials, dial) for dial in study.dials}, said)


def of_changes(
    study: Study, trials: Sequence[Trial], changes: Mapping[str, Sequence[BySeed]], said: str,
    in_words: Callable[[Sample], str] = in_percent, against: str = "minus",
) -> list[str]:  # fmt: skip
    """Lines of Markdown of what each dial changes in both families; none where no seed has both. `said`: what stands above,
    with {measure} and {level} in it; `in_words`: a change, which `against` sets against the other family's."""
    rows = []
    for dial, (one, other) in changes.items():
        if more := sample(between(one, other)):
            both = sample(one), sample(other)
            costs = study.figure in OF_COSTS and any(found.mean > 0 for found in both)
            rows.append(row([text(dial), *map(in_words, (*both, more)), text(_verdict(study, more, costs))]))
    if not rows:
        return []
    first, second = study.families
    header = ("dial", f"in {first}", f"in {second}", f"{second} {against} {first}", "verdict")
    return ["", text(said.format(measure=trials[0].measure, level=LEVEL)), "", *head(header), *rows]


def _verdict(study: Study, more: Sample, costs: bool) -> str:
    """Less is better: an interaction below 0 is in favour of the second family. `costs`: the dial costs one of them."""
    if more.n < MIN_SEEDS:
        return f"n = {more.n}: a verdict takes {MIN_SEEDS} seeds"
    if not resolved(more):
        return f"no difference that {more.n} seeds resolve"
    if costs:
        return f"costs {study.families[more.mean > 0]} more"
    return f"does more for {study.families[more.mean < 0]}"
