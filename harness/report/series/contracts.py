"""What one family is worth against another as a multiplier of cost at equal bits per byte, and where their ranking flips.

The multiplier is C_base(L) / C_other(L): 2 means that the other family reaches the level L with half the FLOPs (or seconds)
of the base. It is asked within the points alone: no size, and no budget, beyond those that were run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.series.answers import LEVEL, Interval, NoAnswer, interval
from harness.report.series.bootstrap import Bootstrap
from harness.report.series.frontier import CONTRACTS, Contract, Frontier, Place

OPTIMUM = CONTRACTS["flops"]


@dataclass(frozen=True)
class Gap:
    """Bits per byte of the other family less those of the base at equal cost: below 0 the other one is ahead."""

    cost: float  # FLOPs or seconds
    difference: Interval | NoAnswer

    @property
    def ahead(self) -> int | None:
        """-1 the base, 1 the other; 0 where the points resolve no difference; None where there is no answer."""
        it = self.difference
        if isinstance(it, NoAnswer):
            return None
        return 0 if it.holds(0.0) else (1 if it.value < 0 else -1)


@dataclass(frozen=True)
class Worth:
    """The other family against the base under a contract, keys of CONTRACTS. `bpb`: the level. `ratio`: tokens per parameter
    of the tied convention. `flips`: costs at which the ranking of the two laws changes."""

    contract: str
    base: str
    other: str
    bpb: float
    multiplier: Interval | NoAnswer
    gaps: tuple[Gap, ...]
    flips: tuple[float, ...]
    ratio: float | None

    @property
    def unit(self) -> str:
        return "seconds" if CONTRACTS[self.contract].seconds else "FLOPs"


def worth(base: Bootstrap, other: Bootstrap, contract: str, bpb: float | None = None, ratio: float | None = None) -> Worth:
    """`bpb`: the level; unless given that of the base's optimum at its middle budget, or at the first larger one where both
    families reach it within the points. `ratio`: tokens per parameter where the contract ties them, of the optimum at the
    middle budget unless given."""
    terms = CONTRACTS[contract]
    budgets = base.family.budgets
    middle = _optimum(base, budgets[len(budgets) // 2])
    levels = [_optimum(base, budget).bpb for budget in budgets[len(budgets) // 2 :]] if bpb is None else [bpb]
    if terms.tied and ratio is None:
        ratio = middle.d / float(base.family.params(middle.n, terms.tied))
    untimed = [it.family.name for it in (base, other) if it.family.seconds_Z is None] if terms.seconds else []
    if untimed:
        why = f"sizes of {' and '.join(untimed)} have no run whose seconds are its own"
        return Worth(contract, base.family.name, other.family.name, levels[0], NoAnswer(why), (), (), ratio)
    gaps = tuple(_gap(base, other, terms, cost, ratio) for cost in _costs(base, terms, ratio))
    asked = [(level, _multiplier(base, other, terms, level, ratio)) for level in levels]
    level, multiplier = next((pair for pair in asked if isinstance(pair[1], Interval)), asked[0])
    return Worth(contract, base.family.name, other.family.name, level, multiplier, gaps, _flips(gaps), ratio)


def levels(base: Bootstrap) -> dict[float, float]:
    """By budget: bits per byte of the base's optimum."""
    return {budget: _optimum(base, budget).bpb for budget in base.family.budgets}


def sentence(it: Worth) -> str:
    """What may be said of it, its interval and its limits included."""
    terms = CONTRACTS[it.contract]
    tied = f" ({it.ratio:.3g} of them)" if terms.tied else ""
    begin = f"{terms.name[0].upper()}{terms.name[1:]}{tied}"
    return f"{begin}, {_said_of_multiplier(it)} {_said_of_ranking(it)}".strip()


def _said_of_multiplier(it: Worth) -> str:
    found, level = it.multiplier, f"{it.bpb:.4f} bits per byte"
    if isinstance(found, NoAnswer):
        return f"what {it.other} is worth against {it.base} at {level} has no answer: {found.why}."
    stated = found.short("{:.2f}")
    if not found.known:
        return f"{it.other} comes out as worth {stated} times the {it.unit} of {it.base} at {level}, so nothing is claimed."
    if found.holds(1.0):
        return (
            f"{it.other} and {it.base} have no difference that the points resolve at {level}: the multiplier of {it.unit} is "
            f"{stated}, and the {LEVEL:.0%} interval includes 1."
        )
    way = "fewer" if found.value > 1 else "more"
    return f"{it.other} is worth {stated} times the {it.unit} of {it.base} at {level}: it takes {way} to get there."


