"""The tables of `inspect`. What is not above its control is not called anything else."""

from collections.abc import Iterator, Sequence
from typing import Any

from harness.report.aligned import aligned
from harness.shown import one_line

ABOVE, NOT = "above its control", "not told apart from its control"
MOST = 12  # rows of a table that lists the largest


def as_text(found: dict[str, Any]) -> str:
    """`found` as `inspected` makes it, with `run` and `against` beside."""
    parts = [_head(found), _lens(found), _probes(found), _cka(found), _looks(found), _routing(found)]
    parts += [_tasks(found)] if found["task_routing"] else []
    parts.append(_ablation(found))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def name_of(run: dict[str, Any]) -> str:
    return one_line(f"{run['lane']}, seed {run['seed']}, plan {run['plan_hash'][:8]}")


def _head(found: dict[str, Any]) -> Iterator[str]:
    against = found["against"]
    yield f"inside {name_of(found['run'])}" + (f", against {name_of(against)}" if against else "")
    yield from aligned(
        ("task", "instances", "tokens", "answers", "with one source", "states"),
        ((row["task"], *(f"{row[key]:,}" for key in ("instances", "tokens", "answers", "sourced")), str(len(row["states"])))
         for row in found["tasks"]),
    )  # fmt: skip
    yield "intervals are over instances; those of one table hold together at 95%. Depth 0 is the embedding, depth l the stream"
    yield "after l blocks; layers are counted from 0."


def _lens(found: dict[str, Any]) -> Iterator[str]:
    yield "Each depth through the head: nats of an answer, and in parentheses the median rank of the true one"
    depths = range(found["model"]["layers"] + 1)
    cells = {(row["task"], row["depth"]): f"{row['nats']:.3f} ({row['median_rank']:g})" for row in found["lens"]}
    rows = ((row["task"], *(cells[row["task"], depth] for depth in depths)) for row in found["tasks"] if row["answers"])
    yield from aligned(("task", *map(str, depths)), rows)


def _probes(found: dict[str, Any]) -> Iterator[str]:
    yield "Linear probes for the latent state: accuracy on instances that the probe was not fitted to"
    if not found["probes"]:
        yield "  none: no task of this run has latent states that can be told apart"
        return
    rows = (
        (
            row["task"], str(row["depth"]), _share(row["accuracy"], row["interval"]),
            *(f"{row[name][0]:.2f}" for name in ("untrained", "shuffled", "token", "control")),
            f"{row['selectivity']:+.2f}", _verdict(row),
        )
        for row in found["probes"]
    )  # fmt: skip
    yield from aligned(
        ("task", "depth", "probe", "untrained", "shuffled", "token", "control task", "selectivity", " "), rows, last_left=True
    )
    yield "  untrained: the same probe on first weights; shuffled: labels shuffled; token: the token's id alone; these three"
    yield "  are its control. Control task: a random label for each id, which says how well such a probe learns by heart;"
    yield "  selectivity is the probe less that."


def _cka(found: dict[str, Any]) -> Iterator[str]:
    yield f"Linear CKA, debiased, of {found['cka']['tokens']:,} tokens: depths of this run by depths"
    depths = range(found["model"]["layers"] + 1)
    for title, matrix in (("of this run", found["cka"]["own"]), ("of the other run", found["cka"]["against"])):
        if matrix is not None:
            rows = ((str(depth), *map(_number, row)) for depth, row in zip(depths, matrix))
            yield from aligned((title, *map(str, range(len(matrix[0])))), rows)


def _looks(found: dict[str, Any]) -> Iterator[str]:
    yield "Attention from the token before an answer to the token that decides it, the head of each layer that gives most"
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for row in found["looks"]:
        key = (row["task"], row["layer"])
        if key not in best or row["weight"] > best[key]["weight"]:
            best[key] = row
    rows = (
        (row["task"], str(row["layer"]), str(row["head"]), _share(row["weight"], row["interval"]), f"{row['chance']:.3f}",
         _verdict(row))
        for row in best.values()
    )  # fmt: skip
    if best:
        yield from aligned(("task", "layer", "head", "weight", "chance", " "), rows, last_left=True)
        yield "  chance: every token that is seen gets the same; it is the control."
    elif not any(row["sourced"] for row in found["tasks"]):
        yield "  none: no answer of these tasks is decided by a single earlier token"
    for row in found["no_weights_to_read"]:
        yield f"  layer {row['layer']}: {one_line(row['attention'])} has no weights to read"


