"""Checks a record: its evidence against hashes and raw numbers, then its first steps, or all of them, by running them again.

usage: python -m harness verify RECORD [steps=16|all] [commit=here|record]
       make verify RECORD=results/tiny-dense/1-0123abcd [SET="steps=all commit=record"]

examples
  python -m harness verify results/tiny-dense/1-0123abcd               evidence, and 16 steps in this checkout
  python -m harness verify results/tiny-dense steps=0                  the evidence of every record below; 3 s, no torch
  python -m harness verify runs/tiny-moe-16e/1-0123abcd steps=all      the whole run again: weights and scores too
  python -m harness verify results/tiny-dense/1-0123abcd commit=record in a clean checkout of the commit that made it

What is run is code of this repository: this checkout's, or that of the commit that the record names and `git log` has. It is
given the typed plan of plan.yaml, whose hash is the record's; no word that a record states is run. To keep even that away from
your files: make verify IN=container RECORD=... (commit=here; the image has the code it was built from).

Verdicts, strongest first. Each needs whole evidence, and says how many steps were run.
  equal bits              every loss, gradient norm, expert count and chain link is the recorded one
  equal within tolerance  on another hardware class or from other source: losses differ by rounding only
  fresh seeds inside the recorded interval   a new seed is where at least three recorded seeds predict it, and so is this one
  not verified            exit status 1
What `inspect`, `damage` and `atlas` left with the run is evidence too: it must be of this run and its weights, and what the
last two left unchanged since, by its own hashes.
On the hardware class, source and versions of the record its bits are promised: there only equal bits pass. `steps` is
rounded up to whole log windows, whose chains are compared. The verdict is written to verify.json beside the record, and after
equal bits the commit that had them to verified.json, which the leaderboard shows.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch.options import FOLDER, Kind, Names, Word, Words, choice, whole

STEPS = Kind(lambda text: text if text == "all" else whole().read(text), "a whole number, 0 for the evidence alone, or all")
COMMIT = Word("commit", choice("here", "record"), "here", "here (this checkout) or record (the record's own commit)")
RECORD = Names("folder", FOLDER, 1, 1, "name one: python -m harness verify results/LANE/SEED-PLAN")
WORDS = Words("verify", Word("steps", STEPS, 16), COMMIT, names=RECORD)
SUMMARY = "check a record: evidence, then re-execution of its first steps or all"
EVIDENCE_WHOLE, EQUAL, CLOSE, SEEDS, NOT = (
    "evidence whole", "equal bits", "equal within tolerance", "fresh seeds inside the recorded interval", "not verified",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    from harness.files import replace_atomically
    from harness.reading import is_there
    from harness.report.verify.text import line, summary

    own = WORDS.read(arguments)
    (path,), steps, commit = own.names, None if own.steps == "all" else own.steps, own.commit
    folders = [path] if is_there(path / "record.json") else sorted(p.parent for p in path.rglob("record.json"))
    if not folders:
        raise UserError(f"no record.json below {path}", "name a run folder, or a folder of runs")
    passed = []
    for folder in folders:
        report = verify(folder, steps, commit)
        try:
            replace_atomically(folder / "verify.json", [json.dumps(report, indent=1).encode()])
            if report["verdict"] == EQUAL:
                _note(folder, report)
        except OSError as error:
            raise UserError(
                f"cannot write {folder / 'verify.json'}: {error}", "copy the record to where you may write"
            ) from error
        passed.append(report["passed"])
        if len(folders) == 1:
            print(summary(report))
        else:
            print(line(report), flush=True)
    if len(folders) > 1:
        print(f"{sum(passed)} of {len(passed)} records pass; each verdict is in its verify.json")
    return int(not all(passed))


def _note(folder: Path, report: dict[str, Any]) -> None:
    """Leaves verified.json: what of the record was had again, and by which commit. Code with changes has no commit."""
    from harness.files import file_sha256, replace_atomically
    from harness.record.documents import Verified
    from harness.record.provenance import commit
    from harness.record.read import VERIFIED

    did = report["execution"]
    if did["commit"] == commit()[0] and commit()[1]:
        report["notes"].append(f"{VERIFIED} is not written: the source tree has uncommitted changes")
        return
    found = Verified(
        record_sha256=file_sha256(folder / "record.json"), commit=did["commit"], steps=did["steps"], of=did["of"],
        verified_at=report["verified_at"],
    )  # fmt: skip
    replace_atomically(folder / VERIFIED, [json.dumps(found.content(), indent=1).encode()])


def verify(folder: Path, steps: int | None, commit: str) -> dict[str, Any]:
    """What verify.json holds. Nothing that is wrong with the record is raised: it is in the report."""
    from harness.record.provenance import now
    from harness.report.integrity import ONLY_BY_RE_EXECUTION, check
    from harness.report.look_evidence import looks
    from harness.report.run_data import load_run

    report: dict[str, Any] = {
        "record": str(folder), "verdict": NOT, "passed": False, "verified_at": now(), "did": "evidence only", "problems": [],
        "notes": [], "execution": None, "fresh_seed": None, "not_covered": list(ONLY_BY_RE_EXECUTION),
    }  # fmt: skip
    try:
        run = load_run(folder)
    except UserError as error:
        report["problems"].append(error.problem)
        return report
    r = run.record
    report["of"] = f"{r.lane}, seed {r.seed}, plan {r.plan_hash[:8]}, commit {r.provenance.commit[:8]}"
    report["content_sha256"] = r.content_sha256
    report["problems"] += check(run)
    for verb, problems in looks(run).items():
        report["problems"] += problems
        report["notes"] += [] if problems else [f"{verb}: what it left is whole, and of this run"]
    _check_data(run, report)
    if report["problems"]:
        return report
    if steps == 0:
        return report | {"verdict": EVIDENCE_WHOLE, "passed": True}
    try:
        _check_counts(run, report)
        with tempfile.TemporaryDirectory(prefix="verify-") as home:
            _re_execute(run, steps, commit, Path(home), report)
    except UserError as error:
        report["problems"].append(str(error))
    report["passed"] = not report["problems"]
    if not report["passed"]:
        report["verdict"] = NOT
    return report


def _check_data(run, report: dict[str, Any]) -> None:
    """The record's data hashes against the track file here, and that one against the data here."""
    from harness.data.corpora import Wanted, load
    from harness.plan.lanes import TRACKS, read_track, track_names
    from harness.plan.stored import section, settings
    from harness.plan.tasks import made_anew

    path = TRACKS / f"{run.record.track}.yaml"
    if run.record.track not in track_names():
        report["problems"].append(f"track {run.record.track} does not exist in this checkout")
        return
    track = read_track(run.record.track)
    anew = made_anew(settings(run.plan) | {"track.tokens.made_of": track.tokens.made_of})  # then it states nothing of them
    for key in () if anew else ("train_sha256", "val_sha256", "train_bytes", "val_bytes"):
        stated, here = getattr(run.record.data, key), getattr(track, key)
        if here and stated != here:  # a track states nothing of what only its files know
            report["problems"].append(f"data.{key} is {stated!r} in the record, {path.name} says {here!r}")
    lines = {name: asdict(line) for name, line in track.lines.items()}
    if run.record.content()["lines"] != lines or run.plan["track"]["target"] != track.target:
        report["problems"].append(f"the lines or the target of the record are not those of {path.name}")
    try:
        data, task = (section(run.plan, name) for name in ("data", "task"))
        length = run.plan["model"].get("sequence_length", 0)
        found = load(Wanted(track, data, task, length, run.plan["budget"]["tokens"]))
        if not anew:
            report["notes"].append(f"data: the record's, {path.name}'s and the files' hashes are equal")
        elif found.hashes == {part: getattr(run.record.data, f"{part}_sha256") for part in found.hashes}:
            report["notes"].append(f"data: generated again as the plan says, not as {path.name} does: the record's hashes")
        else:
            report["problems"].append("data: what the plan's tasks generate here has not the hashes of the record")
    except UserError as error:
        report["notes"].append(f"data: the record's hashes are {path.name}'s; the files could not be checked: {error.problem}")


