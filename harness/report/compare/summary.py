"""Groups of seeds in one Markdown table a hardware class: what `show` prints of a folder, and `matrix` of a track."""

from harness.report.groups import Group
from harness.report.markup import head, paragraph, row, text

HEADER = (
    "lane", "arithmetic", "n", "to target, s", "slice", "all val", "tokens/s", "MFU", "step/twin", "worst entropy", "dead",
    "max load",
)  # fmt: skip


UNTIMED = "In parentheses: what emulating a format took on this machine, no claim about speed"


def summary_table(groups: list[Group]) -> str:
    """A row a group, mean ± sd over its seeds; time only where every seed reached the target. Two plans of one lane are two
    rows, and say which. What an emulated format took stands in parentheses: it is no claim about speed."""
    lines = []
    for hardware in sorted({group.hardware_class for group in groups}):
        here = [group for group in groups if group.hardware_class == hardware]
        ordered = sorted(here, key=lambda group: (group.track, group.lane, group.plan_hash))
        lines += [f"Hardware class: {text(hardware)}", "", *head(HEADER)]
        lines += [row(map(text, _row(group, here))) for group in ordered]
        if untimed := [group.lane for group in ordered if not group.timed]:
            lines.append(f"\n{UNTIMED} ({text(', '.join(untimed))}).")
        unranked = [f"{group.lane} is unranked: {group.why_unranked}" for group in ordered if group.why_unranked]
        lines += [f"\n{paragraph(text(said))}" for said in unranked]
        lines.append("")
    return "\n".join(lines).rstrip()


def _row(group: Group, here: list[Group]) -> list[str]:
    several = sum(other.lane == group.lane for other in here) > 1
    reached = sum(run.record.metrics.target_reached for run in group.runs)
    seconds = group.to_target()
    health = [run.record.router_health for run in group.runs if run.record.router_health]
    to_target = seconds.text("{:,.1f}") if seconds else f"{reached} of {group.n} reached it" if group.runs[0].target else "-"
    rate, mfu = group.sample("tokens_per_second").text("{:,.0f}"), f"{group.sample('mfu').mean:.0%}"
    return [
        group.lane + (f" ({group.plan_hash[:8]})" if several else ""), group.arithmetic, str(group.n),
        to_target if group.timed or not seconds else f"({to_target})",
        *(group.sample(key).text("{:.4f}") for key in ("slice_bpb", "val_bpb")),
        *(cell if group.timed else f"({cell})" for cell in (rate, mfu)), _step_ratio(group, here),
        f"{min(h.worst_entropy_ratio for h in health):.3f}" if health else "-",
        str(max(h.dead for h in health)) if health else "-",
        f"{max(h.max_load_percent for h in health):.1f}%" if health else "-",
    ]  # fmt: skip


def _step_ratio(group: Group, here: list[Group]) -> str:
    """Seconds a step over those of the twin, where one group of the twin is here."""
    twins = [other for other in here if other.lane == group.plan["lane"]["twin"] and other.track == group.track]
    if len(twins) != 1:
        return "-"
    ratio = f"{group.sample('step_s').mean / twins[0].sample('step_s').mean:.2f}x"
    return ratio if group.timed and twins[0].timed else f"({ratio})"
