"""The gate's verdict for three readers: a terminal, a pull request (Markdown) and a CI system (JUnit XML)."""

import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from xml.etree import ElementTree

from harness.report.gate.verdict import FAIL, SKIP, Outcome
from harness.report.markup import head, heading, item, row, text
from harness.shown import one_line, printable

NAME, STATUS, TEXT = 16, 6, 104


def failed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.status == FAIL]


def table(title: str, outcomes: Sequence[Outcome]) -> str:
    """Plain text: a line a detector, its reasons below it."""
    lines = [one_line(title)]
    for o in outcomes:
        first, *rest = wrap(o.found, TEXT) or [""]
        lines.append(f"  {o.status:<{STATUS}}{o.detector:<{NAME}}{first}")
        lines += [f"  {'':<{STATUS + NAME}}{line}" for line in rest]
        for reason in o.reasons:
            first, *rest = wrap(reason, TEXT - 2)
            lines += [f"  {'':<{STATUS + NAME}}- {first}", *(f"  {'':<{STATUS + NAME}}  {line}" for line in rest)]
    return "\n".join([*lines, "", conclusion(outcomes)])


def conclusion(outcomes: Sequence[Outcome]) -> str:
    bad, skipped = failed(outcomes), [o.detector for o in outcomes if o.status == SKIP]
    not_judged = f" (not judged: {', '.join(skipped)})" if skipped else ""
    if bad:
        return f"gate: FAILED by {', '.join(o.detector for o in bad)}{not_judged}"
    return f"gate: passed{not_judged}"


def markdown(title: str, outcomes: Sequence[Outcome]) -> str:
    lines = [heading(3, text(title)), "", f"**{text(conclusion(outcomes))}**", ""]
    lines += head(("detector", "verdict", "found", "rule"))
    lines += [row((o.detector, _bold(o.status), text(o.found), text(o.rule))) for o in outcomes]
    reasons = [item(text(f"{o.detector}: {reason}")) for o in failed(outcomes) for reason in o.reasons]
    return "\n".join([*lines, *(["", *reasons] if reasons else []), ""])


def _bold(status: str) -> str:
    return f"**{status}**" if status == FAIL else status


def junit(title: str, outcomes: Sequence[Outcome]) -> str:
    """One testcase a detector. XML 1.0 has no control characters; a record, or a log's tail, may."""
    suite = ElementTree.Element("testsuite", {
        "name": printable(title), "tests": str(len(outcomes)), "failures": str(len(failed(outcomes))), "errors": "0",
        "skipped": str(sum(o.status == SKIP for o in outcomes)),
    })  # fmt: skip
    for o in outcomes:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "gate", "name": o.detector})
        if o.status == FAIL:
            failure = ElementTree.SubElement(case, "failure", {"message": printable("; ".join(o.reasons) or o.found)})
            failure.text = printable("\n".join([*o.reasons, f"rule: {o.rule}"]))
        elif o.status == SKIP:
            ElementTree.SubElement(case, "skipped", {"message": printable(o.found)})
        ElementTree.SubElement(case, "system-out").text = printable(o.found)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def write(folder: Path, title: str, outcomes: Sequence[Outcome]) -> None:
    """gate.md and gate.xml; the former is also appended to $GITHUB_STEP_SUMMARY where a CI job sets it."""
    summary = markdown(title, outcomes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gate.md").write_text(summary)
    (folder / "gate.xml").write_text(junit(title, outcomes))
    if os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(os.environ["GITHUB_STEP_SUMMARY"], "a") as file:
            file.write(summary)