def _said_of_ranking(it: Worth) -> str:
    answered = [gap for gap in it.gaps if gap.ahead is not None]
    if not answered:
        return ""
    span = f"{answered[0].cost:.2g} to {answered[-1].cost:.2g} {it.unit}"
    if all(gap.ahead == 0 for gap in answered):
        return f"Who is ahead the points resolve nowhere from {span}."
    if it.flips:
        at = " and ".join(f"{cost:.2g}" for cost in it.flips)
        if {gap.ahead for gap in answered} >= {1, -1}:
            return f"The ranking flips within the points, near {at} {it.unit}."
        return f"The laws cross near {at} {it.unit}, but the points do not resolve who is ahead on both sides of it."
    first = it.other if answered[0].difference.value < 0 else it.base
    unresolved = sum(gap.ahead == 0 for gap in answered)
    said = f"The ranking does not flip within the points: {first} is ahead from {span}" if len(answered) > 1 else ""
    if not said:
        return f"At the one cost with an answer ({span.partition(' to ')[0]} {it.unit}), {first} is ahead."
    return f"{said}{f', though {unresolved} of {len(answered)} budgets do not resolve it' if unresolved else ''}."


def _frontiers(it: Bootstrap, terms: Contract, ratio: float | None) -> tuple[Frontier, list[Frontier | None]]:
    drawn = [None if one.law is None else Frontier(one.family, one.law, terms, ratio) for one in it.drawn]
    return Frontier(it.family, it.fit.law, terms, ratio), drawn


def _optimum(it: Bootstrap, budget: float) -> Place:
    return Frontier(it.family, it.fit.law, OPTIMUM).at_cost(budget)


def _compared(base: Bootstrap, other: Bootstrap, terms: Contract, ratio: float | None, place, figure) -> Interval | NoAnswer:
    """`place`: of a frontier; `figure`: of the two places. All points answer only within what was run; of resamples the best
    size may stand at the edge of the sizes, where the lowest value differs little, and counts."""
    (mine, mine_R), (theirs, theirs_R) = _frontiers(base, terms, ratio), _frontiers(other, terms, ratio)
    places = [place(mine), place(theirs)]
    for it in places:
        if isinstance(it, NoAnswer):
            return it
        if it.outside:
            return NoAnswer(f"outside the points: {it.outside}")
    drawn: list[float | None] = []
    for one, two in zip(mine_R, theirs_R):
        pair = [None if it is None else place(it) for it in (one, two)]
        drawn.append(figure(*pair) if all(isinstance(it, Place) for it in pair) else None)
    return interval(figure(*places), drawn)


def _multiplier(base: Bootstrap, other: Bootstrap, terms: Contract, bpb: float, ratio: float | None) -> Interval | NoAnswer:
    return _compared(base, other, terms, ratio, lambda it: it.at_level(bpb), lambda one, two: one.cost / two.cost)


def _gap(base: Bootstrap, other: Bootstrap, terms: Contract, cost: float, ratio: float | None) -> Gap:
    return Gap(cost, _compared(base, other, terms, ratio, lambda it: it.at_cost(cost), lambda one, two: two.bpb - one.bpb))


def _costs(base: Bootstrap, terms: Contract, ratio: float | None) -> list[float]:
    """The base's budgets; in seconds, what its optimum at each takes."""
    if not terms.seconds:
        return list(base.family.budgets)
    places = [_optimum(base, budget) for budget in base.family.budgets]
    return [float(base.family.seconds(it.n)) * it.d for it in places]


def _flips(gaps: Sequence[Gap]) -> tuple[float, ...]:
    """Costs at which the difference of the two laws passes 0, between neighbouring gaps."""
    answered = [(np.log(gap.cost), gap.difference.value) for gap in gaps if isinstance(gap.difference, Interval)]
    found = []
    for (x0, y0), (x1, y1) in zip(answered, answered[1:]):
        if (y0 < 0) != (y1 < 0):
            found.append(float(np.exp(x0 - y0 * (x1 - x0) / (y1 - y0))))
    return tuple(found)
