"""Tracks of tasks: what their val is made of, and what a plan that names tasks must satisfy. What a task asks of a plan itself,
rows that its hardest instances fit into and a vocabulary, is the `check` of its own file in parts/task."""

from collections.abc import Mapping
from typing import Any

from harness.errors import UserError
from harness.plan import parts
from harness.plan.fingerprint import flat
from harness.plan.schema import LATER, Plan
from harness.plan.track import TASKS


def made_of(settings: Mapping[str, Any]) -> str:
    """In words, all that val depends on besides the generators themselves: tasks, the length of a row, and every difficulty
    that is not the usual one. `settings`: a plan by dotted keys."""
    names = sorted(settings["data.tasks"])
    own = [key for key in LATER if key.startswith(tuple(f"task.{name}." for name in names))]
    changed = [f"{key}={settings[key]}" for key in sorted(own) if settings[key] != LATER[key]]
    return ", ".join([f"{' '.join(names)} in rows of {settings.get('model.sequence_length')}", *changed])


def made_anew(settings: Mapping[str, Any]) -> bool:
    """Whether a plan's val is another one than that whose hash and size its track states: it was made of something else."""
    return settings["track.tokens.format"] == TASKS and made_of(settings) != settings["track.tokens.made_of"]


def check_tasks(plan: Plan) -> None:
    """Raises: UserError."""
    data, track = plan.data, plan.track
    if (track.tokens.tokenizer == TASKS) != track.of_tasks:
        raise UserError(
            f"track.tokens.tokenizer={track.tokens.tokenizer!r} with track.tokens.format={track.tokens.format!r}",
            f"a track of tasks has {TASKS!r} as both",
        )
    if not track.of_tasks:
        for key, value in (("data.tasks", data.tasks), ("data.task_shares", data.task_shares)):
            if value:
                raise UserError(
                    f"{key}={_listed(value)} on track {track.name}, which is not made of tasks",
                    f"use a lane of a track of tasks (lane=physics-dense), or drop {key}",
                )
        return
    if not data.tasks:
        raise UserError(
            f"data.tasks=[] on track {track.name}, which is made of tasks",
            f"name some of {', '.join(parts.names('task'))}: data.tasks=[copy]",
        )
    for name in data.tasks:
        if data.tasks.count(name) > 1:
            once = _listed(list(dict.fromkeys(data.tasks)))
            raise UserError(f"data.tasks names {name} twice", f"name it once: data.tasks={once}")
    _check_shares(data.tasks, data.task_shares)


def _check_shares(tasks: list[str], shares: list[float]) -> None:
    if not shares:
        return
    if len(shares) != len(tasks):
        raise UserError(
            f"data.task_shares={_listed(shares)} has {len(shares)} shares for the {len(tasks)} tasks of "
            f"data.tasks={_listed(tasks)}",
            f"give {len(tasks)}, one a task, or none: then all tasks have as many scored tokens",
        )
    if not sum(shares) > 0:
        raise UserError(
            f"data.task_shares={_listed(shares)}: a task mix that sums to nothing", "give one task or more a share above 0"
        )


def rows_of_val(tokens: int, sequence_length: int) -> int:
    """How many rows a val of so many tokens has: the last token is a target alone."""
    return max(1, (tokens - 1) // sequence_length)


def val_length(plan: Plan) -> int | None:
    """How much val holds of any track, in its unit: whole rows of tasks. None where only the files know."""
    track, length = plan.track, plan.model.sequence_length
    if track.of_tasks:
        return rows_of_val(track.tokens.val_tokens, length) * length + 1
    if plan.data.shards:
        return None
    return (track.tokens.val_tokens if track.tokens.tokenizer else track.val_bytes) or None


def made_by(plan: Plan) -> str:
    """`made_of` of a plan."""
    return made_of(flat(plan))


def _listed(values: list[Any]) -> str:
    """A list as the command line takes it."""
    return f"[{','.join(map(str, values))}]"
