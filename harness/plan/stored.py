"""A plan read back from a run folder, whoever wrote it: nothing in it is computed, and only keys of the schema come out."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError
from harness.plan.fingerprint import flat, flatten
from harness.plan.lanes import refuse_computed
from harness.plan.schema import Model, Plan
from harness.plan.words import word

NOT_SAID = ("lane.", "track.", "run.", "fork")  # what the lane's name says, and where a run writes and starts


def read_plan(path: Path) -> Plan:
    """Raises UserError when the file is missing, damaged, or of another version of the schema."""
    try:
        stored = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"cannot read the plan {path}: {error}", "restore it") from error
    return typed(stored, str(path))


def typed(stored: Any, where: str) -> Plan:
    """A plan of parsed YAML. Raises UserError, naming `where`, when it is none of this version of the schema."""
    if not isinstance(stored, dict):
        raise UserError(f"cannot read the plan {where}: it holds no YAML mapping", "restore it")
    refuse_computed(stored, where)
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Plan), OmegaConf.create(stored)))
    except OmegaConfBaseException as error:
        raise UserError(
            f"cannot read the plan {where}: {error}", "it may be of another version: check out the record's commit"
        ) from error


def words_of(stored: dict[str, Any], where: str, seed: int | None = None) -> list[str]:
    """The words that compose to a stored plan (parsed YAML), with another `seed` if given: its lane and all of its keys.

    They are made from typed values, so that they name keys of the schema and nothing else. The track is the lane's, or in an
    unranked plan the file of the same name. Keys that the schema has gained since are not among them: the words mean the same
    at the commit that stored the plan. Raises UserError as `typed` does.
    """
    plan = typed(stored, where)
    known = flatten(stored).keys()
    values = {key: value for key, value in flat(plan).items() if key in known and not key.startswith(NOT_SAID)}
    if seed is not None:
        values["seed"] = seed
    track = [word("track", plan.track.name)] if plan.unranked else []
    return [word("lane", plan.lane.name), *track, *(word(key, value) for key, value in values.items())]


def stored_moe_layers(plan: dict[str, Any]) -> list[int]:
    """`Model.moe_layers` of a plan as parsed YAML, of this version of the schema or an older one."""
    known = {f.name for f in fields(Model)}
    return Model(**{key: value for key, value in plan["model"].items() if key in known}).moe_layers
