"""The tables of a study of sparsity: how many experts each case uses, what the unused half is worth, and what grows with E."""

from collections.abc import Callable, Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.families import between, in_percent, percents, resolved, sample
from harness.report.study.occupancy import COLD, cost, cv, dead_share, effective, in_words, of_arms, power
from harness.report.study.trials import Trial

OF_CASES = (
    "case", "experts", "n", "N_eff", "CV", "dead on val", "val against dense", "coldest half removed", "random half removed",
    "coldest half exchanged", "busiest half exchanged", "the coldest half",
)  # fmt: skip
OF_ARMS = ("arm", "experts", "N_eff", "N_eff grows as E to the", "CV grows as E to the", "verdict")
SAID = (
    "N_eff = E / (1 + CV^2), over all of val, the mean over MoE layers, mean ± sd over seeds. Against dense: bits of val at "
    "equal seeds, in %. Removed: never chosen, the next best are in their place; exchanged: who would go to one of them goes "
    "to another of them; bits a token more, of all MoE layers at once. {level:.0%} intervals over seeds. A hash router's "
    "tokens have no next best expert.",
    "A power of 0 of N_eff is the same number of experts whatever E is: then CV = sqrt(E / N_eff - 1) grows with E by "
    "arithmetic alone; of 1 it is the same share of them, and CV stays. Slopes of logarithms over all E, seed by seed, with "
    "{level:.0%} intervals.",
)


def occupancy_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of another figure."""
    arms = of_arms(trials) if study.figure == "occupancy" else {}
    if not arms:
        return []
    dense = next((trial.case for trial in trials if not trial.experts), None)
    cases = [row([text(some[0].case), *_of_case(trials, some, dense)]) for sizes in arms.values() for some in sizes.values()]
    grown = [
        row([
            text(arm), ", ".join(map(str, sizes)), ", ".join(f"{_mean(some, effective):.1f}" for some in sizes.values()),
            _power(found := power(sizes, effective)), _power(power(sizes, cv)), text(in_words(found)),
        ])
        for arm, sizes in arms.items()
    ]  # fmt: skip
    lines = ["", text(SAID[0].format(level=LEVEL)), "", *head(OF_CASES), *cases]
    return [*lines, "", text(SAID[1].format(level=LEVEL)), "", *head(OF_ARMS), *grown]


def _of_case(trials: Sequence[Trial], some: Sequence[Trial], dense: str | None) -> list[str]:
    against = sample(percents(trials, dense, some[0].case)) if dense else None
    experts, k = some[0].experts, some[0].top_k
    cold, chance = ({trial.seed: found for trial in some if (found := cost(trial, "removed", which)) is not None}
                    for which in (COLD, "random"))  # fmt: skip
    costs = [cold, chance] + [
        {trial.seed: found for trial in some if (found := cost(trial, "exchanged", which)) is not None}
        for which in (COLD, "busiest")
    ]
    return [
        f"{experts}, top-{k}", str(len(some)), Sample.of([effective(t) for t in some]).text("{:.1f}"),
        Sample.of([cv(t) for t in some]).text("{:.2f}"), f"{100 * _mean(some, dead_share):.1f}%",
        in_percent(against) if against else "-", *(_bits(sample(found)) for found in costs), text(_needed(cold, chance)),
    ]  # fmt: skip


def _needed(cold: dict[int, float], chance: dict[int, float]) -> str:
    """Beside the control: what any half costs."""
    found, less = sample(cold), sample(between(chance, cold))
    if found is None or less is None:
        return ""
    if found.n < MIN_SEEDS:
        return f"n = {found.n}: a verdict takes {MIN_SEEDS} seeds"
    if not resolved(found):
        return f"costs nothing that {found.n} seeds resolve"
    said = "helps by its absence" if found.mean < 0 else "is needed"
    if not resolved(less):
        return f"{said}, no less than a random half as far as {found.n} seeds resolve"
    return f"{said}, {'less' if less.mean < 0 else 'more'} than a random half"


def _bits(found: Sample | None) -> str:
    if found is None:
        return "-"
    bounds = found.interval()
    return f"{found.mean:+.4f}" + (f" ({bounds[0]:+.4f} to {bounds[1]:+.4f})" if bounds else "")


def _power(found: Sample | None) -> str:
    if found is None:
        return "-"
    bounds = found.interval()
    return f"{found.mean:+.2f}" + (f" ({bounds[0]:+.2f} to {bounds[1]:+.2f})" if bounds else "")


def _mean(some: Sequence[Trial], figure: Callable[[Trial], float]) -> float:
    return sum(map(figure, some)) / len(some)
