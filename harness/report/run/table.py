"""The end table of a run: itself, its twin and the classical lines, and below it what the figures rest on."""

from shlex import quote
from textwrap import wrap

from harness.plan.bounds import TAKEN
from harness.record.schema import Clock, Evaluation
from harness.report.anchors import anchors_for
from harness.report.columns import NAMES, figures, in_parentheses, millions
from harness.report.groups import Group
from harness.report.rule import rule_of
from harness.report.run_data import RunData
from harness.report.task_scores import in_one_line, scored
from harness.shown import one_line

COLUMNS = tuple(NAMES.values())
INDENT, GAP, NAME, TEXT = "    ", "  ", 10, 110  # widths of the lines below the table
CLOCK = {
    "train_s": "training", "compile_s": "compilation", "warmup_s": "warm-up", "validation_s": "validation",
    "checkpoint_s": "checkpoints", "peaks_s": "peaks", "final_evaluation_s": "final evaluation", "other_s": "other",
}  # fmt: skip


def end_table(run: RunData, twin: RunData | None) -> str:
    """Plain text, aligned, without a final newline.

    Seconds of another hardware class, and bits per byte of another protocol, are '-', and a line below says why.
    """
    rows = [("", COLUMNS, ""), ("this run", _cells(run, twin), ""), *_twin_rows(run, twin)]
    by_ease = sorted(run.record.lines.items(), key=lambda item: -item[1].slice)
    for line_id, line in by_ease:
        cells = ["-", f"{line.slice:.4f}", f"{line.val:.4f}"] + [""] * (len(COLUMNS) - 3)
        rows.append((line.label, cells, _line_note(run, line_id)))
    below = []
    for name, text in [*_twin_notes(run, twin), *_below(run)]:
        first, *rest = wrap(text, TEXT)
        below += [f"{INDENT}{name:<{NAME}}{first}", *(f"{INDENT}{'':<{NAME}}{line}" for line in rest)]
    return "\n".join([_aligned(rows), "", *below])


def _aligned(rows: list[tuple[str, tuple[str, ...] | list[str], str]]) -> str:
    """Names to the left, cells to the right; a note follows the last filled cell of its row."""
    rows = [(one_line(name), cells, one_line(note)) for name, cells, note in rows]
    name_width = max(len(name) for name, _, _ in rows)
    widths = [max(len(column), *(len(cells[i]) for _, cells, _ in rows if cells)) for i, column in enumerate(COLUMNS)]
    lines = []
    for name, cells, note in rows:
        line = INDENT + GAP.join([name.ljust(name_width), *(cell.rjust(width) for cell, width in zip(cells, widths))])
        lines.append(f"{line.rstrip()}   {note}" if note else line.rstrip())
    return "\n".join(lines)


def _cells(run: RunData, twin: RunData | None, *, bits: bool = True, seconds: bool = True) -> list[str]:
    """One run's row; `bits` and `seconds` say whether its bpb and its times compare with those of the table's run."""
    alone, beside = Group((run,)), Group((twin,)) if twin and run.same_class(twin) else None
    found = figures(alone, "-", beside)
    if (to_target := found["to_target"]).value is not None:
        found["to_target"] = to_target._replace(text=f"{to_target.text} s")
    disturbed = run.disturbed or (twin and twin.disturbed)
    told = in_parentheses(found, alone, beside) if disturbed else {key: figure.text for key, figure in found.items()}
    hidden = {"to_target": bits and seconds, "slice": bits, "val": bits, "rate": seconds}
    return ["-" if not hidden.get(key, True) else text for key, text in told.items()]


def _twin_rows(run: RunData, twin: RunData | None) -> list[tuple[str, list[str], str]]:
    if twin is None:
        lane = run.plan["lane"]["twin"]
        note = f"no ranked record of this twin yet; make one: make speedrun LANE={quote(lane)} SEED={run.record.seed}"
        return [(lane, [], note)] if lane else []
    same_class, same_protocol = run.same_class(twin), run.why_not_beside(twin) is None
    cells = _cells(twin, twin if same_class else None, bits=same_protocol, seconds=same_class)
    return [(twin.record.lane, cells, "")]


def _twin_notes(run: RunData, twin: RunData | None) -> list[tuple[str, str]]:
    """Why something of the twin is not shown, or does not weigh as much as it seems."""
    if twin is None:
        return []
    notes = [f"{run.measure} not shown: {separate}"] if (separate := run.why_not_beside(twin)) else []
    if not run.same_class(twin):
        notes.append(f"seconds not shown: it ran on hardware class {twin.record.speed_class}")
    elif twin.disturbed:
        notes.append(f"no claim about its speed: {twin.disturbed}")
    if twin.why_unranked:
        notes.append(f"unranked: {twin.why_unranked}")
    return [("twin", "; ".join(notes))] if notes else []


def _line_note(run: RunData, line_id: str) -> str:
    """Whether the run passed the line, and how much more text the line has seen. A line `*_alone` has read no train."""
    metrics = run.record.metrics
    is_target = run.target is not None and line_id == run.target.id
    if run.is_partial:
        return ""
    best = min(point["slice_bpb"] for point in metrics.curve)
    passed = metrics.target_reached if is_target else best <= run.record.lines[line_id].slice
    notes = ["the target"] if is_target else []
    if not passed:
        notes.append("not passed" + ("" if line_id.endswith("_alone") else f": it has read all of train{_share_read(run)}"))
    return f"({', '.join(notes)})" if notes else ""


