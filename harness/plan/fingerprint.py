"""Hashes of a plan: `plan_hash` covers everything that can change bits except the seed."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from harness.plan.compose import Composed
from harness.plan.lanes import RECIPES, lane_file
from harness.plan.schema import UNHASHED, Plan


def flat(plan: Plan, keep: Any = lambda key: True) -> dict[str, Any]:
    """{dotted key: value} of every leaf that `keep` accepts, in the schema's order."""
    out: dict[str, Any] = {}

    def visit(node: dict[str, Any], prefix: str) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                visit(value, f"{prefix}{name}.")
            elif keep(prefix + name):
                out[prefix + name] = value

    visit(asdict(plan), "")
    return out


def plan_hash(plan: Plan) -> str:
    """sha256 over the canonical JSON of every key that can change bits."""
    return _sha256(flat(plan, lambda key: key not in UNHASHED))


def stored_plan_hash(stored: dict[str, Any]) -> str:
    """The hash that a plan read from plan.yaml was given, whatever keys the schema has gained since."""
    return _sha256({key: value for key, value in _flatten(stored).items() if key not in UNHASHED})


def _sha256(hashed: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def lane_hash(plan: Plan) -> str:
    return hashlib.sha256(lane_file(plan.lane.name).read_bytes()).hexdigest()


def recipe_hash(composed: Composed) -> str:
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
    return yaml.safe_dump(asdict(plan), sort_keys=False, width=120)


def differences(ours: Plan, theirs: dict[str, Any]) -> list[str]:
    """Readable lines "key: theirs -> ours" for every hashed key that differs from a stored plan (parsed YAML)."""
    mine, other = flat(ours, lambda key: key not in UNHASHED), _flatten(theirs)
    keys = [k for k in sorted(mine.keys() | other.keys()) if k not in UNHASHED]
    absent = "(absent)"
    return [
        f"{k}: {other.get(k, absent)} -> {mine.get(k, absent)}" for k in keys if other.get(k, absent) != mine.get(k, absent)
    ]


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in node.items():
        out |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out
