"""Puts finished run folders into results/ as records of one claim, and shows the statistics of that claim.

usage: python -m harness submit RUN [RUN ...] [--trials N] [--replace "REASON"] [--to results]
       make submit RUN=runs/tiny-dense                    every seed below
       make submit RUN="runs/tiny-dense/1-... runs/tiny-dense/2-... runs/tiny-dense/3-..." SET="--trials 4"

All runs must be seeds of one plan on one hardware class, ranked, and their evidence whole; nothing is copied otherwise.
A ranked seed of the same plan that lies beside them and is left out is refused: seeds are chosen before they are run. Seeds
that were stopped by health or are unranked are named in the claim, and so are seeds that were run more than once. Only what is
beside the submitted runs is seen: plans, seeds and repeats in a folder moved away are the submitter's to state. A seed that
others took processor time from is claimed without its seconds, and so is the whole claim; the claim says which and why.
A plan that stands in the ledger of a search beside the runs, or that a confirmation held, is claimed with that search: its
trials count among those tried.
--trials N   how many other plans were tried before this one, here or elsewhere. Those whose runs lie beside the submitted
             ones are counted too, and the larger number stands. Without it `compare` calls no comparison fair.
--replace    a claim stands once made: more seeds may join it, but a seed already in it is replaced only with the whole
             claim and a reason, which the new claim keeps.
"""

import json
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import PATH, TEXT, Names, Word, Words, whole
from harness.record.record import PUBLIC

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a folder below results/, whoever states it
WORDS = Words(
    "submit", Word("trials", whole(), says="it counts plans: 0 or more"), Word("replace", TEXT),
    Word("to", PATH, Path("results")), names=Names("run folder", least=1, remedy="python -m harness submit runs/LANE"),
)  # fmt: skip
SUMMARY = "run folders into results/ as one claim, with its statistics"
RESTORE = "restore it (git checkout), or delete the claim and its records and submit again"
KEPT = ("record.json", "plan.yaml", "identity.json", "metrics.jsonl")  # weights stay behind: the record has their hash


def main(arguments: list[str]) -> int:
    from harness.launch.search.claimed import search_of
    from harness.reading import is_there
    from harness.record.provenance import now
    from harness.record.read import read_claim
    from harness.report.board.claims import claim_name
    from harness.report.board.gather import gather
    from harness.report.board.sentences import about_claim
    from harness.shown import one_line

    words = WORDS.read(arguments)
    if words.replace is not None and not words.replace.strip():
        raise UserError("--replace without a reason", '--replace "why the earlier records do not stand"')
    group = _one_group(words.names)
    if not NAME.fullmatch(group.lane):
        raise UserError(f"lane {group.lane!r} cannot name a folder of records", "`make lanes` lists the lanes")
    root = words.to
    claim_path = root / group.lane / claim_name(group.plan_hash, group.hardware_class)
    old = None
    if is_there(claim_path):
        old = read_claim(claim_path)
        if elsewhere := [name for name in old.records if not NAME.fullmatch(name)]:
            raise UserError(f"{claim_path} counts records outside its folder: {one_line(', '.join(elsewhere))}", RESTORE)
    if old and words.replace is None:
        again = sorted(set(group.seeds) & set(old.seeds))
        if again:
            raise UserError(
                f"seed {', '.join(map(str, again))} of this plan is in {claim_path} already",
                'submit only new seeds, or replace the whole claim: --replace "why"',
            )
    beside = _beside(group, set(old.seeds) if old and words.replace is None else set())
    claim = _new_claim(group, beside, words.trials, old, words.replace, now(), search_of(group))
    claim.records.update(_copy(group, claim_path.parent))
    _write(claim_path, claim)
    for name in old.records if old and words.replace is not None else ():  # last: until here the old claim is whole
        shutil.rmtree(claim_path.parent / name, ignore_errors=True)
    leaderboard = gather([root])
    board, standing = leaderboard.standing_of(group)
    seeds = ", ".join(map(str, claim.seeds))
    print(one_line(f"{group.lane}, plan {group.plan_hash[:8]}, seeds {seeds}, on {group.hardware_class}"))
    for line in [*about_claim(standing, board), *_spent(claim)]:
        print(f"  {one_line(line)}")
    if leaderboard.unsound or leaderboard.unreadable:
        print(f"warning: records in {root} that do not hold are left out of this; make report names them", file=sys.stderr)
    print(f"claim: {claim_path}")
    return 0


