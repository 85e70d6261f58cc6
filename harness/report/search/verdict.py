"""The verdict on a candidate: five conditions, each with its figures, all of which must hold.

Candidate and incumbent are run in pairs, under seeds that nothing was chosen by. Tests are one-sided at `alpha`, over pairs:

    line      the candidate's slice lies below the level of the line (t test of its mean)
    seconds   ln seconds, candidate minus incumbent, lie below 0 (paired t test). A start plan that misses the line by its mean
              has none that count: it is given those that would bring it there, train_s * exp((slice - level) / slope).
    health    no run went beyond the bounds of ranking, no expert is dead, and the worst entropy is as asked; where the lane
              ranks, every run is ranked
    rest      rest minus slice, candidate's minus incumbent's, does NOT lie above 0 (paired t test): it would where the rest of
              val came out worse against the incumbent than the slice that the search was scored on
    machine   nobody took processor time from any run

A test that finds nothing is no proof: how large a difference it would have found is stated before anything is run
(`report/power.py`). Of a null candidate, the incumbent's plan under other seeds, `seconds` passes with probability alpha and
`rest` fails with probability alpha, whatever the spread is.
"""

import math
from collections.abc import Sequence

from harness.record.confirmations import (
    HEALTH,
    LINE,
    MACHINE,
    PROMOTED,
    REST,
    SECONDS,
    TIE,
    VETOED,
    Found,
    Seen,
    Stopped,
    Verdict,
)  # fmt: skip
from harness.record.ledger import equivalent_s
from harness.report.statistics import ALPHA, LEVEL, Sample, Test, below

LEAST_PAIRS = 3


def judge(
    runs: Sequence[Seen], against: Sequence[Seen], *, level: float, alpha: float, entropy: float, ranks: bool,
    slope: float | None = None, stopped: Sequence[Stopped] = (),
) -> Verdict:  # fmt: skip
    """`runs` of the candidate and `against` of the incumbent, pair by pair. `ranks`: whether they must be ranked; `slope`: bits
    per ln(second) of an incumbent that is a start plan, None of one that has passed the line; `stopped`: runs that health
    ended, which leave pairs out: then nothing but that is said."""
    if stopped:
        told = "; ".join(f"seed {run.seed} of the {run.side} was stopped: {run.what}" for run in stopped)
        return Verdict(outcome=VETOED, conditions=[Found(name=HEALTH, holds=False, text=told, p=None)])
    assert len(runs) == len(against) >= LEAST_PAIRS, (len(runs), len(against))
    found = [
        _line(runs, level),
        _seconds(runs, against, level, slope, alpha),
        _health([*runs, *against], runs, entropy, ranks),
        _rest(runs, against, alpha),
        _machine([*runs, *against]),
    ]
    failed = {condition.name for condition in found if not condition.holds}
    outcome = PROMOTED if not failed else TIE if failed == {SECONDS} else VETOED
    return Verdict(outcome=outcome, conditions=found)


def seconds_differences(runs: Sequence[Seen], against: Sequence[Seen]) -> Sample:
    """ln seconds of the candidate minus those of the incumbent, by pair."""
    return Sample.of([math.log(a.seconds / b.seconds) for a, b in zip(runs, against, strict=True)])


def held_against(against: Sequence[Seen], level: float, slope: float | None) -> tuple[Sequence[Seen], float]:
    """Runs of the incumbent with the seconds that count, and by how much their mean misses the line, 0 where it does not."""
    missed = Sample.of([run.slice for run in against]).mean - level
    if slope is None or missed <= 0:
        return against, 0.0
    counted = [equivalent_s(run.seconds, run.slice, level, slope) for run in against]
    return [run.model_copy(update={"seconds": seconds}) for run, seconds in zip(against, counted)], missed


def gap_differences(runs: Sequence[Seen], against: Sequence[Seen]) -> Sample | None:
    """Rest minus slice of the candidate, minus that of the incumbent, by pair; None where there is no rest."""
    if any(run.rest is None for run in (*runs, *against)):
        return None
    return Sample.of([(a.rest - a.slice) - (b.rest - b.slice) for a, b in zip(runs, against, strict=True)])


