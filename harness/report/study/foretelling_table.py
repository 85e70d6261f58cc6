"""The table of a study of damage: which figure foretells it, and whether routing's does so better than the others."""

from collections.abc import Iterator, Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS
from harness.report.study.foretelling import FIRST, KINDS, OUTCOMES, SHUFFLED, Foretold, Found, foretold
from harness.report.study.trials import Trial

SAID = (
    "Spearman's rank correlation, within a run, of what interfering with a router costs and of what is known beforehand; the "
    "mean over runs, then over cases; {level:.0%} intervals of a bootstrap over runs and, in each, over its checkpoints "
    "(layers, where experts are removed or exchanged). Of one age: pairs of one checkpoint (of one share of experts) among "
    "each other, as differences from their mean. Minus: the correlation of the first figure of the outcome minus this one's. "
    "Shuffled: the first figure against the costs of other pairs, the control.",
    "An earlier router is one of a kept checkpoint in one layer of the model at the end. sets: 1 - Jaccard of a token's "
    "chosen experts then and now; router: the share of chosen experts that it would exchange where it is put; inputs: how "
    "far the layer's inputs moved; load: Jensen-Shannon divergence of the loads; evenness: difference of their coefficients "
    "of variation; weights: distance of the router's weights; model: of all parameters; steps: how many lie between. Experts "
    "are a quarter, half or three quarters of a layer, the coldest, random ones or the busiest. said: their share of the "
    "length of what the layer's experts add; load and weights: of the load, and of the squared length of all weights; "
    "experts: of their number.",
)  # fmt: skip


def foretelling_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of another figure, or where nobody interfered."""
    if study.figure != "damage":
        return []
    by_case = {case: [trial for trial in trials if trial.case == case and trial.damage] for case in study.cases}
    found = {outcome: each for outcome in OUTCOMES if (each := foretold(by_case, outcome))}
    if not found:
        return []
    cases = [case for case in study.cases if any(case in each.cases[FIRST[outcome]] for outcome, each in found.items())]
    header = (
        "what costs", "foretold by", "a figure of", *map(text, cases), "all", "of one age", "minus, all", "minus, of one age",
        "verdict",
    )  # fmt: skip
    rows = [row(cells) for outcome, each in found.items() for cells in _rows(outcome, each, cases)]
    said = SAID[0].format(level=LEVEL)
    runs = "; ".join(f"{outcome}: {each.pairs:,} pairs of {each.runs} runs" for outcome, each in found.items())
    return ["", text(said), "", *head(header), *rows, "", text(f"{SAID[1]} {runs[0].upper()}{runs[1:]}.")]


def _rows(outcome: str, found: Foretold, cases: Sequence[str]) -> Iterator[list[str]]:
    fewest = found.runs // max(1, len(found.cases[FIRST[outcome]]))
    for name, over in found.over.items():
        of_cases = [found.cases[name].get(case) for case in cases]
        minus, within = found.first_minus.get(name), found.first_minus_within.get(name)
        yield [
            text(outcome), text(name), text(KINDS.get(name, "control")), *map(figure, of_cases), figure(over),
            figure(found.within[name]), figure(minus), figure(within), text(_verdict(name, minus, within, fewest)),
        ]  # fmt: skip


def figure(found: Found | None) -> str:
    """ "+0.81 (+0.70 to +0.90)"."""
    return "-" if found is None else f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _verdict(name: str, minus: Found | None, within: Found | None, runs: int) -> str:
    if minus is None or within is None or name == SHUFFLED:
        return ""
    if runs < MIN_SEEDS:
        return f"n = {runs}: a verdict takes {MIN_SEEDS} seeds"
    said = [("over all pairs", minus), ("at one age", within)]
    better = [where for where, found in said if found.resolved and found.value > 0]
    worse = [where for where, found in said if found.resolved and found.value < 0]
    parts = [f"foretells less {' and '.join(better)}"] * bool(better) + [f"foretells more {' and '.join(worse)}"] * bool(worse)
    return "; ".join(parts) or f"no difference that {runs} seeds resolve"