def _one_group(paths: list[Path]):
    """The runs as one group. Raises: UserError naming every run that may not be submitted, or the groups where there are
    several."""
    from harness.reading import is_there
    from harness.report.groups import Group, protocol
    from harness.report.integrity import check
    from harness.report.run_data import load_run

    folders: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is no folder", "name run folders, or a folder that holds them")
        folders += [path] if is_there(path / "record.json") else sorted(p.parent for p in path.rglob("record.json"))
    if not folders:
        raise UserError(f"no finished run in {', '.join(map(str, paths))}", "make speedrun makes one")
    runs = [load_run(folder) for folder in folders]
    if len(paths) == 1 and len(runs) > 1:  # a whole folder: what is not ranked in it is named in the claim, not refused
        runs = [run for run in runs if run.record.ranked] or runs
    refused = [f"{run.folder} is unranked: {run.why_unranked}" for run in runs if run.why_unranked]
    refused += [f"{run.folder}: {sentence}" for run in runs for sentence in check(run)]
    if refused:
        raise UserError(
            "not submitted:\n    " + "\n    ".join(refused), "run those seeds again from a clean tree, to their end"
        )
    kinds = {(r.record.lane, r.record.plan_hash, r.record.speed_class, protocol(r)) for r in runs}
    if len(kinds) > 1:
        listed = "\n    ".join(f"{lane}, plan {plan[:8]}, on {hardware}" for lane, plan, hardware, _ in sorted(kinds))
        raise UserError(
            f"these runs are not seeds of one plan on one hardware class:\n    {listed}", "name the runs of one of them"
        )
    by_seed: dict[int, list[Path]] = {}
    for run in runs:
        by_seed.setdefault(run.record.seed, []).append(run.folder)
    twice = [f"seed {seed}: {', '.join(map(str, found))}" for seed, found in sorted(by_seed.items()) if len(found) > 1]
    if twice:
        raise UserError(
            "a seed counts once:\n    " + "\n    ".join(twice), "name the run of each seed that is to stand, by its date"
        )
    return Group(tuple(sorted(runs, key=lambda run: run.record.seed)))


@dataclass(frozen=True)
class Beside:
    """What lies in the folders that the runs come from: other plans tried, seeds of this plan that failed (and how), and how
    often a submitted seed was run to its end on this hardware class, where that is more than once."""

    other_plans: int
    failed: dict[str, str]
    repeats: dict[str, int]


def _beside(group, claimed: set[int]) -> Beside:
    """`claimed`: seeds that the claim has already, which new ones join. Raises: UserError when any other ranked seed of the
    plan is left out."""
    from harness.reading import is_there
    from harness.record.read import read_identity, read_record, read_stop

    mine = {run.folder.resolve() for run in group.runs}
    counted = {*group.seeds, *claimed}
    other_plans, failed, dropped, repeats = set(), {}, [], Counter(group.seeds)
    for parent in sorted({folder.parent for folder in mine}):
        for path in sorted(parent.glob("*/identity.json")):
            folder, who = path.parent, read_identity(path.parent)
            if folder in mine or who is None:
                continue
            if who.plan_hash != group.plan_hash:
                other_plans.add(who.plan_hash)
            elif who.speed_class == group.hardware_class and not who.fork:
                if who.seed in counted:
                    repeats[who.seed] += who.seed in group.seeds and is_there(folder / "record.json")
                elif (stop := read_stop(folder)) is not None:
                    failed[str(who.seed)] = stop.what
                elif not is_there(folder / "record.json"):
                    failed[str(who.seed)] = "unfinished"
                elif (record := read_record(folder)).ranked:
                    dropped.append(f"seed {record.seed} in {folder}")
                else:
                    failed[str(who.seed)] = "unranked: " + "; ".join(record.unranked_reasons)
    if dropped:
        raise UserError(
            f"ranked seeds of this plan lie beside these and are left out: {', '.join(dropped)}", "submit all seeds or none"
        )
    return Beside(len(other_plans), failed, {str(seed): n for seed, n in sorted(repeats.items()) if n > 1})


