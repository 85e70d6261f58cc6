"""`index.html`: the leaderboard as one file that asks for nothing else. Style and script are inlined by the template.

Tables, details and charts are plain HTML and SVG; the script only adds sorting and opens rows from their names.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.packed import lies_at
from harness.report.board.cells import NONE, columns, recipe, row, tasks, twin_row
from harness.report.board.chart import curves, holders
from harness.report.board.falls import in_all
from harness.report.board.figure import SHOWN, name
from harness.report.board.gather import Leaderboard, slug
from harness.report.board.history import Line, lines
from harness.report.board.sentences import ABOUT_TASKS, HOW_TESTED, about, how_ranked, measures
from harness.report.board.standings import Board, Standing
from harness.report.groups import Group
from harness.report.markup import href
from harness.report.rule import TO_TARGET, rule_of
from harness.report.run_data import RunData
from harness.report.statistics import Sample
from harness.shown import printable

TEMPLATES = Path(__file__).parent / "templates"


def render_page(leaderboard: Leaderboard, out: Path) -> str:
    """The whole page; links are relative to `out`, the folder it is written to."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    by_track = {track: [_board(b, out) for b in leaderboard.boards if b.section == track] for track in leaderboard.tracks}
    rules = [board.rule for board in leaderboard.boards]
    page = environment.get_template("page.html.j2").render(
        leaderboard=leaderboard,
        tracks=by_track,
        columns={c.name: c for rule in rules or [TO_TARGET] for c in columns(rule)},
        measures=measures(leaderboard.boards),
        how_ranked=how_ranked(leaderboard.boards),
        how_tested=HOW_TESTED,
        about_tasks=ABOUT_TASKS,
        unranked=[_unranked(group, out) for group in leaderboard.unranked],
        unsound=[
            {"name": run.folder.as_posix(), "link": href(run.folder, out), "reasons": r} for run, r in leaderboard.unsound
        ],
        ranked_groups=sum(len(board.standings) for board in leaderboard.boards),
    )
    return printable(page)


def _board(board: Board, out: Path) -> dict[str, Any]:
    best = [standing.group for standing in board.standings[:SHOWN]]
    return {
        "id": slug(board),
        "title": board.title,
        "columns": columns(board.rule),
        "seconds": board.rule.column,
        "measure": board.measure,
        "target": board.target,
        "lines": sorted(board.lines.values(), key=lambda line: -line.slice),
        "entries": [_entry(standing, board, out) for standing in board.standings],
        "charts": _charts(best, board),
        "legend": [name(group) for group in best],
        "left_out": len(board.standings) - len(best),
        "tasks": tasks(board),
        "history": [_record(line, board.place_of(line.fall.group), out) for line in lines(board)],
        "in_all": in_all(board),
        "holder_charts": _holder_charts(board),
    }


def _charts(groups: list[Group], board: Board, twin: Group | None = None, twin_timed: bool = False) -> list[Any]:
    """Against tokens, and against seconds unless the board or every group is without them."""
    shown = [curves(groups, board, "tokens", twin)]
    timed = board.timed and not all(group.disturbed for group in groups)
    return [*shown, curves(groups, board, "train_s", twin if twin_timed else None)] if timed else shown


def _holder_charts(board: Board) -> list[Any]:
    """Bits per byte, and seconds where somebody held the record on time."""
    if not board.history:
        return []
    timed = any(tenure.on_time for tenure in board.history)
    return [holders(board, on_time=False), *([holders(board, on_time=True)] if timed else [])]


def _entry(standing: Standing, board: Board, out: Path) -> dict[str, Any]:
    group, twin = standing.group, standing.twin
    beside = twin.group if twin else None
    elsewhere = beside is not None and beside.hardware_class != group.hardware_class
    return {
        "cells": row(standing, board.timed),
        "recipe": recipe(group),
        "label": standing.why_no_claim,
        "holds": board.is_held_by(group),
        "twin": twin_row(twin) if twin else None,
        "twin_note": _twin_note(beside, elsewhere) if twin else None,
        "twin_name": f"{beside.lane}, mean of {beside.n}" if beside else None,
        "charts": _charts([group], board, beside, bool(twin and twin.timed)),
        "sentences": about(standing, board),
        "curve": _curve(group),
        "seeds": [_seed(run, board.timed, out) for run in group.runs],
        "plan": (group.runs[0].folder / "plan.yaml").read_text(),
    }


def _twin_note(group: Group | None, elsewhere: bool) -> str:
    if group is None:
        return "no ranked record yet"
    return f"on {group.hardware_class}: no seconds beside it" if elsewhere else recipe(group)


def _curve(group: Group) -> list[dict[str, str]]:
    """The mean curve as numbers, for readers who cannot use the chart."""
    points = zip(*(run.record.metrics.curve for run in group.runs))
    return [
        {
            "step": f"{at[0]['step']:,}",
            "tokens": f"{at[0]['tokens']:,}",
            "seconds": NONE if group.disturbed else Sample.of([p["train_s"] for p in at]).text("{:,.1f}"),
            "slice": Sample.of([p["slice_bpb"] for p in at]).text("{:.4f}"),
        }
        for at in points
    ]


def _seed(run: RunData, timed: bool, out: Path) -> dict[str, Any]:
    metrics, where = run.record.metrics, run.record.provenance
    timed = timed and not run.disturbed
    seconds = rule_of(run.plan).of_run(run)
    return {
        "seed": run.record.seed,
        "to_target": NONE if seconds is None or not timed else f"{seconds:,.1f}",
        "slice": f"{metrics.slice_bpb:.4f}",
        "val": f"{metrics.val_bpb:.4f}",
        "clean": NONE if metrics.val_bpb_clean is None else f"{metrics.val_bpb_clean:.4f}",
        "rate": f"{metrics.tokens_per_second:,.0f}" if timed else NONE,
        "memory": f"{metrics.peak_memory_bytes / 2**30:.2f}",
        "finished": (where.finished_at or "")[:16].replace("T", " ") or "not stated",
        "commit": where.commit[:7],
        "link": href(run.folder, out),
        "log": lies_at(run.folder / "metrics.jsonl").name,
    }


def _record(line: Line, place: int, out: Path) -> dict[str, Any]:
    group = line.fall.group
    seeds = [{"seed": run.record.seed, "link": href(run.folder, out)} for run in group.runs]
    return {"line": line, "colour": f"c{place}", "recipe": recipe(group), "seeds": seeds}


def _unranked(group: Group, out: Path) -> dict[str, Any]:
    return {
        "track": group.track,
        "hardware_class": group.hardware_class,
        "lane": group.lane,
        "seeds": [{"seed": run.record.seed, "link": href(run.folder, out)} for run in group.runs],
        "slice": group.sample("slice_bpb").text("{:.4f}"),
        "val": group.sample("val_bpb").text("{:.4f}"),
        "why": group.why_unranked,
    }
