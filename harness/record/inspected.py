"""What is read back of inspect.json, which `make inspect` writes: who was looked at, and which experts are for which task."""

from pathlib import Path

from harness import values as v
from harness.reading import read_json

INSPECT_VERSION = 2
INSPECT_FILE = "inspect.json"

Span = tuple[v.Number, v.Number, v.Number]  # a figure and its interval


class InspectedRun(v.Model):
    lane: v.Text
    seed: v.Int
    plan_hash: v.Hex
    content_sha256: v.Hex | None
    weights_sha256: v.Hex


class InspectedModel(v.Model):
    moe_layers: list[v.Whole]
    experts: v.Whole
    top_k: v.Whole


class InspectedTask(v.Model):
    task: v.Name
    instances: v.Count


class Told(v.Model):
    """What a layer's experts tell, in nats, `of` a label: over all tasks together, or of one. Of `task`, and beyond what the
    token's id tells of it, of `task-of-a-token`."""

    of: v.Name
    task: v.Name | None
    layer: v.Whole
    information: v.Number
    control: Span


class ToldOfTask(v.Model):
    """What a layer's experts tell of one task, in nats; `chosen`: how often each was, for tokens of the task."""

    task: v.Name
    layer: v.Whole
    chosen: list[v.Whole]
    information: v.Number
    control: Span
    above: v.Flag  # whether its whole interval is above the control's


class Specialist(v.Model):
    """The task that an expert is chosen for most; `above`: whether more than for the others, with all of the interval."""

    layer: v.Whole
    expert: v.Whole
    task: v.Name
    above: v.Flag


class Silenced(v.Model):
    """Nats more per answer of a task without an expert."""

    task: v.Name
    layer: v.Whole
    expert: v.Whole
    nats: v.Number


class Ablation(v.Model):
    rows: list[Silenced]


class Inspected(v.Model):
    """`routing` and `ablation` are null of a dense run, `task_routing` and `specialists` of one with a single task too."""

    schema_version: v.Count
    run: InspectedRun
    model: InspectedModel
    tasks: list[InspectedTask]
    routing: list[Told] | None
    task_routing: list[ToldOfTask] | None
    specialists: list[Specialist] | None
    ablation: Ablation | None


def read_inspected(path: Path) -> Inspected:
    """Raises: UserError when it cannot be read, or is none that this harness knows."""
    return read_json(path, Inspected, "make inspect RUN=... makes it anew", INSPECT_VERSION)


def named(value: object) -> object:
    """As JSON data, of an object the fields above alone: what a table rests on is a tenth of what there is to look at."""
    if isinstance(value, v.Model):
        return {name: named(getattr(value, name)) for name in type(value).model_fields}
    return [named(each) for each in value] if isinstance(value, list | tuple) else value