def _share_read(run: RunData) -> str:
    train_bytes = run.record.data.train_bytes
    if not (run.counts_bytes and train_bytes):
        return ""
    share = run.record.metrics.tokens / train_bytes
    return f", this run {share:.0%}" if share < 10 else f", this run {share:,.0f} times"


def _below(run: RunData) -> list[tuple[str, str]]:
    """(name, text) of the short lines under the table."""
    record, metrics, counts = run.record, run.record.metrics, run.record.counts
    lines = [(
        "model",
        f"{millions(counts.params_total)} parameters, {millions(counts.params_active)} active, "
        f"{counts.flops_per_token / 1e6:.3g} MFLOP per token, peak memory {metrics.peak_memory_bytes / 2**30:.1f} GiB",
    )]  # fmt: skip
    lines.append(("clock", _clock(record.clock)))
    if said := rule_of(run.plan).of_table:
        lines.append(("to target", said))
    if metrics.val_loss is not None:
        passes = f", end-of-text among them; {metrics.curve[-1]['epoch']:.2f} passes over train"
        seen = "; no row of training is read twice" if run.of_tasks else passes
        lines.append(("loss", f"{metrics.val_loss:.4f} {run.nats} of val{seen}"))
    if run.target and run.target.metric != "slice_bpb":
        now = metrics.curve[-1][run.target.metric]
        lines.append(("target", f"{run.target.text}: {'reached' if metrics.target_reached else 'not reached'}, now {now:.4f}"))
    lines += _public(record.evaluations)
    if metrics.val_bpb_clean is not None:
        clean = f"{metrics.val_bpb_clean:.4f} on the part of val that shares no 13 words in a row with train"
        lines.append(("overlap", f"{clean} (all of val {metrics.val_bpb:.4f})"))
    if metrics.slice_bpb_shuffled_routing is not None:
        cost = metrics.slice_bpb_shuffled_routing - metrics.slice_bpb
        shuffled = f"{metrics.slice_bpb_shuffled_routing:.4f} on the slice with routing shuffled among tokens"
        lines.append(("routing", f"{shuffled}: {cost:+.4f} {run.measure} without the learned assignment"))
    if record.precision.execution == "emulated":
        lines.append(("precision", f"{record.precision.format}, emulated: no claim about speed"))
    if run.is_partial:
        lines.append(("partial", "scored on a capped part of val: neither the lines nor a twin compare with this run"))
    lines.append(("ranked", f"no: {run.why_unranked}" if run.why_unranked else "yes"))
    lines += _machine(run)
    return lines


def _machine(run: RunData) -> list[tuple[str, str]]:
    """Whose the machine was; nothing where an old record does not say."""
    found = run.record.occupancy
    lines = [("on time", f"no claim about speed: {run.disturbed}")] if run.disturbed else []
    if found and not found.not_measured:
        waited = "" if found.waited_s is None else f", its threads waited {found.waited_s:,.1f} s for a core"
        said = f"others took {found.share:.1%} of the processor time (bound {TAKEN:.0%}){waited}"
        peaks = ", ".join(f"{flops / 1e9:,.0f} {when}" for when, flops in found.peaks.items())
        lines.append(("machine", f"{said}; matmul peak in GFLOP/s: {peaks}"))
    return lines


def _public(evaluations: dict[str, Evaluation]) -> list[tuple[str, str]]:
    """The public test sets, each beside published figures of its own protocol."""
    lines = [(name, f"not scored: {found.failed}") for name, found in evaluations.items() if found.failed]
    evaluations = {name: found for name, found in evaluations.items() if not found.failed}
    if wikitext := evaluations.get("wikitext"):
        published = _published(wikitext, "bits_per_byte")
        lines.append(("wikitext", f"{wikitext.bits_per_byte:.4f} bits per byte of its raw test{published}"))
    if core := evaluations.get("core"):
        low, high = core.interval_v1
        figures = f"{core.core_v1:.4f} (95% bootstrap interval {low:.4f} to {high:.4f}; baselines v2 {core.core_v2:.4f})"
        lines.append(("core", figures + _published(core, "core")))
    if tasks := scored(evaluations):
        lines += in_one_line(tasks)
    return lines


def _published(found: Evaluation, metric: str) -> str:
    """GPT-2's figures of the same protocol."""
    family = [a for a in anchors_for(found.protocol, metric) if a.id.startswith("gpt2")]
    known = ", ".join(f"{anchor.id} {anchor.value:.4f}" for anchor in family)
    return f"; published: {known}" if known else ""


def _clock(clock: Clock) -> str:
    """The ledger, largest first, with shares of wall time; what rounds to 0.0 s is left out."""
    wall, entries = clock.wall_s, clock.content()
    spent = sorted(((entries[key], name) for key, name in CLOCK.items() if entries.get(key, 0.0) >= 0.05), reverse=True)
    parts = [f"{name} {seconds:,.1f} s ({seconds / wall:.0%})" for seconds, name in spent]
    return f"wall {wall:,.1f} s: {', '.join(parts)}"
