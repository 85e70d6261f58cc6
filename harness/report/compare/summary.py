"""Groups of seeds in one Markdown table a hardware class: what `show` prints of a folder, and `matrix` of a track."""

from harness.report.columns import NAMES, figures, in_parentheses
from harness.report.groups import Group
from harness.report.markup import head, paragraph, row, text
from harness.revision import told

HEADER = ("lane", "arithmetic", "n", "to target, s", *list(NAMES.values())[1:])
UNTIMED = "In parentheses: what emulating a format took on this machine, no claim about speed"
DISTURBED = "In parentheses, no claim about speed"


def summary_table(groups: list[Group]) -> str:
    """A row a group, mean ± sd over its seeds; time only where every seed reached the target. Two plans of one lane are two
    rows, and say which. What an emulated format took, or a run that was disturbed, stands in parentheses: it is no claim about
    speed."""
    lines = []
    for hardware in sorted({group.hardware_class for group in groups}):
        here = [group for group in groups if group.hardware_class == hardware]
        ordered = sorted(here, key=lambda group: (group.track, group.lane, group.plan_hash))
        lines += [f"Hardware class: {text(told(hardware))}", "", *head(HEADER)]
        lines += [row(map(text, _row(group, here))) for group in ordered]
        if untimed := [group.lane for group in ordered if not group.of_its_format]:
            lines.append(f"\n{UNTIMED} ({text(', '.join(untimed))}).")
        lines += [f"\nTo target, {text(said)}." for said in sorted({group.rule.of_table for group in ordered} - {""})]
        disturbed = [group for group in ordered if group.disturbed and group.of_its_format]  # others make no claim anyway
        lines += [f"\n{paragraph(text(f'{DISTURBED}: {group.lane}, {group.disturbed}.'))}" for group in disturbed]
        unranked = [f"{group.lane} is unranked: {group.why_unranked}" for group in ordered if group.why_unranked]
        lines += [f"\n{paragraph(text(said))}" for said in unranked]
        lines.append("")
    return "\n".join(lines).rstrip()


def _row(group: Group, here: list[Group]) -> list[str]:
    several = sum(other.lane == group.lane for other in here) > 1
    twins = [other for other in here if other.lane == group.plan["lane"]["twin"] and other.track == group.track]
    twin = twins[0] if len(twins) == 1 else None
    shown = in_parentheses(figures(group, "-", twin), group, twin)
    return [group.lane + (f" ({group.plan_hash[:8]})" if several else ""), group.arithmetic, str(group.n), *shown.values()]