def _check_counts(run, report: dict[str, Any]) -> None:
    """Parameters and FLOPs of the model that plan.yaml describes, built on the meta device."""
    from harness.model.build import count_plan
    from harness.plan.stored import read_plan

    counts = asdict(count_plan(read_plan(run.folder / "plan.yaml")))
    for key, built in counts.items():
        if (stated := getattr(run.record.counts, key)) != built:
            report["problems"].append(f"counts.{key} is {stated:,}, the model built from plan.yaml has {built:,}")
    shown = ", ".join(f"{key} {value:,}" for key, value in counts.items())
    report["notes"].append(f"counts: rebuilt from plan.yaml on the meta device: {shown}")


def _re_execute(run, steps: int | None, commit: str, home: Path, report: dict[str, Any]) -> None:
    from harness.launch.reexecute import changed_keys, checkout, command_line, execute
    from harness.report.integrity import ONLY_BY_RE_EXECUTION
    from harness.report.verify.executions import compare
    from harness.revision import REVISION, revision_of

    words, last, window = command_line(run), run.steps[-1]["step"], run.windows[0]["step"]
    wanted = last if steps is None else min(-(-steps // window) * window, last)
    if commit == "here":
        if (revision := revision_of(run.record.hardware_class)) != REVISION:
            raise UserError(
                f"the record is of revision {revision} of the arithmetic, this checkout of {REVISION}: it has other bits",
                "commit=record runs it at its own commit",
            )
        changed, gained = changed_keys(run)
        if changed:
            raise UserError(
                "this checkout makes another plan of the record's (recorded -> here):\n    " + "\n    ".join(changed),
                "commit=record runs it at its own commit",
            )
        report["notes"] += [f"plan: the schema has gained {line.replace('(absent) -> ', '')} since" for line in gained]
    print(f"re-executing {wanted:,} of {last:,} steps of {run.folder} ...", flush=True)
    with checkout(run, commit) as tree:
        found = execute(run, tree, words, wanted, home / "same")
        result = compare(run.rows, found.rows, wanted)
        broken = _other_ends(run, found) if wanted == last else []
        origin = run.record.provenance
        same = {
            "hardware class": found.hardware_class == run.record.hardware_class,
            "source": found.identity.source_sha256 == origin.source_sha256,
            "versions": found.identity.versions == origin.versions,
        }
        report["did"] = f"re-execution of {wanted:,} of {last:,} steps"
        report["execution"] = {
            "steps": wanted, "of": last, "commit": found.identity.commit, "hardware_class": found.hardware_class,
            "recorded_hardware_class": run.record.hardware_class, "same": same, **asdict(result), "ends": broken,
        }  # fmt: skip
        report["not_covered"] = _not_covered(ONLY_BY_RE_EXECUTION, wanted, last)
        if commit == "record" and found.identity.plan_hash != run.record.plan_hash:
            report["problems"].append(f"its commit makes plan {found.identity.plan_hash[:8]} of the record's")
        elif result.contradiction:
            report["problems"].append(result.contradiction)
        elif result.equal_bits and not broken:
            report["verdict"] = EQUAL
        elif all(same.values()):
            what = result.difference or "; ".join(broken)
            report["problems"].append(f"same hardware class, source and versions, but other bits: {what}")
        elif result.within_tolerance:
            report["verdict"] = CLOSE
        else:
            _fresh_seed(run, tree, wanted, home / "fresh", report)


def _other_ends(run, found) -> list[str]:
    """What differs at the end of a whole run, beyond the rows."""
    stated, ended = run.record.determinism, found.record.determinism
    return [f"determinism.{key} is another" for key in ("chain", "weights") if getattr(stated, key) != getattr(ended, key)]


def _not_covered(only: tuple[str, ...], wanted: int, last: int) -> list[str]:
    *bits, machine = only
    return [machine] if wanted == last else [f"after step {wanted:,}: {what}" for what in bits] + [machine]


def _fresh_seed(run, tree: Path, steps: int, home: Path, report: dict[str, Any]) -> None:
    """The weakest tier: a seed nobody has chosen among the recorded ones."""
    from harness.launch.reexecute import command_line, execute
    from harness.report.groups import find_groups, protocol
    from harness.report.verify.executions import try_fresh_seed, window_losses
    from harness.report.verify.text import distance

    beside = [other for group in find_groups([run.folder.parent]).groups for other in group.runs]
    alike = [other for other in beside if other.record.plan_hash == run.record.plan_hash and protocol(other) == protocol(run)]
    recorded = {other.record.seed: window_losses(other.rows, steps) for other in [*alike, run]}
    fresh = max(recorded) + 1
    print(f"beyond tolerance; running fresh seed {fresh} for as many steps ...", flush=True)
    found = window_losses(execute(run, tree, command_line(run, fresh), steps, home).rows, steps)
    test = try_fresh_seed(recorded, run.record.seed, fresh, found)
    report["fresh_seed"] = asdict(test)
    if test.problem:
        report["problems"].append(f"neither equal bits nor within tolerance ({distance(report['execution'])}); {test.problem}")
    else:
        report["verdict"] = SEEDS
