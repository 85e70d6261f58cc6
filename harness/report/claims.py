"""A claim: which seeds of one plan on one hardware class were submitted together, and what was spent to find the plan.

    results/<lane>/claim-<plan>-<hardware class>.json

It holds the hash of every record, so that a seed dropped or a record exchanged later is named; the seeds that failed; the
number of tuning trials; and each submission with its date, so that seeds added after a look at the first are seen.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.reading import is_there, read_bytes
from harness.record.read import read_claim, read_identity
from harness.report.groups import Group
from harness.report.statistics import ASSUMES, MIN_SEEDS, Sample, Test, below, welch


def claim_name(plan_hash: str, hardware_class: str) -> str:
    return f"claim-{plan_hash[:8]}-{hashlib.sha256(hardware_class.encode()).hexdigest()[:6]}.json"


def record_sha256(folder: Path) -> str:
    return hashlib.sha256(read_bytes(folder / "record.json")).hexdigest()


def check_claims(root: str | Path) -> list[str]:
    """One sentence for every claim below `root` that its records no longer bear out."""
    return [sentence for path in sorted(Path(root).rglob("claim-*.json")) for sentence in _check(path)]


def _check(path: Path) -> list[str]:
    try:
        claim = read_claim(path)
        found = [sentence for name, stated in claim["records"].items() for sentence in _check_record(path, name, stated)]
        strangers = _strangers(path.parent, claim)
    except UserError as error:
        return [error.problem]
    found += [f"{path}: {folder} is a seed of its plan that was never submitted" for folder in strangers]
    if sorted(claim["seeds"]) != sorted(_seed(name) for name in claim["records"]):
        found.append(f"{path}: it claims seeds {claim['seeds']}, its records are {sorted(claim['records'])}")
    if claim["lane"] != path.parent.name or path.name != claim_name(claim["plan_hash"], claim["hardware_class"]):
        found.append(f"{path}: its name does not fit what it claims ({claim['lane']}, plan {claim['plan_hash'][:8]})")
    return found


def _check_record(path: Path, name: str, stated: str) -> list[str]:
    folder = path.parent / name
    if not is_there(folder / "record.json"):
        return [f"{path}: seed {_seed(name)} was dropped: {folder} has no record, the claim counts it"]
    if record_sha256(folder) != stated:
        return [f"{path}: {folder / 'record.json'} is not the record that was submitted"]
    return []


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


def find_claim(root: Path, group: Group) -> dict[str, Any] | None:
    """The claim that a group's runs were submitted under; None where there is none or it cannot be read."""
    try:
        return read_claim(root / group.lane / claim_name(group.plan_hash, group.hardware_class))
    except UserError:
        return None


def trials(claim: Mapping[str, Any] | None) -> int | None:
    """Plans tried before this one: what was found beside the runs or declared, whichever is more; None when never stated."""
    if claim is None or claim["tuning_trials"]["declared"] is None:
        return None
    return max(claim["tuning_trials"]["found"], claim["tuning_trials"]["declared"])


def best_other(group: Group, groups: Iterable[Group]) -> Group | None:
    """The holder: the ranked group of the same track, data and hardware class that is fastest to the target with MIN_SEEDS
    seeds; where none reached it on every seed, the one with the lowest mean bits per byte of all of val."""
    rivals = [g for g in groups if g.ranked and g.n >= MIN_SEEDS and _comparable(g, group) and not _same(g, group)]
    fast = [g for g in rivals if g.to_target()]
    if fast:
        return min(fast, key=lambda g: g.to_target().mean)
    return min(rivals, key=lambda g: g.sample("val_bpb").mean, default=None)


def _comparable(a: Group, b: Group) -> bool:
    return a.hardware_class == b.hardware_class and a.runs[0].why_not_beside(b.runs[0]) is None


def _same(a: Group, b: Group) -> bool:
    return (a.lane, a.plan_hash, a.hardware_class) == (b.lane, b.plan_hash, b.hardware_class)


def statistics_of(group: Group, holder: Group | None) -> list[str]:
    """The claim in sentences, assumptions beside the numbers."""
    target = group.runs[0].target
    slice_bpb, steps = group.sample("slice_bpb"), group.runs[0].steps[-1]["step"]
    lines = [
        f"stop step {steps:,}, fixed by the lane before any seed was run",
        f"slice bpb {spread(slice_bpb, '{:.4f}')}, all of val {spread(group.sample('val_bpb'), '{:.4f}')}",
    ]
    if target:
        what = "slice bpb" if target.metric == "slice_bpb" else target.unit
        test = below(group.sample(target.metric), target.level)
        lines.append(_sentence(f"{what} below {target.id} ({target.level:.4f})", test, 4))
    seconds = group.to_target() if group.timed else None
    if not group.timed:
        lines.append(f"{group.arithmetic}: no time is claimed, emulation says nothing about the format's")
    elif target is None:
        lines.append("the track is a fixed budget: no target, no time to it")
    elif seconds is None:
        reached = sum(run.record["metrics"]["target_reached"] for run in group.runs)
        lines.append(f"{reached} of {group.n} seeds reached the target: no time is claimed")
    else:
        lines.append(f"{spread(seconds, '{:.1f}')} s to target")
    if holder is None:
        lines.append("no other record of this track and hardware class with three seeds to compare with")
    else:
        held = holder.to_target()
        if seconds and held:
            lines.append(_sentence(f"seconds to target below those of {holder.lane} (Welch)", welch(seconds, held), 1))
        test = welch(slice_bpb, holder.sample("slice_bpb"))
        lines.append(_sentence(f"slice bpb below that of {holder.lane} (Welch)", test, 4))
    return lines


def spread(sample: Sample, form: str) -> str:
    """ "1.6074 ± 0.0035 (n = 3)", or "1.6074 (n = 1: one run)"."""
    return f"{sample.text(form)} (n = {sample.n}{': one run' if sample.n == 1 else ''})"


def _sentence(what: str, test: Test, digits: int) -> str:
    if test.interval is None:
        return f"{what}: difference {test.difference:+.{digits}f}; {test.why_not}"
    low, high = test.interval
    shown = f"difference {test.difference:+.{digits}f}, 95% interval {low:+.{digits}f} to {high:+.{digits}f}"
    verdict = f"significant (one-sided p = {test.p:.2g}, {ASSUMES})" if test.significant else f"not significant: {test.why_not}"
    return f"{what}: {shown}; {verdict}"
