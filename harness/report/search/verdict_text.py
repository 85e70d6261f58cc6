"""A confirmation in words: what will be run, what came of it, and what to type next."""

from collections.abc import Sequence

from harness.record.confirmations import JUDGED, LINE, PROMOTED, REST, SECONDS, TIE, Champion, Confirmation, Verdict
from harness.report.search.fit import fit_text
from harness.report.search.known import power_text
from harness.report.statistics import ASSUMES

TITLES = {
    "line": "slice below the line", "seconds": "fewer seconds than the incumbent", "health": "router healthy",
    "rest": "held-out text agrees", "machine": "machines undisturbed",
}  # fmt: skip
OUTCOMES = {
    PROMOTED: "CHAMPION: all conditions hold",
    TIE: "no champion: it is not shown to be faster, and the incumbent stays",
}


def plan_text(it: Confirmation) -> list[str]:
    """What is fixed before anything is run."""
    seeds = ", ".join(map(str, it.seeds))
    budget = [fit_text(it.fit)] if it.fit else [f"budget: {it.candidate.tokens:,} tokens, as its words say; nothing was fitted"]
    return [
        f"confirmation {it.number} of search {it.space}, attempt {it.attempt} of this plan: {it.candidate.name} against "
        f"{it.incumbent.name}",
        f"  candidate {it.candidate.plan_hash[:8]}: {' '.join(it.candidate.words)}",
        f"  incumbent {it.incumbent.plan_hash[:8]}: {' '.join(it.incumbent.words)}",
        f"fresh seeds {seeds}, the same on both sides, in turns; it was chosen among {it.trials} trials",
        *budget,
        *power_text(it.known, it.power),
    ]


def verdict_text(it: Confirmation, earlier: Sequence[Confirmation]) -> list[str]:
    """All conditions with their figures. `earlier`: the search's confirmations before this one."""
    assert it.state == JUDGED
    return [
        *conditions_text(it.verdict),
        f"{outcome_text(it.verdict)} (tests one-sided at alpha {it.power.alpha:g}, {ASSUMES})",
        *_shrinkage(it),
        *([f"{len(it.replaced)} runs of disturbed pairs were measured again under their seeds"] if it.replaced else []),
        *_incumbent(it),
        *_repeated(it, earlier),
        *_next(it),
    ]


def conditions_text(verdict: Verdict) -> list[str]:
    return [f"  {'holds' if found.holds else 'FAILS'}  {TITLES[found.name]}: {found.text}" for found in verdict.conditions]


def outcome_text(verdict: Verdict) -> str:
    vetoes = [TITLES[name] for name in verdict.failed if name != SECONDS]
    tied = ", and it is not shown to be faster" if SECONDS in verdict.failed else ""
    return OUTCOMES.get(verdict.outcome) or f"no champion, vetoed by: {', '.join(vetoes)}{tied}"


def champion_text(champion: Champion) -> list[str]:
    fall = 100 * (1 - champion.seconds / champion.before_seconds)
    return [
        f"champion of {champion.lane}: {champion.seconds:.1f} s, {fall:.1f}% less than {champion.before.name} "
        f"({champion.before_seconds:.1f} s) beside it; slice {champion.slice:.4f}, line {champion.level:.4f}",
        *(f"  {line}" for line in champion.diff),
        f'make submit RUN="{" ".join(run.folder for run in champion.runs)}"',
    ]


def _shrinkage(it: Confirmation) -> list[str]:
    """How lucky the best of many was: what fresh seeds came to, beside what the fit counted on."""
    if not it.fit or not it.runs:
        return []
    mean = sum(run.slice for run in it.runs) / len(it.runs)
    wanted = it.fit.level - it.fit.margin
    return [f"the fit counted on {wanted:.4f}, fresh seeds came to {mean:.4f}: {mean - wanted:+.4f}"]


def _incumbent(it: Confirmation) -> list[str]:
    """Seconds of a plan that does not pass the line are no record."""
    above = [run.seed for run in it.against if run.slice > it.level]
    told = ", ".join(map(str, above))
    return [f"note: the incumbent itself is above the line under seeds {told}"] if above else []


def _repeated(it: Confirmation, earlier: Sequence[Confirmation]) -> list[str]:
    tried = 1 + sum(one.number < it.number for one in earlier)
    if tried == 1:
        return []
    most = 1 - (1 - it.power.alpha) ** tried
    return [
        f"it is confirmation {tried} of this search: so many promote one null candidate or more {most:.1%} of the time at most"
    ]


def _next(it: Confirmation) -> list[str]:
    again, named = f"make confirm NAME={it.space} FAMILY={it.family}", f"trial={it.trial}" if it.trial else "words=..."
    failed = it.verdict.failed
    if LINE in failed:
        return [f'next: {again} SET="{named}" lengthens its budget and takes new seeds; it counts as another attempt']
    if failed == [SECONDS]:
        return [f'next: more pairs find a smaller fall ({again} SET="{named} pairs={2 * len(it.seeds)}"), or another trial']
    if REST in failed:
        return ["next: another trial; this one fits the slice better than it fits the text"]
    return []
