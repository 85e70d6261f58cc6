"""A plan read back from a run folder."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.errors import UserError
from harness.plan.schema import Model, Plan


def read_plan(path: Path) -> Plan:
    """Errors: UserError when the file is missing, damaged, or of another version of the schema."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Plan), OmegaConf.load(path)))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(
            f"cannot read the plan {path}: {error}", "it may be of another version: check out the record's commit"
        ) from error


def stored_moe_layers(plan: dict[str, Any]) -> list[int]:
    """`Model.moe_layers` of a plan as parsed YAML, of this version of the schema or an older one."""
    known = {f.name for f in fields(Model)}
    return Model(**{key: value for key, value in plan["model"].items() if key in known}).moe_layers
