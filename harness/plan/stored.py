"""A plan read back from a run folder."""

from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.errors import UserError
from harness.plan.schema import Plan


def read_plan(path: Path) -> Plan:
    """Errors: UserError when the file is missing, damaged, or of another version of the schema."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Plan), OmegaConf.load(path)))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(
            f"cannot read the plan {path}: {error}", "it may be of another version: check out the record's commit"
        ) from error
