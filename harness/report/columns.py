"""The figures that every table of runs has: the end table of a run, `show`, a matrix, the leaderboard. One place says how each
is taken over the seeds of a group, and how it is written."""

from collections.abc import Callable
from typing import NamedTuple

from harness.report.groups import Group

NAMES = {
    "to_target": "to target", "slice": "slice", "val": "all val", "rate": "tokens/s", "mfu": "MFU", "step": "step/twin",
    "entropy": "worst entropy", "dead": "dead", "max_load": "max load",
}  # fmt: skip
CLOCKED = ("to_target", "rate", "mfu")  # not told where seconds do not compare


class Figure(NamedTuple):
    text: str
    value: float | None  # what it sorts by


def figures(group: Group, none: str, twin: Group | None = None) -> dict[str, Figure]:
    """By key of NAMES: means ± sd over seeds, of router health the worst layer and seed. `none` is written where a group has
    no such figure; `twin`: what a step is compared with."""
    absent = Figure(none, None)

    def sampled(key: str, form: str) -> Figure:
        sample = group.sample(key)
        return Figure(sample.text(form), sample.mean)

    def worst(of: Callable, key: str, form: str) -> Figure:
        found = [getattr(run.record.router_health, key) for run in group.runs if run.record.router_health]
        return Figure(form.format(of(found)), of(found)) if found else absent

    mfu = group.sample("mfu").mean
    step = group.sample("step_s").mean / twin.sample("step_s").mean if twin else None
    return {
        "to_target": _to_target(group) or absent,
        "slice": sampled("slice_bpb", "{:.4f}"),
        "val": sampled("val_bpb", "{:.4f}"),
        "rate": sampled("tokens_per_second", "{:,.0f}"),
        "mfu": Figure(f"{mfu:.1%}" if mfu < 0.01 else f"{mfu:.0%}", mfu),
        "step": Figure(f"{step:.2f}x", step) if step else absent,
        "entropy": worst(min, "worst_entropy_ratio", "{:.3f}"),
        "dead": worst(max, "dead", "{}"),
        "max_load": worst(max, "max_load_percent", "{:.1f}%"),
    }


def _to_target(group: Group) -> Figure | None:
    """The seconds that rank it, or why there are none; None where there is no target."""
    if group.runs[0].target is None:
        return None
    seconds = group.seconds()
    return Figure(seconds.text("{:,.1f}"), seconds.mean) if seconds else Figure(group.rule.missing(group.runs), None)


def millions(count: int) -> str:
    """Parameters as people read them."""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def in_parentheses(found: dict[str, Figure], group: Group, twin: Group | None = None) -> dict[str, str]:
    """The texts; what no claim about speed may be made of stands in parentheses."""
    shown = {key: figure.text for key, figure in found.items()}
    for key in (*CLOCKED, "step"):
        timed = group.timed and (key != "step" or twin is None or twin.timed)
        if found[key].value is not None and not timed:
            shown[key] = f"({shown[key]})"
    return shown