def _new_claim(group, beside: Beside, declared: int | None, old, reason: str | None, date: str, search=None):
    """The claim to be, with the records that `_copy` is about to add. `search`: that the plan came from."""
    from harness.record.results import CLAIM_VERSION, Claim, Replaced, Submission, Trials

    joins = old if old and reason is None else None
    before = joins.tuning_trials if joins else Trials(found=0, declared=None)
    search = search or (joins.search if joins else None)
    stated = [n for n in (before.declared, declared, search.trials - 1 if search else None) if n is not None]
    replaced = list(old.replaced) if old else []
    if old and reason is not None:
        replaced.append(Replaced(reason=reason, at=date, records=old.records))
    repeats = {"repeats": beside.repeats} if beside.repeats else {}
    disturbed = {str(run.record.seed): run.disturbed for run in group.runs if run.disturbed}
    noted = {"disturbed": disturbed} if disturbed else {}
    submission = Submission(at=date, seeds=list(group.seeds), **repeats, **noted)
    return Claim(
        schema_version=CLAIM_VERSION, lane=group.lane, track=group.track, plan_hash=group.plan_hash,
        hardware_class=group.hardware_class, stop_step=group.runs[0].steps[-1]["step"],
        seeds=sorted({*(joins.seeds if joins else ()), *group.seeds}), records=dict(joins.records) if joins else {},
        tuning_trials=Trials(found=max(beside.other_plans, before.found), declared=max(stated) if stated else None),
        **({"search": search} if search else {}),
        failed_seeds=(joins.failed_seeds if joins else {}) | beside.failed,
        submissions=[*(joins.submissions if joins else []), submission],
        replaced=replaced,
    )  # fmt: skip


def _copy(group, lane_folder: Path) -> dict[str, str]:
    """Copies the evidence, each run whole or not at all. Returns {folder name: sha256 of its record.json}."""
    from harness.files import whole
    from harness.packed import put_kept
    from harness.record.folder import writing
    from harness.report.board.claims import record_sha256

    copied = {}
    for run in group.runs:
        stem = f"{run.record.seed}-{group.plan_hash[:8]}"
        names = (stem if n == 1 else f"{stem}.{n}" for n in range(1, 10_000))
        target = next(lane_folder / name for name in names if not (lane_folder / name).exists())
        with writing(target), whole(target) as part:
            part.mkdir()
            for name in (*KEPT, PUBLIC) if (run.folder / PUBLIC).exists() else KEPT:
                put_kept(run.folder / name, part)
        copied[target.name] = record_sha256(target)
    return copied


def _write(path: Path, claim) -> None:
    from harness.files import replace_atomically
    from harness.record.folder import writing

    with writing(path):
        replace_atomically(path, [json.dumps(claim.content(), indent=1).encode() + b"\n"])


def _spent(claim) -> list[str]:
    spent = claim.tuning_trials
    declared = "none declared (--trials N)" if spent.declared is None else f"{spent.declared} declared"
    lines = [f"tuning trials before this plan: {spent.found} found beside the runs, {declared}; none elsewhere can be seen"]
    lines += [f"it stands among {claim.search.told}"] if claim.search else []
    lines += [f"seed {seed} does not count: {why}" for seed, why in claim.failed_seeds.items()]
    for submission in claim.submissions:
        for seed, times in (submission.repeats or {}).items():
            lines.append(f"seed {seed} was run {times} times: its seconds were chosen among as many, if they were chosen")
        lines += [f"seed {seed} makes no claim about speed: {why}" for seed, why in (submission.disturbed or {}).items()]
    tried = sorted({*claim.seeds, *map(int, claim.failed_seeds)})
    if tried != list(range(1, len(tried) + 1)):
        lines.append(
            f"seeds {', '.join(map(str, tried))} are not 1 to {len(tried)}: whether others were tried cannot be seen here"
        )
    if len(claim.submissions) > 1:
        lines.append(f"seeds were added in {len(claim.submissions)} submissions: those added later knew the first ones' result")
    return lines
