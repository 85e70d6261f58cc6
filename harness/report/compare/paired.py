"""A format against bf16 at equal seeds: the same architecture, data order and initialization, so what is left is precision.

The difference of a pair is in % of the bf16 run's bits of all of val. Its spread over pairs is smaller than that of either
lane, because seeds move both; the interval is Student's t over the pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.report.groups import Group
from harness.report.markup import head, row, text
from harness.report.statistics import ASSUMES, LEVEL, Sample

BASE = "bf16"
HEADER = ("architecture", "precision", "pairs (seeds)", "{measure} of val", f"{LEVEL:.0%} interval", "each pair")


@dataclass(frozen=True)
class Paired:
    """`percent`: one figure a seed of `seeds`, positive where the format has more bits than bf16."""

    group: Group
    base: Group
    seeds: tuple[int, ...]
    percent: Sample


def paired(groups: list[Group]) -> Iterator[Paired]:
    """Every group of another format with a bf16 group of its architecture, track and hardware class, and a common seed."""
    for group in groups:
        for base in groups:
            if base.precision != BASE or group.precision == BASE or _kind(base) != _kind(group):
                continue
            bits = [{run.record.seed: run.record.metrics.val_bpb for run in side.runs} for side in (group, base)]
            if seeds := tuple(seed for seed in group.seeds if seed in bits[1]):
                yield Paired(group, base, seeds, Sample.of([100 * (bits[0][s] / bits[1][s] - 1) for s in seeds]))


def _kind(group: Group) -> tuple[str, str, str]:
    return group.architecture, group.track, group.hardware_class


def paired_table(groups: list[Group]) -> str:
    """Markdown; empty where nothing can be paired. `groups`: of one track."""
    rows = [_row(pair) for pair in sorted(paired(groups), key=lambda p: (p.group.architecture, p.group.precision))]
    if not rows:
        return ""
    measure = groups[0].measure
    lines = [*head([name.format(measure=measure) for name in HEADER]), *(row(map(text, cells)) for cells in rows)]
    return "\n".join([
        f"Minus {BASE} at equal seeds, in % of the {measure} of {BASE}; less is better:", "", *lines, "",
        f"Mean over pairs; the interval is two-sided (Student's t), {ASSUMES}.",
    ])  # fmt: skip


def _row(pair: Paired) -> list[str]:
    interval = pair.percent.interval()
    return [
        pair.group.architecture, pair.group.arithmetic, f"{len(pair.seeds)} ({', '.join(map(str, pair.seeds))})",
        f"{pair.percent.mean:+.2f}%", "-" if interval is None else "{:+.2f}% to {:+.2f}%".format(*interval),
        ", ".join(f"{value:+.2f}%" for value in pair.percent.values),
    ]  # fmt: skip
