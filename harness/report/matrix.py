"""The matrix of a track: dense and MoE by precision, with seconds, bits per byte and router health over seeds."""

from harness.report.groups import Group
from harness.report.statistics import Sample

HEADER = (
    "architecture", "precision", "n", "to target, s", "slice", "all val", "tokens/s", "step/twin", "worst entropy", "dead",
    "max load",
)  # fmt: skip


def architecture(group: Group) -> str:
    """The lane's name without its precision."""
    return group.lane.removesuffix(f"-{precision(group)}")


def precision(group: Group) -> str:
    return group.first["precision"]["format"]


def matrix_table(groups: list[Group]) -> str:
    """Markdown: a row a lane, mean ± sd over its seeds. All groups are of one track and one hardware class."""
    ordered = sorted(groups, key=lambda group: (architecture(group), precision(group)))
    by_lane = {group.lane: group for group in groups}
    lines = [f"Hardware class: {groups[0].hardware_class}", "", _line(HEADER), _line(["---"] * len(HEADER))]
    lines += [_line(_row(group, by_lane)) for group in ordered]
    lines += [f"\n{group.lane} is unranked: {group.why_unranked}" for group in ordered if group.why_unranked]
    return "\n".join(lines)


def _row(group: Group, by_lane: dict[str, Group]) -> list[str]:
    reached = sum(run.record["metrics"]["target_reached"] for run in group.runs)
    seconds, twin = group.to_target(), by_lane.get(group.plan["lane"]["twin"])
    step = f"{group.sample('step_s').mean / twin.sample('step_s').mean:.2f}x" if twin else "-"
    health = [run.record["router_health"] for run in group.runs if run.record["router_health"]]
    return [
        architecture(group), precision(group) + (" (emulated)" if group.emulated else ""), str(group.n),
        spread(seconds, "{:,.1f}") if seconds else f"{reached} of {group.n} reached it",
        spread(group.sample("slice_bpb"), "{:.4f}"), spread(group.sample("val_bpb"), "{:.4f}"),
        spread(group.sample("tokens_per_second"), "{:,.0f}"), step,
        f"{min(h['worst_entropy_ratio'] for h in health):.3f}" if health else "-",
        str(max(h["dead"] for h in health)) if health else "-",
        f"{max(h['max_load_percent'] for h in health):.1f}%" if health else "-",
    ]  # fmt: skip


def spread(sample: Sample, form: str) -> str:
    mean = form.format(sample.mean)
    return f"{mean} ± {form.format(sample.sd)}" if sample.sd is not None else mean


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"
