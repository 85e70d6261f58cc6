"""What a series would run, said before anything is: points, FLOPs, tokens, tokens a parameter, seconds."""

from collections.abc import Collection, Sequence

from harness.launch.series.course import Course
from harness.launch.series.grid import HOUR_S, Grid
from harness.report.style import magnitude

HEADER = ("point", "FLOPs", "tokens", "active", "total", "tokens/active", "tokens/total", "seconds", "by", "there")


def plan_text(course: Course, grid: Grid, all_of: Sequence[tuple[Grid, float]], seeds: Sequence[int]) -> str:
    """A row a point of the part that is run, or of the whole with the points ahead; then what each part lacks."""
    there = course.there(seeds)
    names = list(dict.fromkeys(name for name, _ in grid.runs))
    ahead = [name for name, point in course.points.items() if point.budget == course.series.ahead] if grid.ahead else []
    rows = [HEADER, *(_row(course, name, there, grid.seeds) for name in [*names, *ahead])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(w) if i in (0, 8) else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
             for row in rows]  # fmt: skip
    if ahead:
        lines.append(f"of {course.series.ahead:.3g} FLOPs one size of each family is run: the one that is predicted to be best")
    lines += _repeated(course, [*names, *ahead])
    lines.append("")
    lines += [f"{'runs' if part == grid else '    '}  {left / HOUR_S:6.2f} h  {part.text}" for part, left in all_of]
    return "\n".join(lines)


def _repeated(course: Course, names: Sequence[str]) -> list[str]:
    """Which points see data more than once, so that a law of them is one of repeated data too."""
    track = next(iter(course.points.values())).plan.track
    length = track.tokens.train_tokens or track.train_bytes
    passes = {name: course.points[name].tokens / length for name in names} if length else {}
    told = [f"{name} {count:.1f} times" for name, count in passes.items() if count > 1]
    return [f"over train pass {', '.join(told)}"] if told else []


def _row(course: Course, name: str, there: Collection[tuple[str, int]], seeds: Sequence[int]) -> tuple[str, ...]:
    point = course.points[name]
    seconds, source = course.seconds.of(point)
    counts, some = point.counts, sum((name, seed) in there for seed in seeds)
    return (
        name, f"{point.flops:.3g}", magnitude(point.tokens), magnitude(counts.params_active), magnitude(counts.params_total),
        f"{point.tokens / counts.params_active:.2f}", f"{point.tokens / counts.params_total:.2f}", f"{seconds:.0f}", source,
        f"{some} of {len(seeds)}",
    )  # fmt: skip
