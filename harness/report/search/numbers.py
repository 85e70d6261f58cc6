"""What a ledger comes to: each arm's best so far, whether a short rung tells what a longer one would, what each dial tells."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.record.ledger import Ledger, LedgerTrial
from harness.report.rank_correlation import Correlation, over_cases
from harness.report.statistics import LEVEL


@dataclass(frozen=True)
class SoFar:
    """After `trials` trials of an arm, or `spent_s` seconds of training: the fewest equivalent seconds of a complete one."""

    trials: int
    spent_s: float
    best_s: float


def so_far(trials: Sequence[LedgerTrial]) -> list[SoFar]:
    """A point a trial of an arm, from its first complete one on."""
    found: list[SoFar] = []
    spent_s, best_s = 0.0, math.inf
    for trial in sorted(trials, key=lambda trial: trial.number):
        spent_s += trial.spent_s
        if trial.state == "complete" and trial.equivalent_s:
            best_s = min(best_s, trial.equivalent_s)
        if best_s < math.inf:
            found.append(SoFar(trial.number + 1, spent_s, best_s))
    return found


def best(trials: Sequence[LedgerTrial]) -> LedgerTrial | None:
    complete = [trial for trial in trials if trial.state == "complete" and trial.equivalent_s]
    return min(complete, key=lambda trial: trial.equivalent_s, default=None)


def distinct(trials: Sequence[LedgerTrial]) -> list[LedgerTrial]:
    """Each plan once: both arms of a family begin with its start."""
    return list({tuple(trial.words): trial for trial in reversed(trials)}.values())[::-1]


def between_rungs(ledger: Ledger, family: str, first: int, second: int) -> Correlation | None:
    """Whether equivalent seconds at two rungs rank the trials of a family alike that have both."""
    pairs = [
        (trial.rungs[first].equivalent_s, trial.rungs[second].equivalent_s)
        for trial in distinct([trial for trial in ledger.trials if trial.family == family])
        if len(trial.finished) > second and trial.rungs[second].equivalent_s
    ]
    return over_cases([pairs], LEVEL)


@dataclass(frozen=True)
class DialTells:
    """What one dial tells in a family: the rank correlation of its value with equivalent seconds at the first rung, which all
    trials have, or of choices that are no numbers by choice (trials, median equivalent seconds)."""

    name: str
    trials: int
    correlation: Correlation | None
    medians: dict[str, tuple[int, float]]


def dials_tell(ledger: Ledger, family: str) -> list[DialTells]:
    trials = distinct([t for t in ledger.trials if t.family == family and t.finished and t.finished[0].equivalent_s])
    return [_tells(name, trials) for name in ledger.space.dials_of(family)]


def _tells(name: str, trials: Sequence[LedgerTrial]) -> DialTells:
    points = [(trial.params[name], trial.finished[0].equivalent_s) for trial in trials if name in trial.params]
    if all(_is_number(value) for value, _ in points):
        return DialTells(name, len(points), over_cases([points], LEVEL), {})
    by: dict[str, list[float]] = {}
    for value, seconds in points:
        by.setdefault(str(value), []).append(seconds)
    return DialTells(name, len(points), None, {value: (len(some), statistics.median(some)) for value, some in by.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
