"""The columns of a leaderboard, once for Markdown and page: what a cell says and what it sorts by."""

from dataclasses import dataclass, replace

from harness.report.board.standings import Board, Standing, Twin
from harness.report.columns import CLOCKED, figures, millions
from harness.report.groups import Group
from harness.report.rule import TO_TARGET, Rule
from harness.report.task_scores import of_groups, scored

NONE = "–"
LAUNCH_WORDS = ("lane=", "seed=", "run.", "unranked=", "--multirun", "-m")


@dataclass(frozen=True)
class Column:
    key: str
    name: str
    means: str  # MEASURE stands for what val of the board's track is scored in
    ascending: bool = True  # the order that a first click on its header gives: better first


@dataclass(frozen=True)
class Cell:
    key: str
    text: str
    sort: float | str | None  # None sorts last, whatever the direction


ALL = (
    Column("rank", "#", "rank among the claims of this board"),
    Column("lane", "lane", "lane; below it what the command line turned, and the plan's hash"),
    Column("n", "n", "seeds", False),
    Column("to_target", "", ""),  # as the board's rule has it
    Column("slice", "slice", "MEASURE of the first part of val, which the curve and the target are scored on"),
    Column("val", "all val", "MEASURE of all of val"),
    Column("entropy", "entropy", "worst router entropy of any layer and seed, as a share of ln E", False),
    Column("dead", "dead", "experts without a token over all of val, worst seed"),
    Column("max_load", "max load", "largest share of an expert's load in any layer and seed"),
    Column("rate", "tokens/s", "training tokens (bytes on byte tracks) a second, mean ± sd", False),
    Column("mfu", "MFU", "share of the peak that each run measured before and after training, mean", False),
    Column("parameters", "parameters", "of the whole model"),
    Column("active", "active", "parameters that a token meets"),
    Column("memory", "GiB", "peak memory, largest over seeds"),
    Column("date", "date", "when the last seed finished, UTC", False),
    Column("commit", "commit", "of the harness that ran it"),
    Column("arithmetic", "arithmetic", "precision format, native or emulated"),
)


OF_SOME = frozenset({"parameters", "active"})  # columns of those boards whose rule names them


def columns(rule: Rule) -> list[Column]:
    """Those of a board, in order."""
    there = [column for column in ALL if column.key not in OF_SOME - rule.beside]
    return [replace(c, name=rule.column, means=rule.means) if c.key == "to_target" else c for c in there]


def row(standing: Standing, timed: bool) -> list[Cell]:
    """One cell a column of the board, in order."""
    rank = Cell("rank", str(standing.rank) if standing.rank else NONE, standing.place)
    return [rank, *_figures(standing.group, timed)]


def twin_row(twin: Twin) -> list[Cell]:
    """The same columns for a twin; empty where it has no record, without seconds where they do not compare. Open lanes name
    none."""
    if twin.group is None:
        return [Cell(c.key, twin.lane if c.key == "lane" else NONE, None) for c in columns(TO_TARGET)]
    return [Cell("rank", "", None), *_figures(twin.group, twin.timed)]


def _figures(group: Group, timed: bool) -> list[Cell]:
    timed = timed and not group.disturbed
    memory, found = max(group.sample("peak_memory_bytes").values) / 2**30, figures(group, NONE)
    sizes = {"parameters": group.first.counts.params_total, "active": group.first.counts.params_active}
    cells = {key: Cell(key, *found[key]) if timed or key not in CLOCKED else Cell(key, NONE, None) for key in found}
    if not timed and found["to_target"].value is None:  # how many reached it is no time
        cells["to_target"] = Cell("to_target", *found["to_target"])
    elif group.disturbed:
        cells["to_target"] = Cell("to_target", "disturbed", None)
    cells |= {
        "lane": Cell("lane", group.lane, group.lane),
        "n": Cell("n", str(group.n), group.n),
        **{key: Cell(key, millions(count), count) for key, count in sizes.items()},
        "memory": Cell("memory", f"{memory:.2f}", memory),
        "date": Cell("date", group.finished_at[:10] or "not stated", group.finished_at or None),
        "commit": Cell("commit", commits(group), commits(group)),
        "arithmetic": Cell("arithmetic", group.arithmetic, group.arithmetic),
    }
    return [cells[column.key] for column in columns(group.rule)[1:]]


def recipe(group: Group) -> str:
    """What the command line turned beyond lane and seed, then the plan's hash: two plans of one lane differ in these."""
    turned = [word for word in group.first.provenance.overrides or [] if not word.startswith(LAUNCH_WORDS)]
    return " ".join([*turned, f"plan {group.plan_hash[:8]}"])


def tasks(board: Board) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of what each group's runs know of the track's tasks; nothing on a track without."""
    return of_groups(
        (f"{group.lane}, {recipe(group)}", [one for run in group.runs if (one := scored(run.record.evaluations))])
        for group in (standing.group for standing in board.standings)
    )


def commits(group: Group) -> str:
    first, *more = group.commits
    return first[:7] + (f" +{len(more)}" if more else "")
