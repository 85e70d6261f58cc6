"""Trains a lane and judges it against its baseline: exact bits, loss, router health, speed, memory, counts, scoring.

usage: python -m harness gate [key=value ...] [base=GIT_REF] [out=FOLDER] [baselines=FOLDER]
       python -m harness gate RUN_FOLDER [baselines=FOLDER]      judges a finished run; trains nothing, answers at once
       python -m harness gate update reason="..." [seeds=1,2,3] [key=value ...] [RUN_FOLDER ...]
       make gate LANE=tiny-moe-16e [SEED=1] [SET="..."] [BASE=origin/main]
       make gate-update LANE=tiny-moe-16e REASON="the router's scores are computed in fp32"

examples
  python -m harness gate lane=tiny-moe-16e seed=1
  python -m harness gate lane=tiny-dense unranked=true budget.tokens=65536 base=origin/main     a short look, as CI takes it
  python -m harness gate update reason="Muon takes 4 iterations" lane=tiny-moe-16e seeds=1,2,3

A baseline (results/baselines/LANE.json) holds seeds of one plan by hardware class. base=REF runs that commit beside this one
in the same job, for machines and plans that have no baseline. Exit status 1 when a detector fails; gate.md, gate.xml (JUnit)
and the run stay in the folder that is printed. `update` trains what is missing of its seeds, times five processes, and
keeps the reasons of all earlier baselines.
"""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.shown import one_line

SUMMARY = "train a lane and judge it against its baseline; `gate update` accepts a new one"
OWN = ("base", "out", "baselines")
BASE_PROBES = 3  # of each side, in turns
MORE_PROBES = 2  # when the first one looks slow: a slow step stays slow, a disturbed measurement does not


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["update"]:
        from harness.verbs.gate_update import update

        return update(arguments[1:])
    own, words, folders = split(arguments, OWN)
    if not folders:
        return train_and_judge(own, words)
    if len(folders) > 1 or words or "base" in own:
        raise UserError("a finished run is judged alone", "python -m harness gate RUN_FOLDER [baselines=FOLDER]")
    return judge_finished(folders[0], own)


def split(arguments: list[str], own: tuple[str, ...]) -> tuple[dict[str, str], list[str], list[Path]]:
    """(the verb's own words, the plan's words, run folders). Errors: UserError for a word that is none of them."""
    folders = [Path(word) for word in arguments if "=" not in word]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{str(folder)!r} is neither key=value nor a run folder", "python -m harness gate --help")
    pairs = [word for word in arguments if "=" in word]
    mine = dict(word.split("=", 1) for word in pairs if word.split("=", 1)[0] in own)
    for key, value in mine.items():
        if not value.strip() and key != "reason":
            raise UserError(f"{key}= has no value", f"write {key}=VALUE or leave it out")
    return mine, [word for word in pairs if word.split("=", 1)[0] not in own], folders


def baselines_of(own: dict[str, str]) -> Path:
    from harness.plan.lanes import ROOT
    from harness.report.gate.baseline import FOLDER

    return Path(own.get("baselines", ROOT / FOLDER))


def judge_finished(folder: Path, own: dict[str, str]) -> int:
    """The verdict on what the records hold; what only a process beside it can measure is skipped."""
    from harness.report.gate import baseline as gate_baseline
    from harness.report.gate.verdict import Evidence
    from harness.report.run_data import load_run

    run = load_run(folder)
    lane, plan_hash = run.record.lane, run.record.plan_hash
    baseline = gate_baseline.read(baselines_of(own), lane).plans.get(plan_hash)
    if baseline is None:
        lane = one_line(lane)
        raise UserError(f"plan {one_line(plan_hash[:8])} of lane {lane} has no baseline", _make_one(shlex.quote(lane)))
    return conclude(Evidence(run, baseline), Path(own["out"]) if "out" in own else None)


def train_and_judge(own: dict[str, str], words: list[str]) -> int:
    from harness.launch.checkout import Checkout, new_folder
    from harness.launch.worktree import resolve
    from harness.plan.compose import compose
    from harness.plan.fingerprint import plan_hash
    from harness.report.gate import baseline as gate_baseline

    plan = compose(words).plan
    known = gate_baseline.read(baselines_of(own), plan.lane.name)
    baseline = known.plans.get(plan_hash(plan))
    if "base" in own:
        resolve(own["base"])  # a mistyped ref is told before anything is trained
    elif baseline is None:
        raise UserError(_no_baseline(plan, known), f"{_make_one(plan.lane.name)}, or compare with a commit: base=origin/main")
    folder = new_folder(own.get("out"), plan.run.folder, "gate-")
    print(f"gate: {plan.lane.name}, plan {plan_hash(plan)[:8]}, seed {plan.seed}, in {folder}", flush=True)
    if "base" in own:
        return _with_base(own["base"], words, plan, folder, known)
    return gate(Checkout(), words, folder, baseline)


