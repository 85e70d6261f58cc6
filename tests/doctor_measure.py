"""The numbers behind the doctor's thresholds: what the ranked records of routers that learn measure.

usage: python -m tests.doctor_measure FOLDER
"""

import sys
from pathlib import Path
from statistics import median

import numpy as np

from harness.doctor import thresholds
from harness.doctor.learning import settled_ratios
from harness.doctor.patient import Patient, Span, joined, read_patient
from harness.doctor.thresholds import row
from harness.errors import UserError
from harness.record.record_folders import record_folders


def measure_text(folder: Path) -> str:
    """The extremes over the ranked MoE records below `folder`.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    runs = [read_patient(path) for path in record_folders([folder])]
    runs = [run for run in runs if run.learns_routing and run.record.ranked]
    if not runs:
        raise UserError(f"no ranked record of a learned router below {folder}", "python -m tests.doctor_measure results")
    windows = [_rolling(run) for run in runs]
    lows = [min(span.effective.min() for span in spans) for spans in windows]
    lines = [
        f"{len(runs)} records in {folder}; load over a health window, wherever it begins",
        row("hot", f"at most (E/K)^{max(map(_standing, runs, windows)):.2f} times its share, two in a row"),
        row("spread", f"at least {min(lows):.3f} of the experts"),
        row("falling", f"at most {max(map(_fall, runs)):.3f} of the experts over three health windows"),
        row("uneven", f"cv at most {max(s.cv_percent.max() for spans in windows for s in spans):.0f}%, at the end "
                       f"{max(spans[-1].cv_percent.max() for spans in windows):.0f}%"),
        row("bias_rules", f"bias range at most {max(max(r) for run in runs for r in _ranges(run)):.2f}"),
        row("bias_grows", f"at most {max(map(_growth, runs)):.2f} times over the last half, from any point on"),
    ]  # fmt: skip
    for group in sorted({group for run in runs for group in settled_ratios(run)}):
        medians = [median(r for _, r in settled_ratios(run)[group]) for run in runs if group in settled_ratios(run)]
        lines.append(row(f"update {group}", f"medians {min(medians):.1e} to {max(medians):.1e}"))
    seeds: dict[str, list[float]] = {}
    for run in runs:
        seeds.setdefault(f"{run.record.plan_hash} {run.record.hardware_class}", []).append(run.record.metrics.slice_bpb)
    spreads = [float(np.std(values, ddof=1)) for values in seeds.values() if len(values) > 1]
    lines.append(row("meaning", f"sd of slice_bpb among seeds at most {max(spreads, default=float('nan')):.4f}"))
    return "\n".join(lines)


def _rolling(run: Patient) -> list[Span]:
    """Health windows that end at every window of the log."""
    size = run.health_windows[-1].steps
    return [
        joined([part for part in run.spans[: end + 1] if part.first > span.last - size])
        for end, span in enumerate(run.spans)
        if span.last >= size
    ]


def _standing(run: Patient, spans: list[Span]) -> float:
    """The largest share that the busiest expert has in two health windows in a row, whichever it is in each: as an exponent of
    E/K over the even share."""
    most = 1.0
    for now in spans:
        before = next((span for span in spans if span.last == now.first - 1), None)
        if before is not None:
            most = max(most, float(np.minimum(before.share.max(1), now.share.max(1)).max()) * run.experts)
    return float(np.log(most) / np.log(run.experts / run.top_k))


def _fall(run: Patient) -> float:
    course = [span.effective for span in run.health_windows]
    falls = [a[row] - d[row] for a, b, c, d in zip(course, course[1:], course[2:], course[3:]) for row in range(len(a))
             if a[row] > b[row] > c[row] > d[row]]  # fmt: skip
    return float(max(falls, default=0.0))


def _ranges(run: Patient) -> list[list[float]]:
    return [row["bias_range"] for row in run.windows]


def _growth(run: Patient) -> float:
    """How many times a bias range grew between the middle and the end of what was known at any window."""
    most = 1.0
    steps = [row["step"] for row in run.windows]
    ranges = np.array(_ranges(run))
    for now, step in enumerate(steps):
        half = max((i for i, s in enumerate(steps) if s * 2 <= step), default=0)
        counted = ranges[now] >= thresholds.BIAS_COUNTS.value
        most = max(most, float((ranges[now] / np.maximum(ranges[half], 1e-9))[counted].max(initial=1.0)))
    return most


if __name__ == "__main__":
    print(measure_text(Path(sys.argv[1])))