def _line(runs: Sequence[Seen], level: float) -> Found:
    """At ALPHA, as every claim against a line is."""
    sample = Sample.of([run.slice for run in runs])
    test = below(sample, level)
    side = "below" if test.difference < 0 else "above"
    told = f"slice {sample.counted('{:.4f}')} is {abs(test.difference):.4f} {side} the line's {level:.4f}, {_p(test.p, ALPHA)}"
    return Found(name=LINE, holds=test.significant, text=told, p=test.p)


def _seconds(runs: Sequence[Seen], against: Sequence[Seen], level: float, slope: float | None, alpha: float) -> Found:
    against, missed = held_against(against, level, slope)
    test = below(seconds_differences(runs, against), 0)
    ours, theirs = (Sample.of([run.seconds for run in side]) for side in (runs, against))
    holds = test.p < alpha
    slower = test.p > 1 - alpha
    told = f"{ours.text('{:.1f}')} s against {theirs.text('{:.1f}')} s, {_percent(test)} by pairs, {_p(test.p, alpha)}"
    if missed:
        told += f"; the incumbent misses the line by {missed:.4f}, and its seconds are those that would bring it there"
    verdict = "" if holds else ": slower, and the incumbent stays" if slower else ": a tie, and the incumbent stays"
    return Found(name=SECONDS, holds=holds, text=told + verdict, p=test.p)


def _health(all_runs: Sequence[Seen], runs: Sequence[Seen], entropy: float, ranks: bool) -> Found:
    """Entropy is asked of the candidate alone: the incumbent's is not at stake."""
    wrong = [f"seed {run.seed}: {'; '.join(run.health)}" for run in runs if run.health]
    wrong += [f"seed {run.seed}: {run.dead} dead experts" for run in runs if run.dead and not run.health]
    wrong += [f"seed {run.seed} is unranked: {'; '.join(run.unranked)}" for run in all_runs if ranks and run.unranked]
    known = [run.entropy for run in runs if run.entropy is not None]
    if not known:
        return Found(name=HEALTH, holds=not wrong, text="; ".join(wrong) or "a dense model, and no run left its course", p=None)
    worst = f"worst entropy {min(known):.3f} of even routing, at least {entropy:g} is asked"
    if min(known) < entropy:
        wrong.append(worst)
    return Found(name=HEALTH, holds=not wrong, text="; ".join(wrong) or f"{worst}; no dead experts", p=None)


def _rest(runs: Sequence[Seen], against: Sequence[Seen], alpha: float) -> Found:
    differences = gap_differences(runs, against)
    if differences is None:
        return Found(name=REST, holds=False, text="no text of val beyond the slice was scored", p=None)
    test = below(Sample.of([-value for value in differences.values]), 0)  # that the gap grew
    ours, theirs = (Sample.of([run.rest - run.slice for run in side]) for side in (runs, against))
    low, high = (f"{-bound:+.4f}" for bound in reversed(test.interval))
    told = (
        f"rest minus slice {ours.text('{:.4f}')} against {theirs.text('{:.4f}')}, {-test.difference:+.4f} by pairs "
        f"({low} to {high}), grown at {_p(test.p, alpha)}"
    )
    return Found(name=REST, holds=test.p >= alpha, text=told, p=test.p)


def _machine(runs: Sequence[Seen]) -> Found:
    disturbed = [f"seed {run.seed}: {run.disturbed}" for run in runs if run.disturbed]
    return Found(name=MACHINE, holds=not disturbed, text="; ".join(disturbed) or "every run had its own", p=None)


def _percent(test: Test) -> str:
    """ "-12.3% (-15.0% to -9.5%)" of a difference of logarithms."""
    middle, low, high = (f"{100 * math.expm1(value):+.1f}%" for value in (test.difference, *test.interval))
    return f"{middle} ({LEVEL:.0%} interval {low} to {high})"


def _p(p: float, alpha: float) -> str:
    shown = "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"
    return f"{shown} ({'below' if p < alpha else 'not below'} {alpha:g})"