def gate(checkout, words: list[str], folder: Path, baseline) -> int:
    """Trains, probes and judges against a baseline alone."""
    evidence, failure = collect(checkout, words, folder, baseline)
    return conclude(evidence, folder) if evidence else stopped(failure, folder)


def collect(checkout, words: list[str], folder: Path, baseline) -> tuple[Any, str]:
    """(evidence, "") of one checkout, or (None, why) where it did not finish."""
    from harness.launch.checkout import JobFailed

    try:
        return probed(checkout, words, folder, checkout.train(words, folder), baseline), ""
    except JobFailed as failed:
        return None, str(failed)


def probed(checkout, words: list[str], folder: Path, run, baseline) -> Any:
    """The evidence of a finished run with a probe beside it; one that looks slow is repeated. Errors: JobFailed."""
    from harness.report.gate.verdict import FAIL, Evidence, speed

    evidence = Evidence(run, baseline, probes=[checkout.probe(words, folder)])
    if speed(evidence).status == FAIL:
        more = [checkout.probe(words, folder, f"probe-{i + 2}") for i in range(MORE_PROBES)]
        evidence = replace(evidence, probes=[*evidence.probes, *more])
    return evidence


def _with_base(ref: str, words: list[str], plan, folder: Path, known) -> int:
    """Base and head in one job: each trained once, then timed in turns."""
    from harness.launch.checkout import Checkout, JobFailed
    from harness.launch.worktree import worktree
    from harness.plan.fingerprint import differences, plan_hash
    from harness.report.gate.baseline import figures
    from harness.report.gate.verdict import Evidence, Side

    head = Checkout()
    with worktree(ref) as there:
        base = replace(head, root=there.root)
        label = f"base {ref} ({there.commit[:8]})"
        print(f"  training {label}, then this checkout", flush=True)
        try:
            theirs = base.train(words, folder / "base")
        except JobFailed as failed:
            raise UserError(
                f"{label} cannot run this: {failed}", "leave base= out, or name a commit that runs the lane"
            ) from failed
        try:
            ours = head.train(words, folder)
            probes, base_probes = [], []
            for i in range(1, BASE_PROBES + 1):
                base_probes += _probe_if_known(base, words, folder / "base", f"probe-{i}")
                probes.append(head.probe(words, folder, f"probe-{i}"))
        except JobFailed as failed:
            return stopped(str(failed), folder)
        stated = _stated(there.root, known, plan_hash(plan))
    timings = [probe.timing for probe in base_probes]
    side = Side(
        label, figures(theirs), theirs.record.counts, [theirs.record.metrics.peak_memory_bytes],
        [timing.ratio for timing in timings], timings[0].version if timings else None,
        tuple(differences(plan, theirs.plan)), stated,
    )  # fmt: skip
    return conclude(Evidence(ours, known.plans.get(plan_hash(plan)), side, probes), folder)


def _probe_if_known(base, words: list[str], folder: Path, name: str) -> list[Any]:
    """A base from before there was a probe is not timed: the verdict on speed is then skipped and says so."""
    if not (base.root / "harness" / "verbs" / "probe.py").exists():
        return []
    return [base.probe(words, folder, name)]


def _stated(root: Path, known, plan_hash: str) -> str | None:
    """The reason of a baseline update that this checkout has and the base has not: its bits are meant to differ."""
    from harness.report.gate import baseline as gate_baseline

    before = gate_baseline.read(root / gate_baseline.FOLDER, known.lane).history
    new = [note for note in known.history if note not in before and note.plan_hash == plan_hash]
    return new[-1].reason if new else None


def conclude(evidence, folder: Path | None) -> int:
    from harness.report.gate.verdict import judge

    record = evidence.run.record
    title = f"gate: {record.lane}, plan {record.plan_hash[:8]}, seed {record.seed}, {record.hardware_class}"
    return show(title, judge(evidence), folder)


def stopped(why: str, folder: Path) -> int:
    """The verdict where training or the probe itself failed."""
    from harness.report.gate.verdict import FAIL, Outcome

    outcome = Outcome("run", FAIL, "did not finish", "training and probe end with status 0", (why,))
    return show("gate", [outcome], folder)


def show(title: str, outcomes, folder: Path | None) -> int:
    from harness.report.gate.output import failed, table, write

    print(table(title, outcomes))
    if folder is not None:
        write(folder, title, outcomes)
        print(f"kept in {folder}: gate.md, gate.xml, logs and the run")
    return 1 if failed(outcomes) else 0


def _no_baseline(plan, known) -> str:
    from harness.plan.fingerprint import differences, plan_hash

    name, found = plan.lane.name, f"plan {plan_hash(plan)[:8]} of lane {plan.lane.name} has no baseline"
    if not known.plans:
        return f"lane {name} has no baseline"
    nearest = min((differences(plan, other.plan) for other in known.plans.values()), key=len)
    return f"{found}; the nearest one has {'; '.join(nearest[:6])}"


def _make_one(lane: str) -> str:
    return f'make one: make gate-update LANE={lane} REASON="first baseline"'
