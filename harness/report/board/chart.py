"""Charts of the page as inline SVG: drawn when the page is made, coloured by its style sheet, readable without a script."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from harness.report.board.falls import claims_beside, figure_of
from harness.report.board.standings import Board
from harness.report.board.timeline import Timeline
from harness.report.curves import mean_curve, spread
from harness.report.groups import Group
from harness.report.style import magnitude

WIDTH, HEIGHT, LOW = 500, 268, 190  # LOW: the height of the holders' steps
LEFT, TOP, BOTTOM = 44, 22, 38
LABEL_PX = 14  # one line of text
LABELLED = 176  # right margin where lines are named, else BARE
BARE = 14


@dataclass(frozen=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]
    style: str  # classes of the style sheet


def curves(groups: Sequence[Group], board: Board, x: str, twin: Group | None = None) -> Markup:
    """Bits per byte of the slice against "tokens" or "train_s": means thick, seeds thin, the twin's mean dashed. Seconds of a
    group that was disturbed are left out."""
    series = [Series(twin.lane, list(zip(*mean_curve(twin, x))), "mean twin")] if twin else []
    for number, group in enumerate(groups):
        if x == "train_s" and group.disturbed:
            continue
        if group.n > 1:
            for run in group.runs:
                points = [(p[x], p["slice_bpb"]) for p in run.record.metrics.curve]
                series.append(Series(f"seed {run.record.seed}", points, f"seed c{number}"))
        series.append(Series(f"{group.lane}, mean of {group.n}", list(zip(*mean_curve(group, x))), f"mean c{number}"))
    lines = [(line.label, line.slice, line_id == board.target_id) for line_id, line in board.lines.items()]
    unit = "training bytes" if groups[0].runs[0].counts_bytes else "training tokens"
    frame = _Frame(
        xs=[0.0, *(px for s in series for px, _ in s.points)],
        ys=[*(py for s in series for _, py in s.points), *(value for _, value, _ in lines)],
        right=LABELLED if lines else BARE,
    )
    parts = [*frame.axes(unit if x == "tokens" else "training time, s", f"{groups[0].measure} of the slice", magnitude)]
    parts += _lines(frame, lines)
    for one in series:
        parts.append(frame.path(one))
        if one.style.startswith("mean"):
            parts += [frame.dot(one, px, py, f"{one.name}: {py:.4f} at {magnitude(px)}") for px, py in one.points]
    against = unit if x == "tokens" else "training seconds"
    return _svg(frame, parts, f"{groups[0].measure.capitalize()} of the slice against {against}")


def holders(board: Board, on_time: bool) -> Markup:
    """Steps of the record with their numbers: the holder's mean, on seconds or on bits per byte of all of val. Colours are
    those of `curves`; claims that took no record are faint."""
    numbered = [(number, t) for number, t in enumerate(board.history, 1) if t.on_time or not on_time]
    others = claims_beside(board, on_time) if on_time or not any(t.on_time for t in board.history) else []
    time = Timeline.of([t.since for _, t in numbered], [group.finished_at for group in others])
    steps, beside = [], []
    for place, (number, tenure) in enumerate(numbered):
        value, until = figure_of(tenure.group, on_time).mean, time.x(tenure.until) if tenure.until else time.end
        says = f"{tenure.group.lane}, {value:,.1f} s" if on_time else f"{tenure.group.lane}, {value:.4f}"
        style = f"mean c{board.place_of(tenure.group)}"
        steps.append((number, tenure, Series(says, [(time.of_record(place), value), (until, value)], style)))
    for group in others:
        beside.append(Series(group.lane, [(time.x(group.finished_at), figure_of(group, on_time).mean)], "beside"))
    ys = [py for series in (*(series for *_, series in steps), *beside) for _, py in series.points]
    frame = _Frame([time.start, time.end], ys, BARE, LOW)
    title = f"seconds {board.rule.counted}" if on_time else f"{board.measure} of all of val"
    parts = frame.axes(
        time.label if time.by_order else "", title, dict(time.ticks()).__getitem__, ticks=[at for at, _ in time.ticks()]
    )
    parts += [frame.dot(one, *one.points[0], f"{one.name}: took no record") for one in beside]
    for number, tenure, one in steps:
        at = one.points[0]
        parts += [frame.path(one), frame.dot(one, *at, f"{one.name}, from {tenure.since[:16]}"), frame.number(number, *at)]
    return _svg(frame, parts, f"The record's {title} by date")


class _Frame:
    """Scales and axes of one chart."""

    def __init__(self, xs: Iterable[float], ys: Iterable[float], right: int, height: int = HEIGHT):
        xs, ys = [v for v in xs if math.isfinite(v)], [v for v in ys if math.isfinite(v)]
        self.x_range, self.right, self.height = (min(xs), max(xs) or 1.0), WIDTH - right, height
        margin = 0.06 * (max(ys) - min(ys)) or 0.05 * abs(max(ys)) or 0.1
        self.y_range = (min(ys) - margin, max(ys) + margin)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (self.right - LEFT) * (value - low) / ((high - low) or 1.0)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (self.height - BOTTOM - TOP) * (value - low) / (high - low)

    def axes(
        self, x_label: str, y_label: str, x_text: Callable[[float], str], ticks: Sequence[float] | None = None
    ) -> list[str]:
        base = self.height - BOTTOM
        parts = [f'<text class="axis" x="2" y="11">{escape(y_label)}</text>']
        y_ticks = nice_ticks(*self.y_range, 5)
        decimals = max(0, -math.floor(math.log10(y_ticks[1] - y_ticks[0]))) if len(y_ticks) > 1 else 3
        for value in y_ticks:
            at = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{self.right}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:,.{decimals}f}</text>')
        parts.append(f'<line class="base" x1="{LEFT}" x2="{self.right}" y1="{base}" y2="{base}"/>')
        for value in ticks if ticks is not None else nice_ticks(*self.x_range, 4):
            at, text = self.x(value), escape(x_text(value))
            anchor = "middle" if at < self.right - 12 else "end"
            parts.append(f'<text class="tick" x="{at:.1f}" y="{base + 15}" text-anchor="{anchor}">{text}</text>')
        parts.append(f'<text class="axis" x="{(LEFT + self.right) / 2:.0f}" y="{self.height - 5}" text-anchor="middle">'
                     f"{escape(x_label)}</text>")  # fmt: skip
        return parts

    def path(self, series: Series) -> str:
        points = " ".join(f"{self.x(px):.1f},{self.y(py):.1f}" for px, py in series.points)
        return f'<polyline class="{series.style}" points="{points}"/>'

    def dot(self, series: Series, px: float, py: float, says: str) -> str:
        where = f'cx="{self.x(px):.1f}" cy="{self.y(py):.1f}"'
        return f'<circle class="{series.style}" {where} r="3.2"><title>{escape(says)}</title></circle>'

    def number(self, number: int, px: float, py: float) -> str:
        """A record's number above its dot."""
        return f'<text class="number" x="{self.x(px) + 3:.1f}" y="{self.y(py) - 6:.1f}">#{number}</text>'


def _lines(frame: _Frame, lines: list[tuple[str, float, bool]]) -> list[str]:
    """Classical lines, named at the right; names that would overlap move apart and keep a leader."""
    lines = sorted(lines, key=lambda line: line[1])
    high = frame.height - BOTTOM - TOP
    wanted = [(frame.height - BOTTOM - frame.y(value)) / high for _, value, _ in lines]
    parts = []
    for (label, value, target), at in zip(lines, spread(wanted, LABEL_PX / high)):
        y, text_y = frame.y(value), frame.height - BOTTOM - at * high
        kind = "line target" if target else "line"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<path class="leader" d="M{frame.right} {y:.1f}L{frame.right + 8} {text_y:.1f}"/>')
        parts.append(f'<text class="label{" target" if target else ""}" x="{frame.right + 11}" y="{text_y + 3.5:.1f}">'
                     f"{escape(label)} {value:.4f}</text>")  # fmt: skip
    return parts


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 x 10^k within [low, high], roughly `about` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _svg(frame: _Frame, parts: list[str], says: str) -> Markup:
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {frame.height}" role="img" aria-label="{escape(says)}">'
    return Markup(head + "".join(parts) + "</svg>")
