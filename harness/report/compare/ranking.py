"""Two groups under each fairness contract: who has fewer bits per byte when both spent the same, and what may be said of it.

A contract is an amount that both sides get the same of. The amount is the largest that every run of both sides reached;
a side that has more left is read off its curve between two validations (linearly), in the middle of its schedule, where
a run planned for that amount would stand lower: such rankings are marked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.report import style
from harness.report.board.holder import why_no_claim
from harness.report.groups import Group, why_not_timed_beside
from harness.report.run_data import RunData
from harness.report.statistics import ASSUMES, Sample, Test, welch

SAME_MEMORY = 1.05  # peaks within this ratio count as equal memory


@dataclass(frozen=True)
class Basis:
    """A fairness contract: `spent(run, point)` is what a run had spent at a point of its curve."""

    name: str
    unit: str
    spent: Callable[[RunData, dict[str, Any]], float]
    per_machine: bool = False  # meaningless across hardware classes, and of an emulated format


BASES = (
    Basis("equal tokens", "tokens", lambda run, point: point["tokens"]),
    Basis("equal active FLOPs", "FLOP", lambda run, point: point["tokens"] * run.record.counts.flops_per_token),
    Basis("equal wall-clock", "s", lambda run, point: point["train_s"], per_machine=True),
    Basis("equal tokens per active parameter", "tokens/parameter",
          lambda run, point: point["tokens"] / run.record.counts.params_active),
    Basis("equal tokens per total parameter", "tokens/parameter",
          lambda run, point: point["tokens"] / run.record.counts.params_total),
)  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """One contract. `a`, `b`: slice bpb of each seed at `amount`; `test` is of the side with the lower mean against the other.
    `refused` says why there is no ranking; then everything else is None."""

    basis: str
    unit: str
    amount: float | None = None
    a: Sample | None = None
    b: Sample | None = None
    test: Test | None = None
    difference: Test | None = None  # a - b
    mid_run: str = ""  # which sides are read off before their end
    refused: str | None = None

    @property
    def ahead(self) -> str:
        """ "A", "B", or "-"."""
        return "-" if self.refused else "A" if self.a.mean < self.b.mean else "B"


def rank(a: Group, b: Group) -> list[Ranking]:
    """Every contract, in the order of BASES, then equal memory."""
    apart, untimed = a.runs[0].why_not_beside(b.runs[0]), why_not_timed_beside(a, b)
    rankings = []
    for basis in BASES:
        if apart:
            rankings.append(Ranking(basis.name, basis.unit, refused=f"{a.measure} do not compare: {apart}"))
        elif basis.per_machine and untimed:
            rankings.append(Ranking(basis.name, basis.unit, refused=f"seconds do not compare: {untimed}"))
        else:
            rankings.append(_rank(basis, a, b))
    return [*rankings, _equal_memory(a, b, rankings[0])]


def _rank(basis: Basis, a: Group, b: Group) -> Ranking:
    ends = [[basis.spent(run, run.record.metrics.curve[-1]) for run in group.runs] for group in (a, b)]
    amount = min(*ends[0], *ends[1])
    values = [[_at(run, basis, amount) for run in group.runs] for group in (a, b)]
    if None in values[0] or None in values[1]:
        return Ranking(basis.name, basis.unit, refused=f"{_amount(amount, basis.unit)} lie before a run's first validation")
    x, y = Sample.of(values[0]), Sample.of(values[1])
    test = welch(x, y) if x.mean < y.mean else welch(y, x)
    early = [name for name, end in zip("AB", ends) if min(end) > 1.001 * amount]
    return Ranking(basis.name, basis.unit, amount, x, y, test, welch(x, y), " and ".join(early))


def _at(run: RunData, basis: Basis, amount: float) -> float | None:
    """Slice bpb when the run had spent `amount`, linear between the validations around it; None before the first."""
    before = None
    for point in run.record.metrics.curve:
        spent = basis.spent(run, point)
        if spent >= amount * (1 - 1e-12):
            if before is None:
                return point["slice_bpb"] if spent <= amount * (1 + 1e-12) else None
            share = (amount - before[0]) / (spent - before[0])
            return before[1] + share * (point["slice_bpb"] - before[1])
        before = (spent, point["slice_bpb"])
    return None


def _equal_memory(a: Group, b: Group, at_equal_tokens: Ranking) -> Ranking:
    peaks = [group.sample("peak_memory_bytes").mean / 2**30 for group in (a, b)]
    name, unit = "equal memory", "GiB"
    if a.hardware_class != b.hardware_class:
        return Ranking(name, unit, refused="peak memory of different hardware classes does not compare")
    if emulated := sorted({group.precision for group in (a, b) if not group.of_its_format}):
        return Ranking(name, unit, refused=f"{' and '.join(emulated)} is emulated: its peak is not that of the format")
    if at_equal_tokens.refused:
        return Ranking(name, unit, refused=at_equal_tokens.refused)
    if max(peaks) / min(peaks) > SAME_MEMORY:
        smaller = "A" if peaks[0] < peaks[1] else "B"
        shown = f"peaks are {peaks[0]:.2f} and {peaks[1]:.2f} GiB"
        return Ranking(name, unit, refused=f"{shown}: in {min(peaks):.2f} GiB only {smaller} runs at this batch size")
    t = at_equal_tokens
    return Ranking(name, unit, max(peaks), t.a, t.b, t.test, t.difference, t.mid_run)


def _amount(amount: float, unit: str) -> str:
    return f"{style.magnitude(amount)} {unit}"


def amount_text(ranking: Ranking) -> str:
    return "-" if ranking.amount is None else _amount(ranking.amount, ranking.unit)


def sentences(a: Group, b: Group, rankings: list[Ranking], why_not_fair: list[str]) -> list[tuple[str, str]]:
    """One plain sentence for each contract: ("may be claimed" | "may not be claimed", sentence); before them, of two groups of
    open lanes, who is ahead by what these are ranked by."""
    names = _names(a, b)
    fair = "In a fair comparison, " if not why_not_fair else ""
    said = [*_race(a, b, names)]
    for ranking in rankings:
        if ranking.refused:
            said.append(("may not be claimed", f"Nothing about {ranking.basis}: {ranking.refused}."))
            continue
        ahead, behind = (names[0], names[1]) if ranking.ahead == "A" else (names[1], names[0])
        at = f"at {ranking.basis} ({amount_text(ranking)})"
        size = f"{abs(ranking.difference.difference):.4f} {a.measure} of the slice"
        if ranking.test.significant:
            low, high = sorted(abs(bound) for bound in ranking.difference.interval)
            note = f", read off {_whose(ranking, names)} before the end of its schedule" if ranking.mid_run else ""
            said.append((
                "may be claimed",
                f"{fair}{ahead} is below {behind} {at} by {size} (95% interval {low:.4f} to {high:.4f}, one-sided Welch "
                f"p = {ranking.test.p:.2g}, {ASSUMES}){note}.",
            ))  # fmt: skip
        else:
            said.append((
                "may not be claimed",
                f"That {ahead} is better than {behind} {at}: it is ahead by {size}, but {ranking.test.why_not}.",
            ))  # fmt: skip
    return said


def _race(a: Group, b: Group, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    if not (a.rule.seconds_alone and b.rule.seconds_alone):
        return
    unranked = [group.why_unranked and f"unranked, {group.why_unranked}" for group in (a, b)]
    each = [why or why_no_claim(group, group.of_its_format) for why, group in zip(unranked, (a, b))]
    no_claim = [f"{name}: {why}" for name, why in zip(names, each) if why]
    if why_not := a.runs[0].why_not_beside(b.runs[0]) or why_not_timed_beside(a, b) or "; ".join(no_claim):
        yield "may not be claimed", f"Nothing about the race: {why_not}."
        return
    first, second, (ahead, behind) = (a, b, names) if a.seconds().mean < b.seconds().mean else (b, a, names[::-1])
    test, amount = welch(first.seconds(), second.seconds()), second.seconds().mean - first.seconds().mean
    if test.significant:
        low, high = sorted(abs(bound) for bound in test.interval)
        how = f"95% interval {low:.1f} to {high:.1f}, one-sided Welch p = {test.p:.2g}, {ASSUMES}"
        yield "may be claimed", f"In the race {ahead} takes {amount:.1f} s less {a.rule.counted} than {behind} ({how})."
    else:
        why_not = f"it takes {amount:.1f} s less, but {test.why_not}"
        yield "may not be claimed", f"That {ahead} wins the race against {behind}: {why_not}."


def _names(a: Group, b: Group) -> tuple[str, str]:
    if a.lane != b.lane:
        return a.lane, b.lane
    return f"A ({a.lane}, plan {a.plan_hash[:8]})", f"B ({b.lane}, plan {b.plan_hash[:8]})"


def _whose(ranking: Ranking, names: tuple[str, str]) -> str:
    return " and ".join(names["AB".index(side)] for side in ranking.mid_run.split(" and "))