def _routing(found: dict[str, Any]) -> Iterator[str]:
    yield "Routing: what a chosen expert tells of the token, in nats"
    if found["routing"] is None:
        yield f"  none: {found['why_no_routing']}"
        return
    rows = (
        (row["task"] or "all tasks", row["of"], str(row["layer"]), _span(row["information"], row["interval"]),
         _span(row["control"][0], row["control"][1:]), f"{row['beyond']:+.3f}", f"{row['most']:.3f}", _verdict(row))
        for row in sorted(found["routing"], key=lambda row: (row["task"] or "", row["of"]))
    )  # fmt: skip
    yield from aligned(("of", "label", "layer", "told", "control", "beyond", "entropy", " "), rows, last_left=True)
    yield "  control: labels of other instances, in their order; entropy: of the label, the most that could be told."
    if any(row["of"] == "task-of-a-token" for row in found["routing"]):
        yield "  task-of-a-token: what is told of the task beyond what the token's id tells of it."
    yield ""
    yield "Which expert for which state: the share of a state's tokens that it is chosen for, and of the other states' tokens"
    if not found["choices"]:
        yield "  none is told apart"
        return
    rows = ((row["task"], str(row["layer"]), str(row["expert"]), _state(found, row), _share(row["share"][0], row["share"][1:]),
             _share(row["others"][0], row["others"][1:])) for row in found["choices"])  # fmt: skip
    yield from aligned(("task", "layer", "expert", "state", "this state", "other states"), rows)


def _tasks(found: dict[str, Any]) -> Iterator[str]:
    yield "Experts and tasks: what the experts of a layer tell of each task, in nats"
    rows = (
        (row["task"], str(row["layer"]), _span(row["information"], row["interval"]),
         _span(row["control"][0], row["control"][1:]), f"{row['beyond']:+.3f}", _verdict(row))
        for row in sorted(found["task_routing"], key=lambda row: row["task"])
    )  # fmt: skip
    yield from aligned(("task", "layer", "told", "control", "beyond", " "), rows, last_left=True)
    yield "  told: the KL of the experts that its tokens get from those that all tokens get; control: tasks of other instances."
    above, experts = [row for row in found["specialists"] if row["above"]], len(found["specialists"])
    yield ""
    yield f"Experts chosen for the tokens of one task more than for those of the others: {len(above)} of {experts}"
    for task in dict.fromkeys(row["task"] for row in above):
        named = ", ".join(f"{row['layer']}.{row['expert']}" for row in above if row["task"] == task)
        yield f"  {one_line(task)}: {named} (layer.expert)"


def _ablation(found: dict[str, Any]) -> Iterator[str]:
    yield "Experts silenced, one at a time (what it says counts as zero, the router chooses as before): nats more per answer"
    if found["ablation"] is None:
        yield f"  none: {found['why_no_routing']}"
        return
    rows = sorted(found["ablation"]["rows"], key=lambda row: (not row["above"], -row["nats"]))
    cells = (
        (row["task"], str(row["layer"]), str(row["expert"]), _span(row["nats"], row["interval"]),
         _span(row["control"][0], row["control"][1:]), _verdict(row))
        for row in rows[:MOST]
    )  # fmt: skip
    yield from aligned(("task", "layer", "expert", "nats more", "control", " "), cells, last_left=True)
    above = sum(row["above"] for row in rows)
    yield f"  {above} of {len(rows)} are above their control, the other experts of the layer; of all, which the file has, the"
    yield f"  largest {min(MOST, len(rows))} are shown."
    if found["ablation"]["left_out"]:
        yield f"  silenced were {found['ablation']['left_out']}"


def _state(found: dict[str, Any], row: dict[str, Any]) -> str:
    return next(task["states"] for task in found["tasks"] if task["task"] == row["task"])[row["state"]]


def _verdict(row: dict[str, Any]) -> str:
    return ABOVE if row["above"] else NOT


def _share(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def _span(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
