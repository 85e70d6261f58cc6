"""`bpb.png`: bits per byte (of a track of tasks per answer) of the slice of val against tokens and against training seconds."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from harness.report import style
from harness.report.curves import draw_lines, label_lines
from harness.report.run_data import RunData


def draw_bpb(run: RunData, twin: RunData | None, path: Path) -> Path:
    """Two panels with one y axis. The twin is left out of what it must not share, and the caption says so."""
    notes = [f"scored on {run.scored_on}"]
    if run.is_partial and run.record.lines:
        notes.append("classical lines are left out: they are scored on more of val")
    separate = run.why_not_beside(twin) if twin else None
    if separate:
        notes.append(f"the curve of {twin.record.lane} is left out: {separate}")
        twin = None
    if run.disturbed:
        notes.append(f"no claim about speed: {run.disturbed}")
    untimed = run.why_not_timed_beside(twin) if twin else None
    timed_twin = None if untimed else twin
    if twin:
        notes.append(f"{twin.record.lane} is one run, seed {twin.record.seed}")
        if untimed:
            ran = "" if run.same_class(twin) else f"; it ran on {twin.record.speed_class}"
            notes.append(f"its seconds are left out: {untimed}{ran}")

    fig = style.new_figure(run, run.measure, 3.8, *notes)
    by_tokens, by_seconds = fig.subplots(1, 2, sharey=True)
    _panel(by_tokens, run, twin, "tokens")
    _panel(by_seconds, run, timed_twin, "train_s")
    by_tokens.set_ylabel(run.measure)
    by_tokens.set_xlabel("training bytes" if run.counts_bytes else "training tokens")
    by_seconds.set_xlabel("training time (s)")
    by_tokens.xaxis.set_major_formatter(style.MAGNITUDE)
    by_tokens.set_ylim(*_y_range(run, twin))
    style.add_legend(fig, by_tokens)
    if not run.is_partial:
        label_lines(by_seconds, run.record.lines, _target_id(run))
    return style.save(fig, path)


def _panel(ax: Axes, run: RunData, twin: RunData | None, x: str) -> None:
    metrics = run.record.metrics
    if not run.is_partial:
        draw_lines(ax, run.record.lines, _target_id(run))
    if run.counts_bytes:
        steps, loss = _smooth_loss(run)
        ax.plot(_at_steps(run, steps, x), loss, color=style.LOSS, linewidth=0.9, label="training loss", zorder=2)
    if twin:
        same_lane = twin.record.lane == run.record.lane
        _curve(ax, twin, x, style.TWIN, "s", twin.record.lane + (" (other run)" if same_lane else ""))
    _curve(ax, run, x, style.THIS_RUN, "o", run.record.lane)
    crossing = metrics.tokens_to_target if x == "tokens" else metrics.time_to_target_s
    if metrics.target_reached and crossing is not None and not run.is_partial and run.target.metric == "slice_bpb":
        ax.plot(crossing, run.target.level, marker="*", markersize=13, color=style.TARGET, linestyle="none",
                markeredgecolor="white", label=_target_label(run), zorder=5)  # fmt: skip
    ax.set_xlim(left=0)


def _target_id(run: RunData) -> str:
    return run.target.id if run.target else ""


def _target_label(run: RunData) -> str:
    metrics, unit = run.record.metrics, "bytes" if run.counts_bytes else "tokens"
    at = [f"{style.magnitude(metrics.tokens_to_target)} {unit}"] if metrics.tokens_to_target is not None else []
    at += [f"{metrics.time_to_target_s:,.1f} s"] if metrics.time_to_target_s is not None else []
    return f"target passed at {', '.join(at)}"


def _curve(ax: Axes, run: RunData, x: str, colour: str, marker: str, label: str) -> None:
    curve = run.record.metrics.curve
    ax.plot([p[x] for p in curve], [p["slice_bpb"] for p in curve], color=colour, marker=marker, markersize=5,
            markeredgecolor="white", markeredgewidth=0.6, label=style.words(label), zorder=4)  # fmt: skip


def _smooth_loss(run: RunData) -> tuple[np.ndarray, np.ndarray]:
    """(steps, bits per byte): a centred mean over 1/48 of the run, one-sided at the two ends."""
    bits_N = np.array([row["loss"] for row in run.steps]) / math.log(2)
    n = len(bits_N)
    first_N = np.maximum(np.arange(n) - n // 96, 0)
    end_N = np.minimum(np.arange(n) + n // 96 + 1, n)
    sums = np.concatenate([[0.0], np.cumsum(bits_N)])
    return np.array([row["step"] for row in run.steps]), (sums[end_N] - sums[first_N]) / (end_N - first_N)


def _at_steps(run: RunData, steps: np.ndarray, x: str) -> np.ndarray:
    """Tokens or training seconds at each step; seconds are known at windows and validations and run evenly between."""
    if x == "tokens":
        return np.array([row["tokens"] for row in run.steps])
    known = {row["step"]: row["train_s"] for row in [*run.windows, *run.validations]}
    if run.steps[0]["step"] == 1:
        known[0] = 0.0
    at = sorted(known)
    return np.interp(steps, at, [known[step] for step in at])


def _y_range(run: RunData, twin: RunData | None) -> tuple[float, float]:
    """All validations and lines, and the training loss after the first quarter of the run: its start is far above."""
    shown = [p["slice_bpb"] for r in (run, twin) if r for p in r.record.metrics.curve]
    if not run.is_partial:
        shown += [line.slice for line in run.record.lines.values()]
    if run.counts_bytes:
        _, loss = _smooth_loss(run)
        shown += list(loss[len(loss) // 4 :])
    shown = [value for value in shown if math.isfinite(value)]
    low, high = min(shown), max(shown)
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin
