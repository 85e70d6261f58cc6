"""The columns of a leaderboard, once for Markdown and page: what a cell says and what it sorts by."""

from dataclasses import dataclass

from harness.report.board.standings import Standing, Twin
from harness.report.groups import Group

NONE = "–"
LAUNCH_WORDS = ("lane=", "seed=", "run.", "unranked=", "--multirun", "-m")


@dataclass(frozen=True)
class Column:
    key: str
    name: str
    means: str
    ascending: bool = True  # the order that a first click on its header gives: better first


@dataclass(frozen=True)
class Cell:
    key: str
    text: str
    sort: float | str | None  # None sorts last, whatever the direction


COLUMNS = (
    Column("rank", "#", "rank among the claims of this board"),
    Column("lane", "lane", "lane; below it what the command line turned, and the plan's hash"),
    Column("n", "n", "seeds", False),
    Column(
        "to_target", "to target, s", "training seconds to the target, mean ± sd over seeds; only where every seed reached it"
    ),
    Column("slice", "slice", "bits per byte of the first part of val, which the curve and the target are scored on"),
    Column("val", "all val", "bits per byte of all of val"),
    Column("entropy", "entropy", "worst router entropy of any layer and seed, as a share of ln E", False),
    Column("dead", "dead", "experts without a token over all of val, worst seed"),
    Column("max_load", "max load", "largest share of an expert's load in any layer and seed"),
    Column("rate", "tokens/s", "training tokens (bytes on byte tracks) a second, mean ± sd", False),
    Column("mfu", "MFU", "share of the peak that each run measured before and after training, mean", False),
    Column("memory", "GiB", "peak memory, largest over seeds"),
    Column("date", "date", "when the last seed finished, UTC", False),
    Column("commit", "commit", "of the harness that ran it"),
    Column("arithmetic", "arithmetic", "precision format, native or emulated"),
)


def row(standing: Standing, timed: bool) -> list[Cell]:
    """One cell a column, in order."""
    rank = Cell("rank", str(standing.rank) if standing.rank else NONE, standing.place)
    return [rank, *_figures(standing.group, timed)]


def twin_row(twin: Twin) -> list[Cell]:
    """The same columns for a twin; empty where it has no record, without seconds where they do not compare."""
    if twin.group is None:
        return [Cell(c.key, twin.lane if c.key == "lane" else NONE, None) for c in COLUMNS]
    return [Cell("rank", "", None), *_figures(twin.group, twin.timed)]


def _figures(group: Group, timed: bool) -> list[Cell]:
    health = [run.record.router_health for run in group.runs if run.record.router_health]
    rate, mfu = group.sample("tokens_per_second"), group.sample("mfu").mean
    memory = max(group.sample("peak_memory_bytes").values) / 2**30
    worst = {
        "entropy": (f"{(low := min(h.worst_entropy_ratio for h in health)):.3f}", low) if health else (NONE, None),
        "dead": (str(dead := max(h.dead for h in health)), dead) if health else (NONE, None),
        "max_load": (f"{(most := max(h.max_load_percent for h in health)):.1f}%", most) if health else (NONE, None),
    }
    return [
        Cell("lane", group.lane, group.lane),
        Cell("n", str(group.n), group.n),
        _to_target(group, timed),
        *(Cell(key, (s := group.sample(f"{key}_bpb")).text("{:.4f}"), s.mean) for key in ("slice", "val")),
        *(Cell(key, *worst[key]) for key in worst),
        Cell("rate", rate.text("{:,.0f}"), rate.mean) if timed else Cell("rate", NONE, None),
        Cell("mfu", f"{mfu:.1%}" if mfu < 0.01 else f"{mfu:.0%}", mfu) if timed else Cell("mfu", NONE, None),
        Cell("memory", f"{memory:.2f}", memory),
        Cell("date", group.finished_at[:10] or "not stated", group.finished_at or None),
        Cell("commit", commits(group), commits(group)),
        Cell("arithmetic", group.arithmetic, group.arithmetic),
    ]


def _to_target(group: Group, timed: bool) -> Cell:
    if group.runs[0].target is None:
        return Cell("to_target", NONE, None)
    reached = sum(run.record.metrics.target_reached for run in group.runs)
    if reached < group.n:
        return Cell("to_target", f"{reached} of {group.n} reached it", None)
    seconds = group.to_target()
    if not timed or seconds is None:
        return Cell("to_target", NONE, None)
    return Cell("to_target", seconds.text("{:,.1f}"), seconds.mean)


def recipe(group: Group) -> str:
    """What the command line turned beyond lane and seed, then the plan's hash: two plans of one lane differ in these."""
    turned = [word for word in group.first.provenance.overrides or [] if not word.startswith(LAUNCH_WORDS)]
    return " ".join([*turned, f"plan {group.plan_hash[:8]}"])


def commits(group: Group) -> str:
    first, *more = group.commits
    return first[:7] + (f" +{len(more)}" if more else "")
