"""A plan read back from plan.yaml: of this version of the schema, or of an older one that had fewer keys.

Whoever wrote it, nothing in it is computed, and `words_of` says it in keys of the schema alone.

`read_stored_plan` gives the mapping as it was written, every key of it that this schema knows held against its type;
`settings` the same by dotted key, with the schema's default where the file has none; `read_plan` a `Plan`, where the file has
the keys of this very schema.
"""

import dataclasses
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, get_args, get_origin

import omegaconf
from pydantic import Field, create_model, model_validator

from harness import values
from harness.errors import UserError
from harness.plan.fingerprint import flat, flattened
from harness.plan.lanes import refuse_computed
from harness.plan.schema import RENAMED, Batch, Model, Plan, walk
from harness.plan.steps import Steps, steps_of
from harness.plan.words import word
from harness.reading import validate, yaml_mapping
from harness.values import Count, Filled, Finite, Flag, Int, Name, Share, Text, Whole, broken

KINDS: dict[Any, Any] = {int: Int, float: Finite, str: Text, bool: Flag}
NEEDED: dict[str, Any] = {  # what every plan has had, and with which values
    "lane.name": Name, "lane.twin": Name | None,
    "track.name": Name, "track.train_bytes": Whole, "track.train_sha256": Text, "track.val_bytes": Whole,
    "track.val_sha256": Text, "track.slice_bytes": Whole, "track.lines": None, "track.target": Text,
    "model.layers": Annotated[Count, Field(le=10_000)], "model.vocab_size": Count, "model.top_k": Whole,
    "model.num_experts": Annotated[Whole, Field(le=1_000_000)], "model.leading_dense_layers": Whole,
    "batch.tokens_per_step": Count, "budget.tokens": Count, "validation.steps": list[Count],
    "run.folder": Filled, "seed": Int, "unranked": Flag,
}  # fmt: skip
NOT_SAID = ("lane.", "track.", "run.", "fork")  # what the lane's name says, and where a run writes and starts
NARROWER = {
    "batch.stages": list[Count], "batch.stage_shares": list[Share], "model.moe_every": Count, "health.window_steps": Count,
    "run.log_every_steps": Count,
}  # fmt: skip
BATCH = {f.name for f in dataclasses.fields(Batch)}


class _Stored(values.Model):
    """What holds between the keys. A key with a dot in it would pass for another one where plans are compared key by key."""

    @model_validator(mode="before")
    @classmethod
    def _has_no_dotted_key(cls, content: Any) -> Any:
        sections = [content, *content.values()] if isinstance(content, dict) else []
        for key in (key for section in sections if isinstance(section, dict) for key in section):
            if "." in key:
                raise broken(f"the key {key!r} has a dot in it")
        return content

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        model, track, milestones = self.model, self.track, self.track.milestones or {}
        if model.num_experts and not 1 <= model.top_k <= model.num_experts:
            raise broken(f"model.top_k is {model.top_k} of {model.num_experts} experts")
        self._has_steps()
        if track.target and track.target not in (*track.lines, *milestones):
            raise broken(f"track.target is {track.target!r}, which is no line or milestone of it")
        return self

    def _has_steps(self) -> None:
        batch, budget = Batch(**self.batch.model_dump(include=BATCH, exclude_unset=True)), self.budget.tokens
        if batch.stage_shares and len(batch.stage_shares) != len(batch.stages):
            raise broken(f"batch.stage_shares has {len(batch.stage_shares)} shares of {len(batch.stages)} stages")
        for stage in steps_of(batch, budget).stages:
            if not stage.count:
                what = "a step of a stage" if batch.stages else "one step"
                raise broken(f"budget.tokens is {budget}, {what} has {stage.tokens}")


@cache
def stored_model() -> type[values.Model]:
    """The schema as a model of plan.yaml."""
    return _model_of(Plan, _Stored, "")


def _model_of(cls: type, base: type[values.Model], prefix: str) -> type[values.Model]:
    made: dict[str, Any] = {}
    for f in dataclasses.fields(cls):
        key = prefix + f.name
        needed = any(name == key or name.startswith(f"{key}.") for name in NEEDED)
        made[f.name] = (NEEDED.get(key) or NARROWER.get(key) or _kind(f.type, key), ... if needed else values.absent())
    return create_model(f"Stored{cls.__name__}", __base__=base, **made)


def _kind(declared: Any, key: str) -> Any:
    """The type that a key of the schema has in a file."""
    if is_dataclass(declared):
        return _model_of(declared, values.Model, f"{key}.")
    if get_origin(declared) is list:
        return list[_item(get_args(declared)[0])]
    if get_origin(declared) is dict:
        return dict[str, _item(get_args(declared)[1])]
    if isinstance(declared, UnionType):
        return KINDS[get_args(declared)[0]] | None
    return KINDS[declared]


