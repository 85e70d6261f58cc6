"""A comparison written out: for the terminal, as Markdown, as JSON."""

from typing import Any

from harness.report.compare.contract import Contract
from harness.report.compare.ranking import Ranking, amount_text
from harness.report.groups import Group
from harness.report.markup import code, head, heading, item, row, text
from harness.shown import one_line

HEADER = ("contract", "amount", "A", "B", "A - B", "95% interval", "ahead", "claim")


Sentences = list[tuple[str, str]]  # of harness.report.compare.ranking.sentences


def as_text(a: Group, b: Group, deal: Contract, rankings: list[Ranking], said: Sentences, everything: bool) -> str:
    lines = [f"A  {one_line(_who(a))}", f"B  {one_line(_who(b))}", "", "The swap contract", *_fields(deal, everything)]
    lines += ["", one_line(_fairness(deal)), "", rankings_text(a, rankings)]
    for kind in ("may be claimed", "may not be claimed"):
        told = [f"  - {one_line(sentence)}" for which, sentence in said if which == kind]
        lines += ["", kind[0].upper() + kind[1:] + ("" if told else ": nothing"), *told]
    return "\n".join(lines)


def rankings_text(a: Group, rankings: list[Ranking]) -> str:
    """`a`: a group whose track says what figures are in."""
    table = [HEADER, *(_row(r) for r in rankings)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADER))]
    lines = [f"Slice {a.shortly} under each fairness contract"]
    lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    lines += [f"  {one_line(f'{r.basis}: {r.refused}')}" for r in rankings if r.refused]
    if any(r.mid_run for r in rankings):
        lines.append("  * read off before that side's schedule ended: a run planned for this amount would stand lower")
    return "\n".join(lines)


def verdict_text(a: Group, deal: Contract, rankings: list[Ranking]) -> str:
    """Whether it is fair, and the ranking."""
    return f"{one_line(_fairness(deal))}\n\n{rankings_text(a, rankings)}"


def as_markdown(a: Group, b: Group, deal: Contract, rankings: list[Ranking], said: Sentences) -> str:
    rows = [row(_row(r)) for r in rankings]
    fields = [row((f.part, code(f.name), text(f.a), text(f.b), "differs" if f.differs else "same")) for f in deal.fields]
    return "\n".join([
        heading(1, text(f"{a.lane} and {b.lane}")), "", item(text(f"A: {_who(a)}")), item(text(f"B: {_who(b)}")), "",
        text(_fairness(deal)), "", "![curves](compare.png)", "",
        heading(2, "Rankings"), "", *head(HEADER), *rows, "",
        *(item(text(f"{r.basis}: {r.refused}")) for r in rankings if r.refused), "",
        heading(2, "What may be said"), "", *(item(text(f"{which}: {sentence}")) for which, sentence in said), "",
        heading(2, "The swap contract"), "", *head(("part", "field", "A", "B", "")), *fields, "",
    ])  # fmt: skip


def as_json(a: Group, b: Group, deal: Contract, rankings: list[Ranking], said: Sentences) -> dict[str, Any]:
    return {
        "a": _identity(a), "b": _identity(b), "fair": not deal.why_not_fair, "why_not_fair": deal.why_not_fair,
        "swapped": deal.swapped, "fields": [{"part": f.part, "name": f.name, "a": f.a, "b": f.b} for f in deal.fields],
        "rankings": [_ranking(r) for r in rankings], "sentences": [{"kind": kind, "text": text} for kind, text in said],
    }  # fmt: skip


def _identity(group: Group) -> dict[str, Any]:
    return {"lane": group.lane, "plan_hash": group.plan_hash, "hardware_class": group.hardware_class,
            "seeds": list(group.seeds),
            "folders": [str(run.folder) for run in group.runs]}  # fmt: skip


def _ranking(r: Ranking) -> dict[str, Any]:
    if r.refused:
        return {"contract": r.basis, "refused": r.refused}
    return {
        "contract": r.basis, "amount": r.amount, "unit": r.unit, "a": list(r.a.values), "b": list(r.b.values), "ahead": r.ahead,
        "difference": r.difference.difference, "interval": r.difference.interval, "p": r.test.p,
        "significant": r.test.significant, "read_off_mid_run": r.mid_run,
    }  # fmt: skip


def _who(group: Group) -> str:
    seconds = group.seconds()
    reached = f", {seconds.counted('{:.1f}')} s {group.rule.counted}" if seconds else f", {group.rule.unreached}"
    if seconds and not group.timed:
        reached = f", target reached (no seconds: {group.disturbed if group.of_its_format else 'emulated'})"
    time = reached if group.runs[0].target else ""
    unranked = f", UNRANKED: {group.why_unranked}" if group.why_unranked else ""
    return (f"{group.lane}, plan {group.plan_hash[:8]}, slice {group.sample('slice_bpb').counted('{:.4f}')}{time}, "
            f"{group.arithmetic}, on {group.hardware_class}{unranked}")  # fmt: skip


def _fairness(deal: Contract) -> str:
    if not deal.why_not_fair:
        return f"Fair: only the {deal.swapped[0]} differs."
    return "Not a fair comparison: " + "; ".join(deal.why_not_fair) + "."


def _fields(deal: Contract, everything: bool) -> list[str]:
    shown = [f for f in deal.fields if f.differs or everything]
    same = sum(not f.differs for f in deal.fields)
    width = max((len(f.name) for f in shown), default=0)
    lines = [f"  {f.part:<15}{f.name:<{width}}  {_short(f.a)}{' | ' + _short(f.b) if f.differs else ''}" for f in shown]
    return lines if everything else [*lines, f"  {same} fields agree (--all shows them)"]


def _short(value: Any) -> str:
    shown = one_line(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _row(r: Ranking) -> list[str]:
    if r.refused:
        return [r.basis, "-", "-", "-", "-", "-", "-", "none"]
    interval = "-" if r.difference.interval is None else "{:+.4f} to {:+.4f}".format(*r.difference.interval)
    sides = [f"{sample.mean:.4f}{'*' if name in r.mid_run else ''}" for name, sample in (("A", r.a), ("B", r.b))]
    claim = f"p = {r.test.p:.2g}" if r.test.significant else "none"
    return [r.basis, amount_text(r), *sides, f"{r.difference.difference:+.4f}", interval, r.ahead, claim]
