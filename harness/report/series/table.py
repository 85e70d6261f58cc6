"""What a series came to, as Markdown: a row a family, size and budget."""

from collections.abc import Sequence

from harness.plan.series import Series
from harness.report.markup import head, row, text
from harness.report.series.points import CONVENTIONS, Point
from harness.report.statistics import Sample
from harness.report.style import magnitude


def points_table(series: Series, points: Sequence[Point], measure: str) -> list[str]:
    """Markdown. Mean ± sd over the seeds; tokens per parameter under each convention; seconds of training."""
    shares = [f"tokens / {name}" for name in CONVENTIONS]
    lines = head(("family", "size", "FLOPs", "n", "tokens", *CONVENTIONS, *shares, measure, "seconds"))
    places = dict.fromkeys(point.place for point in points)
    for place in sorted(places, key=lambda place: (place[1], place[2], list(series.families).index(place[0]))):
        some = [point for point in points if point.place == place]
        family, budget, size = place
        tokens, params = some[0].tokens, some[0].params
        seconds = [point.seconds for point in some if point.seconds is not None]
        lines.append(row([
            text(family), str(size), f"{budget:.3g}", str(len(some)), magnitude(tokens),
            *(magnitude(params[name]) for name in CONVENTIONS), *(f"{tokens / params[name]:.2f}" for name in CONVENTIONS),
            Sample.of([point.bpb for point in some]).text("{:.4f}"),
            Sample.of(seconds).text("{:.1f}") if len(seconds) == len(some) else "-",
        ]))  # fmt: skip
    return lines
