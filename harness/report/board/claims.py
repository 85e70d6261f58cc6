"""A claim: which seeds of one plan on one hardware class were submitted together, and what was spent to find the plan.

    results/<lane>/claim-<plan>-<hardware class>.json

It holds the hash of every record, so that a seed dropped or a record exchanged later is named; the seeds that failed; the
number of tuning trials; and each submission with its date, so that seeds added after a look at the first are seen.
"""

import hashlib
from pathlib import Path

from harness.errors import UserError
from harness.reading import file_hash, is_there, read_bytes
from harness.record.ledger import LEDGER, has_ledger, read_ledger_file
from harness.record.read import read_claim, read_identity
from harness.record.results import Claim
from harness.report.groups import Group


def claim_name(plan_hash: str, hardware_class: str) -> str:
    return f"claim-{plan_hash[:8]}-{hashlib.sha256(hardware_class.encode(errors='surrogatepass')).hexdigest()[:6]}.json"


def record_sha256(folder: Path) -> str:
    return hashlib.sha256(read_bytes(folder / "record.json")).hexdigest()


def check_claims(root: str | Path) -> list[str]:
    """One sentence for every claim below `root` that its records no longer bear out."""
    return [sentence for path in sorted(Path(root).rglob("claim-*.json")) for sentence in _check(path)]


def _check(path: Path) -> list[str]:
    try:
        claim = read_claim(path)
        found = [sentence for name, stated in claim.records.items() for sentence in _check_record(path, name, stated)]
        strangers = _strangers(path.parent, claim)
    except UserError as error:
        return [error.problem]
    found += [f"{path}: {folder} is a seed of its plan that was never submitted" for folder in strangers]
    if sorted(claim.seeds) != sorted(_seed(name) for name in claim.records):
        found.append(f"{path}: it claims seeds {claim.seeds}, its records are {sorted(claim.records)}")
    if claim.lane != path.parent.name or path.name != claim_name(claim.plan_hash, claim.hardware_class):
        found.append(f"{path}: its name does not fit what it claims ({claim.lane}, plan {claim.plan_hash[:8]})")
    return found + _check_search(path, claim)


def _check_search(path: Path, claim: Claim) -> list[str]:
    """Against the ledger in results/searches/NAME, where the search is published: it, or one that a confirmation kept."""
    folder = path.parent.parent / "searches" / claim.search.name if claim.search else None
    if folder is None or not has_ledger(folder):
        return []
    ledgers = {file_hash(ledger): ledger for ledger in [*folder.glob("confirmations/*.ledger.json*"), folder / LEDGER]}
    if (ledger := ledgers.get(claim.search.ledger_sha256)) is None:
        return [f"{path}: the ledger of its search is none of those in {folder}, which may not be what it was chosen from"]
    if (known := len(read_ledger_file(ledger).trials)) > claim.search.trials:
        return [f"{path}: it counts {claim.search.trials} trials, {ledger} has {known}"]
    return []


def _check_record(path: Path, name: str, stated: str) -> list[str]:
    folder = path.parent / name
    if not is_there(folder / "record.json"):
        return [f"{path}: seed {_seed(name)} was dropped: {folder} has no record, the claim counts it"]
    if record_sha256(folder) != stated:
        return [f"{path}: {folder / 'record.json'} is not the record that was submitted"]
    return []


def _strangers(lane_folder: Path, claim: Claim) -> list[Path]:
    """Run folders of the claim's plan and hardware class that it does not count."""
    strangers = []
    for identity in sorted(lane_folder.glob("*/identity.json")):
        who = read_identity(identity.parent)
        same = who and (who.plan_hash, who.speed_class) == (claim.plan_hash, claim.hardware_class)
        if same and identity.parent.name not in claim.records:
            strangers.append(identity.parent)
    return strangers


def _seed(folder_name: str) -> int:
    seed = folder_name.partition("-")[0]
    return int(seed) if seed.isdecimal() else -1


def find_claim(group: Group) -> Claim | None:
    """The claim that a group's runs were submitted under, beside them; None where there is none or it cannot be read."""
    try:
        return read_claim(group.runs[0].folder.parent / claim_name(group.plan_hash, group.hardware_class))
    except UserError:
        return None


def trials(claim: Claim | None) -> int | None:
    """Plans tried before this one; None when never stated."""
    return claim.tuning_trials.known if claim else None
