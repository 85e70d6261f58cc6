"""What `gate` does: a lane trained, and another commit of it where one is named, timed in turns, judged and told."""

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.errors import UserError
from harness.launch.checkout import Checkout, JobFailed, new_folder
from harness.launch.worktree import resolve, worktree
from harness.plan.compose import compose
from harness.plan.fingerprint import differences, plan_hash
from harness.plan.lanes import ROOT
from harness.report.gate import baseline as gate_baseline
from harness.report.gate.baseline import figures
from harness.report.gate.output import failed, table, write
from harness.report.gate.verdict import FAIL, Evidence, Outcome, Side, judge, not_judged, speed
from harness.report.run_data import load_run
from harness.shown import one_line

BASE_PROBES = 3  # of each side, in turns
MORE_PROBES = 2  # when the first one looks slow: a slow step stays slow, a disturbed measurement does not


def baselines_of(own: SimpleNamespace) -> Path:
    return own.baselines or ROOT / gate_baseline.FOLDER


def judge_finished(own: SimpleNamespace) -> int:
    """The verdict on what the records hold; what only a process beside it can measure is skipped."""
    if len(own.names) > 1 or own.plan or own.base is not None:
        raise UserError("a finished run is judged alone", "python -m harness gate RUN_FOLDER [baselines=FOLDER]")
    run = load_run(own.names[0])
    lane, plan_hash = run.record.lane, run.record.plan_hash
    baseline = gate_baseline.read(baselines_of(own), lane).plans.get(plan_hash)
    if baseline is None:
        lane = one_line(lane)
        raise UserError(f"plan {one_line(plan_hash[:8])} of lane {lane} has no baseline", _make_one(shlex.quote(lane)))
    return conclude(Evidence(run, baseline), own.out)


def train_and_judge(own: SimpleNamespace) -> int:
    words = own.plan
    plan = compose(words).plan
    known = gate_baseline.read(baselines_of(own), plan.lane.name)
    baseline = known.plans.get(plan_hash(plan))
    if own.base is not None:
        resolve(own.base)  # a mistyped ref is told before anything is trained
    elif baseline is None:
        raise UserError(_no_baseline(plan, known), f"{_make_one(plan.lane.name)}, or compare with a commit: base=origin/main")
    folder = new_folder(own.out, plan.run.folder, "gate-")
    print(f"gate: {plan.lane.name}, plan {plan_hash(plan)[:8]}, seed {plan.seed}, in {folder}", flush=True)
    if own.base is not None:
        return _with_base(own.base, words, plan, folder, known)
    checkout = Checkout()
    try:
        return conclude(probed(checkout, words, folder, checkout.train(words, folder), baseline), folder)
    except JobFailed as failed:
        return stopped(str(failed), folder)


def probed(checkout, words: list[str], folder: Path, run, baseline) -> Evidence:
    """The evidence of a finished run with a probe beside it; one that looks slow, or that others disturbed, is repeated.
    Raises: JobFailed."""
    evidence = Evidence(run, baseline, probes=[checkout.probe(words, folder)])
    if speed(evidence).status == FAIL or evidence.disturbed:
        more = [checkout.probe(words, folder, f"probe-{i + 2}") for i in range(MORE_PROBES)]
        evidence = replace(evidence, probes=[*evidence.probes, *more])
    return evidence


def _with_base(ref: str, words: list[str], plan, folder: Path, known) -> int:
    """Base and head in one job: each trained once, then timed in turns."""
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
    fair = [timing.ratio for timing in timings if not timing.disturbed]
    untimed = not_judged(label, [timing.taken for timing in timings]) if timings and not fair else ""
    side = Side(
        label, figures(theirs), theirs.record.counts, [theirs.record.metrics.peak_memory_bytes], fair,
        timings[0].version if timings else None, untimed, tuple(differences(plan, theirs.plan)), stated,
    )  # fmt: skip
    return conclude(Evidence(ours, known.plans.get(plan_hash(plan)), side, probes), folder)


def _probe_if_known(base, words: list[str], folder: Path, name: str) -> list[dict[str, Any]]:
    """A base from before there was a probe is not timed: the verdict on speed is then skipped and says so."""
    if not (base.root / "harness" / "verbs" / "probe.py").exists():
        return []
    return [base.probe(words, folder, name)]


def _stated(root: Path, known, plan_hash: str) -> str | None:
    """The reason of a baseline update that this checkout has and the base has not: its bits are meant to differ."""
    before = gate_baseline.read(root / gate_baseline.FOLDER, known.lane).history
    new = [note for note in known.history if note not in before and note.plan_hash == plan_hash]
    return new[-1].reason if new else None


def conclude(evidence, folder: Path | None) -> int:
    record = evidence.run.record
    title = f"gate: {record.lane}, plan {record.plan_hash[:8]}, seed {record.seed}, {record.speed_class}"
    return show(title, judge(evidence), folder)


def stopped(why: str, folder: Path) -> int:
    """The verdict where training or the probe itself failed."""
    outcome = Outcome("run", FAIL, "did not finish", "training and probe end with status 0", (why,))
    return show("gate", [outcome], folder)


def show(title: str, outcomes, folder: Path | None) -> int:
    print(table(title, outcomes))
    if folder is not None:
        write(folder, title, outcomes)
        print(f"kept in {folder}: gate.md, gate.xml, logs and the run")
    return 1 if failed(outcomes) else 0


def _no_baseline(plan, known) -> str:
    name, found = plan.lane.name, f"plan {plan_hash(plan)[:8]} of lane {plan.lane.name} has no baseline"
    if not known.plans:
        return f"lane {name} has no baseline"
    nearest = min((differences(plan, other.plan) for other in known.plans.values()), key=len)
    return f"{found}; the nearest one has {'; '.join(nearest[:6])}"


def _make_one(lane: str) -> str:
    return f'make one: make gate-update LANE={lane} REASON="first baseline"'
