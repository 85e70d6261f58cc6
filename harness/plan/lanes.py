"""Where the lane, track and recipe files are, and their registration with Hydra."""

import re
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.errors import UserError, nearest
from harness.plan.schema import Plan, Track
from harness.reading import yaml_text

ROOT = Path(__file__).resolve().parents[2]
LANES, TRACKS, RECIPES = ROOT / "lanes", ROOT / "lanes" / "tracks", ROOT / "recipes"
MEND = "mend the file or restore it with git checkout"
ANCHORS = LANES / "anchors.yaml"  # published figures, no lane
REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w.]*\}")  # ${another.key}


@cache
def lane_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in LANES.glob("*.yaml") if path != ANCHORS))


def read(path: Path) -> DictConfig:
    """A file that people write. Raises: UserError."""
    text = yaml_text(path, MEND)
    try:
        content = OmegaConf.load(StringIO(text))
    except (YAMLError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is not a YAML mapping: {error}", MEND) from error
    if not isinstance(content, DictConfig):
        raise UserError(f"{path} holds no YAML mapping", MEND)
    refuse_computed(OmegaConf.to_container(content, resolve=False), str(path))
    return content


def refuse_computed(value: Any, where: str) -> None:
    """A plan means the same whenever it is composed: a value may refer to another key, and call nothing (`${now:%S}`).

    Raises:
        UserError: a text in `value`, a tree of YAML, is computed when it is read.
    """
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for part in value:
            refuse_computed(part, where)
    elif isinstance(value, str) and len(REFERENCE.findall(value)) != value.count("${"):
        shown = value if value in where else f"{where}: {value}"
        raise UserError(
            f"{shown} is computed when it is read, so that it may differ from call to call",
            "${key} may name another key of the plan; let the shell compute values",
        )


def lane_file(name: str) -> Path:
    if name not in lane_names():
        raise UserError(f"unknown lane {name!r}", f"{nearest(name, lane_names())}\n  `make lanes` lists them")
    return LANES / f"{name}.yaml"


def read_track(name: str) -> Track:
    """Raises: UserError for a name that no track has."""
    known = track_names()
    if name not in known:
        raise UserError(f"unknown track {name!r}", nearest(name, known))
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Track), read(TRACKS / f"{name}.yaml")))


def track_names() -> list[str]:
    return sorted(path.stem for path in TRACKS.glob("*.yaml"))


def register(names: tuple[str, ...] = ()) -> None:
    """Lane files become Hydra group `lane` (those of `names`, or all, which takes a while to read), track files group `track`,
    the schema the node `plan_schema`. Each is registered once."""
    _register_others()
    for name in names or lane_names():
        _register_lane(name)


@cache
def _register_lane(name: str) -> None:
    ConfigStore.instance().store(group="lane", name=name, node=read(lane_file(name)), package="_global_")


@cache
def _register_others() -> None:
    store = ConfigStore.instance()
    # Hydra copies its sources at each composition, and with them all that is registered: half of the time that a plan took to
    # compose. What is taken out of the store is a copy anyway.
    store.__deepcopy__ = lambda memo: store
    store.store(name="plan_schema", node=Plan)
    for path in TRACKS.glob("*.yaml"):
        store.store(group="track", name=path.stem, node=read(path))
