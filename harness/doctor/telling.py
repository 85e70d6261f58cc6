"""A diagnosis as text for a person and as JSON for a machine."""

from dataclasses import asdict
from textwrap import fill
from typing import Any

from harness.doctor.commands import Command, Commands
from harness.doctor.diagnose import Diagnosis
from harness.doctor.patient import Patient
from harness.shown import one_line

WIDTH, INDENT = 118, 10


def as_text(diagnosis: Diagnosis) -> str:
    run, commands = diagnosis.run, Commands(diagnosis.run, diagnosis.findings)
    lines = [f"{'run':<{INDENT}}{one_line(run.folder)}"]
    lines += [f"{'lane':<{INDENT}}{one_line(run.settings['lane.name'])}, {run.state}"]
    lines += [_layer(diagnosis, row, layer) for row, layer in enumerate(run.moe_layers)] if diagnosis.now else []
    lines += [_entry("remark", remark) for remark in diagnosis.remarks]
    told: dict[tuple[Command, ...], int] = {}
    explained: set[str] = set()
    for number, finding in enumerate(diagnosis.findings, 1):
        begun = f" Since step {finding.since:,}." if finding.since is not None else ""
        lines += ["", _entry(f"{number}.", f"{finding.name.replace('_', ' ')}: {finding.says}.{begun}")]
        if finding.why not in explained:
            lines.append(_entry("why", finding.why))
        explained.add(finding.why)
        made = tuple(commands.of(finding))
        if made in told:
            lines.append(_entry("try", f"as under {told[made]}."))
        else:
            lines += _tries(made, commands.no_fork(finding), commands.lane_is_here)
        if made:
            told.setdefault(made, number)
    found = len(diagnosis.findings)
    verdict = "healthy" if diagnosis.healthy else f"sick: {found} finding{'s, the most severe first' if found > 1 else ''}"
    if not found and not diagnosis.judged:
        verdict = "not known yet"
    return "\n".join([*lines, "", f"{'verdict':<{INDENT}}{verdict}"])


def _tries(commands: tuple[Command, ...], no_fork: str | None, lane_is_here: bool) -> list[str]:
    if not commands:
        return [_entry("try", "nothing that would compose" + ("" if lane_is_here else ": its lane is not in this checkout"))]
    lines = [_entry("fork", no_fork)] if no_fork else []
    for number, command in enumerate(commands, 1):
        start = f"from step {command.step:,}" if command.step is not None else "from the beginning"
        lines += [_entry(f"try {number}", f"{command.why} ({start})"), f"{'':<{INDENT}}{command.line}"]
    return lines


def _layer(diagnosis: Diagnosis, row: int, layer: int) -> str:
    run, now = diagnosis.run, diagnosis.now
    share = now.share[row]
    names = ", ".join(name.replace("_", " ") for name in diagnosis.names_of(layer))
    return _entry(
        f"layer {layer}",
        f"{f'sick ({names})' if names else 'healthy'}: busiest expert {int(share.argmax())} in {share.max() * run.top_k:.0%} "
        f"of top-{run.top_k} sets (even {run.top_k / run.experts:.1%}), {now.effective[row] * run.experts:.1f} effective of "
        f"{run.experts}, {int((share == 0).sum())} dead, steps {now.first:,} to {now.last:,}{_on_val(run, row)}",
    )  # fmt: skip


def _on_val(run: Patient, row: int) -> str:
    if run.val is None:
        return ""
    share = run.val.share[row]
    return f"; on val expert {int(share.argmax())} in {share.max() * run.top_k:.0%}, {int((share == 0).sum())} dead"


def _entry(label: str, text: str) -> str:
    return fill(text, WIDTH, initial_indent=f"{label:<{INDENT}}", subsequent_indent=" " * INDENT, break_long_words=False)


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    run, commands, now = diagnosis.run, Commands(diagnosis.run, diagnosis.findings), diagnosis.now
    return {
        "run": str(run.folder),
        "lane": run.settings["lane.name"],
        "state": run.state,
        "healthy": diagnosis.healthy, "judged": diagnosis.judged,
        "layers": [] if now is None else [
            {"layer": layer, "healthy": not diagnosis.names_of(layer), "findings": diagnosis.names_of(layer),
             "first_step": now.first, "last_step": now.last, "share_of_sets": float(now.share[row].max() * run.top_k),
             "effective_experts": float(now.effective[row] * run.experts), "dead": int((now.counts[row] == 0).sum()),
             "val_share_of_sets": None if run.val is None else float(run.val.share[row].max() * run.top_k),
             "val_dead": None if run.val is None else int((run.val.counts[row] == 0).sum())}
            for row, layer in enumerate(run.moe_layers)
        ],
        "findings": [
            {"name": f.name, "says": f.says, "why": f.why, "layers": list(f.layers), "since": f.since, "evidence": f.evidence,
             "tries": [asdict(command) for command in commands.of(f)]}
            for f in diagnosis.findings
        ],
        "remarks": diagnosis.remarks,
    }  # fmt: skip
