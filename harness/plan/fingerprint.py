"""Hashes of a plan: `plan_hash` covers everything that can change bits except the seed."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.plan.lanes import RECIPES, lane_file
from harness.plan.schema import LATER, UNHASHED, Plan

if TYPE_CHECKING:  # whoever reads records needs hashes, and nothing of composing
    from harness.plan.compose import Composed

OF_THE_BUDGET = ("budget.tokens", "validation.steps", "validation.tokens")


def flat(plan: Plan) -> dict[str, Any]:
    """{dotted key: value} of every leaf, in the schema's order."""
    return flattened(asdict(plan))


def plan_hash(plan: Plan) -> str:
    """sha256 over the canonical JSON of every key that can change bits."""
    return _sha256(_hashed(flat(plan)))


def stored_plan_hash(stored: dict[str, Any]) -> str:
    """The hash that a plan read from plan.yaml was given, whatever keys the schema has gained since."""
    return _sha256(_hashed(flattened(stored)))


def base_hash(stored: dict[str, Any]) -> str:
    """The hash of a plan, as nested data, at any budget and however much of val it is scored on: what a search's trial, its
    rungs and its confirmation have in common."""
    values = flattened(stored)
    return _sha256(_hashed({key: value for key, value in values.items() if key not in OF_THE_BUDGET}))


def _hashed(values: dict[str, Any]) -> dict[str, Any]:
    """The keys that can change bits; one that joined later only where it is not at the default that old plans stood for."""
    return {k: v for k, v in values.items() if k not in UNHASHED and not (k in LATER and v == LATER[k])}


def _sha256(hashed: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def lane_hash(plan: Plan) -> str:
    return hashlib.sha256(lane_file(plan.lane.name).read_bytes()).hexdigest()


def recipe_hash(composed: "Composed") -> str:
    """Over the chosen recipe files and the command line."""
    digest = hashlib.sha256()
    for group, choice in sorted(composed.choices.items()):
        path: Path = RECIPES / group / f"{choice}.yaml"
        digest.update(f"{group}/{choice}\n".encode())
        digest.update(path.read_bytes() if path.exists() else b"")
    for word in sorted(composed.overrides):
        if not _is_unhashed(word):
            digest.update(f"{word}\n".encode())
    return digest.hexdigest()


def _is_unhashed(word: str) -> bool:
    return word.lstrip("+~").partition("=")[0] in UNHASHED


def to_yaml(plan: Plan) -> str:
    having = {name: value for name, value in asdict(plan).items() if value != {}}  # kinds whose parts have no keys
    return yaml.safe_dump(having, sort_keys=False, width=120)


def differences(ours: Plan, theirs: dict[str, Any]) -> list[str]:
    """Readable lines "key: theirs -> ours" for every hashed key that differs from a stored plan (parsed YAML)."""
    mine, other = _hashed(flat(ours)), _hashed(flattened(theirs))
    keys = sorted(mine.keys() | other.keys())
    absent = "(absent)"
    return [
        f"{k}: {other.get(k, absent)} -> {mine.get(k, absent)}" for k in keys if other.get(k, absent) != mine.get(k, absent)
    ]


def flattened(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value} of nested mappings."""
    out: dict[str, Any] = {}
    for name, value in node.items():
        out |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out