def _item(declared: Any) -> Any:
    """The type of an item of a list or a mapping; here a field without a default is needed."""
    if not is_dataclass(declared):
        return KINDS[declared]
    made = {
        f.name: (KINDS[f.type], ... if f.default == omegaconf.MISSING else values.absent())
        for f in dataclasses.fields(declared)
    }
    return create_model(f"Stored{declared.__name__}", __base__=values.Model, **made)


def read_stored_plan(path: Path, remedy: str | None = None) -> dict[str, Any]:
    """Raises: UserError."""
    stored = yaml_mapping(path, remedy)
    validate(stored, stored_model(), path, remedy)
    return stored


def settings(stored: dict[str, Any]) -> dict[str, Any]:
    """{dotted key: value} of a stored plan, the schema's default where it is older than a key."""
    return _defaults() | flattened(_as_named_now(stored))


@cache
def _defaults() -> dict[str, Any]:
    unset = dataclasses.MISSING
    return {
        key: field.default if field.default is not unset else field.default_factory()
        for key, field in walk()
        if field.default is not unset or field.default_factory is not unset
    }


def section(stored: dict[str, Any], name: str) -> Any:
    """A section of a stored plan that has no key without a default, such as `data`: the dataclass of the schema."""
    return _filled({f.name: f.type for f in dataclasses.fields(Plan)}[name], settings(stored), f"{name}.")


def _filled(cls: Any, known: dict[str, Any], prefix: str) -> Any:
    made = {
        f.name: _filled(f.type, known, f"{prefix}{f.name}.") if is_dataclass(f.type) else known[prefix + f.name]
        for f in dataclasses.fields(cls)
    }
    return cls(**made)


def read_plan(path: Path) -> Plan:
    """Raises: UserError when the file is missing, damaged, or of another version of the schema."""
    return _typed(read_stored_plan(path), str(path))


def words_of(stored: dict[str, Any], where: str, seed: int | None = None) -> list[str]:
    """The words that compose to a stored plan, with another `seed` if given: its lane and all of its keys.

    They are made from typed values, so that they name keys of the schema and nothing else. The track is the lane's, or in an
    unranked plan the file of the same name. Keys that the schema has gained since are not among them: the words mean the same
    at the commit that stored the plan.

    Raises:
        UserError: the plan, which lies at `where`, has a key that the schema has not, or a text that Hydra would compute.
    """
    refuse_computed(stored, where)
    plan = _typed(stored, where)
    known = flattened(stored).keys()
    said = {key: value for key, value in flat(plan).items() if key in known and not key.startswith(NOT_SAID)}
    if seed is not None:
        said["seed"] = seed
    track = [word("track", plan.track.name)] if plan.unranked else []
    return [word("lane", plan.lane.name), *track, *(word(key, value) for key, value in said.items())]


def _as_named_now(stored: dict[str, Any]) -> dict[str, Any]:
    for old, new in RENAMED.items():
        (section, was), (_, name) = old.split("."), new.split(".")
        if was in (held := stored.get(section) or {}):
            stored = stored | {section: {name if key == was else key: value for key, value in held.items()}}
    return stored


def _typed(stored: dict[str, Any], where: str) -> Plan:
    try:
        return _built(Plan, _as_named_now(stored), "")
    except ValueError as error:
        raise UserError(
            f"cannot read the plan {where}: {error}", "it may be of another version: check out the record's commit"
        ) from error


def _built(cls: Any, stored: dict[str, Any], prefix: str) -> Any:
    """Raises: ValueError for a key that the schema has not, or one without a default that is not there."""
    declared = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(stored.keys() - declared.keys()):
        raise ValueError(f"it has the unknown key {prefix}{unknown[0]}")
    for name, f in declared.items():
        if f.default == omegaconf.MISSING and name not in stored:
            raise ValueError(f"it has no {prefix}{name}")
    made = {}
    for name, value in stored.items():
        kind, key = declared[name].type, f"{prefix}{name}."
        if is_dataclass(kind):
            value = _built(kind, value, key)
        elif get_origin(kind) is dict:
            value = {i: _built(get_args(kind)[1], item, f"{key}{i}.") for i, item in value.items()}
        elif get_origin(kind) is list and is_dataclass(item_kind := get_args(kind)[0]):
            value = [_built(item_kind, item, f"{key}{i}.") for i, item in enumerate(value)]
        made[name] = float(value) if kind is float else value
    return cls(**made)


def stored_moe_layers(plan: dict[str, Any]) -> list[int]:
    """`Model.moe_layers` of a plan as parsed YAML, of this version of the schema or an older one."""
    known = {f.name for f in dataclasses.fields(Model)}
    return Model(**{key: value for key, value in plan["model"].items() if key in known}).moe_layers


def stored_steps(plan: dict[str, Any]) -> Steps:
    """`Plan.by_step` of a plan as parsed YAML, of this version of the schema or an older one."""
    batch = Batch(**{key: value for key, value in plan["batch"].items() if key in BATCH})
    return steps_of(batch, plan["budget"]["tokens"])
