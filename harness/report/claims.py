"""A claim: which seeds of one plan on one hardware class were submitted together, and what was spent to find the plan.

    results/<lane>/claim-<plan>-<hardware class>.json

It holds the hash of every record, so that a seed dropped or a record exchanged later is named; the seeds that failed; the
number of tuning trials; and each submission with its date, so that seeds added after a look at the first are seen.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.record.folder import read_identity
from harness.report.groups import Group

CLAIM_VERSION = 1
FIELDS = {
    "schema_version": int, "lane": str, "track": str, "plan_hash": str, "hardware_class": str, "seeds": list, "records": dict,
    "stop_step": int, "tuning_trials": dict, "failed_seeds": dict, "submissions": list, "replaced": list,
}  # fmt: skip


def claim_name(plan_hash: str, hardware_class: str) -> str:
    return f"claim-{plan_hash[:8]}-{hashlib.sha256(hardware_class.encode(errors='surrogatepass')).hexdigest()[:6]}.json"


def record_sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "record.json").read_bytes()).hexdigest()


def read_claim(path: Path) -> dict[str, Any] | str:
    """The claim, or one sentence saying what is wrong with the file."""
    try:
        claim = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        return f"{path} is truncated or corrupt ({error})"
    if not isinstance(claim, dict):
        return f"{path} is corrupt: no JSON object"
    if isinstance(claim.get("schema_version"), int) and claim["schema_version"] > CLAIM_VERSION:
        return f"{path} has schema version {claim['schema_version']}, this harness reads up to {CLAIM_VERSION}"
    wrong = [name for name, kind in FIELDS.items() if not isinstance(claim.get(name), kind)]
    return f"{path} is corrupt: {', '.join(wrong)} missing or of another type" if wrong else claim


def check_claims(root: str | Path) -> list[str]:
    """One sentence for every claim below `root` that its records no longer bear out."""
    return [sentence for path in sorted(Path(root).rglob("claim-*.json")) for sentence in _check(path)]


def _check(path: Path) -> list[str]:
    claim = read_claim(path)
    if isinstance(claim, str):
        return [claim]
    found = []
    for name, stated in claim["records"].items():
        folder = path.parent / name
        if not (folder / "record.json").is_file():
            found.append(f"{path}: seed {_seed(name)} was dropped: {folder} has no record, the claim counts it")
        elif record_sha256(folder) != stated:
            found.append(f"{path}: {folder / 'record.json'} is not the record that was submitted")
    found += [f"{path}: {folder} is a seed of its plan that was never submitted" for folder in _strangers(path.parent, claim)]
    if sorted(claim["seeds"]) != sorted(_seed(name) for name in claim["records"]):
        found.append(f"{path}: it claims seeds {claim['seeds']}, its records are {sorted(claim['records'])}")
    if claim["lane"] != path.parent.name or path.name != claim_name(claim["plan_hash"], claim["hardware_class"]):
        found.append(f"{path}: its name does not fit what it claims ({claim['lane']}, plan {claim['plan_hash'][:8]})")
    return found


def _strangers(lane_folder: Path, claim: Mapping[str, Any]) -> list[Path]:
    """Run folders of the claim's plan and hardware class that it does not count."""
    strangers = []
    for identity in sorted(lane_folder.glob("*/identity.json")):
        who = read_identity(identity.parent) or {}
        same = all(who.get(key) == claim[key] for key in ("plan_hash", "hardware_class"))
        if same and identity.parent.name not in claim["records"]:
            strangers.append(identity.parent)
    return strangers


def _seed(folder_name: str) -> int:
    seed = folder_name.partition("-")[0]
    return int(seed) if seed.isdecimal() else -1


def find_claim(group: Group) -> dict[str, Any] | None:
    """The claim that a group's runs were submitted under, beside them; None where there is none or it cannot be read."""
    claim = read_claim(group.runs[0].folder.parent / claim_name(group.plan_hash, group.hardware_class))
    return None if isinstance(claim, str) else claim


def trials(claim: Mapping[str, Any] | None) -> int | None:
    """Plans tried before this one: what was found beside the runs or declared, whichever is more; None when never stated."""
    if claim is None or claim["tuning_trials"].get("declared") is None:
        return None
    return max(claim["tuning_trials"]["found"], claim["tuning_trials"]["declared"])
