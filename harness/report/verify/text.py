"""The verdict of `verify` in words: one line of several records, a dozen of one."""

from textwrap import wrap
from typing import Any

from harness.report.verify.executions import EARLY_STEPS, EARLY_TOLERANCE, LATE_TOLERANCE, SCORE_TOLERANCE
from harness.shown import one_line

NAME, TEXT = 10, 116  # widths


def distance(execution: dict[str, Any]) -> str:
    """How far apart, against which bounds."""
    said = [
        f"losses of the first {min(EARLY_STEPS, execution['steps'])} steps differ by up to {execution['largest']:.1e} "
        f"(step {execution['largest_at']}; bound {EARLY_TOLERANCE:.0e})"
    ]
    if execution["steps"] > EARLY_STEPS:
        said.append(f"later ones by up to {execution['largest_later']:.1e} ({LATE_TOLERANCE:.0e})")
    if execution["scores"] is not None:
        said.append(f"scores by up to {execution['scores']:.1e} ({SCORE_TOLERANCE:.0e})")
    return ", ".join(said)


def line(report: dict[str, Any]) -> str:
    why = f"   {report['problems'][0].splitlines()[0]}" if report["problems"] else ""
    return f"{report['verdict']:<24}{report['did']:<36}{one_line(report['record'] + why)}"


def summary(report: dict[str, Any]) -> str:
    execution, seed = report["execution"], report["fresh_seed"]
    rows = [("record", one_line(f"{report['record']}: {report.get('of', 'unreadable')}"))]
    rows += [tuple(note.split(": ", 1)) for note in report["notes"]]
    rows += [("wrong", problem) for problem in report["problems"]]
    if execution:
        others = [name for name, is_same in execution["same"].items() if not is_same]
        where = f"another {', '.join(others)}" if others else "the record's hardware class, source and versions"
        rows.append(("executed", f"{execution['steps']:,} of {execution['of']:,} steps, on {where}"))
        if not execution["same"]["hardware class"]:
            rows.append(("classes", f"{execution['recorded_hardware_class']} (record); {execution['hardware_class']} (here)"))
        rows.append(
            (
                "bits",
                execution["difference"]
                or "; ".join(execution["ends"])
                or "losses, gradient norms, counts and chains are equal",
            )
        )
        if execution["difference"]:
            rows.append(("numbers", distance(execution)))
            if others == ["source"]:
                rows.append(
                    ("hint", "the class is the record's: commit=record would tell whether its bits are equal at its own commit")
                )
    if seed and not seed["problem"]:
        rows.append(
            ("seeds", f"fresh seed {seed['seed']} lies where {seed['n']} recorded seeds predict it, and so does this record")
        )
    rows.append(("did", report["did"]))
    *bits, machine = report["not_covered"]
    if bits:
        rows.append(("unseen", f"only steps=all would find edits of: {'; '.join(bits)}"))
    rows.append(("unseen", f"{machine}: no re-execution repeats them exactly"))
    rows.append(("verdict", report["verdict"]))
    rows.append(("written", f"{report['record']}/verify.json"))
    lines = []
    for name, text in rows:
        first, *rest = [part for row in text.splitlines() for part in wrap(row, TEXT)]
        lines += [f"{name:<{NAME}}{first}", *(f"{'':<{NAME}}{line}" for line in rest)]
    return "\n".join(lines)
