"""Several finished runs in one table: a row a lane and hardware class, means and standard deviations over seeds."""

import statistics
from pathlib import Path
from typing import Any

from harness.report.run_data import read_record

HEADER = ("lane", "n", "to target, s", "slice", "all val", "tokens/s", "MFU", "worst entropy", "dead", "max load")


def find_records(paths: list[Path]) -> list[dict[str, Any]]:
    """The ranked records below these folders. Errors: UserError for one that cannot be read."""
    folders = sorted({record.parent for path in paths for record in path.rglob("record.json")})
    return [record for record in map(read_record, folders) if record["ranked"]]


def summary_table(records: list[dict[str, Any]]) -> str:
    """Markdown. A figure of n runs is mean ± sd; time is given only where every run of the row reached its target."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        rows.setdefault((record["hardware_class"], record["lane"]), []).append(record)
    lines = []
    for hardware in sorted({hardware for hardware, _ in rows}):
        lines += [f"Hardware class: {hardware}", "", _line(HEADER), _line(["---"] * len(HEADER))]
        lines += [_line(_row(lane, group)) for (where, lane), group in sorted(rows.items()) if where == hardware]
        lines.append("")
    return "\n".join(lines).rstrip()


def _row(lane: str, group: list[dict[str, Any]]) -> list[str]:
    metrics = [record["metrics"] for record in group]
    health = [record["router_health"] for record in group if record["router_health"]]
    reached = [m["time_to_target_s"] for m in metrics if m["target_reached"]]
    seconds = _spread(reached, "{:.1f}") if len(reached) == len(metrics) else f"{len(reached)} of {len(metrics)} reached it"
    return [
        lane, str(len(group)), seconds,
        *(_spread([m[key] for m in metrics], "{:.4f}") for key in ("slice_bpb", "val_bpb")),
        _spread([m["tokens_per_second"] for m in metrics], "{:,.0f}"),
        f"{statistics.mean(m['mfu'] for m in metrics):.0%}",
        f"{min(h['worst_entropy_ratio'] for h in health):.3f}" if health else "-",
        str(max(h["dead"] for h in health)) if health else "-",
        f"{max(h['max_load_percent'] for h in health):.1f}%" if health else "-",
    ]  # fmt: skip


def _spread(values: list[float], form: str) -> str:
    mean = form.format(statistics.mean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"
