"""`gate update`: accepts how a plan behaves now as its baseline, for a stated reason."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.errors import UserError
from harness.launch.checkout import Checkout, JobFailed, new_folder
from harness.launch.gate import baselines_of
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.stored import words_of
from harness.record.provenance import now
from harness.report.gate import baseline as gate_baseline
from harness.report.integrity import check
from harness.report.run_data import load_run

SEEDS = (1, 2, 3)
PROBES = 5  # processes timed; their spread decides which slowdown is noise


def update(own: SimpleNamespace) -> int:
    if not own.reason.strip():
        raise UserError("a baseline is not changed without a reason", 'add reason="what changed, and why that is meant"')
    words = own.plan
    given = [load_run(folder) for folder in own.names]
    if all(word.startswith("run.") for word in words):  # nothing said about the plan: the runs' own
        words = [*_words_of(given), *words]
    words = [word for word in words if not word.startswith("seed=")]
    plan = compose(words).plan
    runs = {run.record.seed: run for run in given}
    for run in given:
        _refuse(run, plan)
    wanted = _seeds(own.seeds, list(runs))
    return _write(own, words, plan, runs, wanted, baselines_of(own))


def _write(own: SimpleNamespace, words: list[str], plan, runs: dict[int, Any], wanted: list[int], place: Path) -> int:
    before = gate_baseline.read(place, plan.lane.name)
    folder = new_folder(own.out, plan.run.folder, "gate-update-")
    checkout = Checkout()
    try:
        for seed in (seed for seed in wanted if seed not in runs):
            print(f"training seed {seed} of {plan.lane.name} in {folder}", flush=True)
            runs[seed] = checkout.train([*words, f"seed={seed}"], folder, f"seed-{seed}")
            _refuse(runs[seed], plan)
        probes = []
        for i in range(1, PROBES + 1):
            print(f"timing {i} of {PROBES}", flush=True)
            probes.append(checkout.probe([*words, f"seed={wanted[0]}"], folder, f"probe-{i}"))
    except JobFailed as failed:
        raise UserError(str(failed), "a baseline is made of runs that finish: mend that first") from failed
    chosen = [runs[seed] for seed in wanted]
    _refuse_other_class(chosen, probes)
    if disturbed := sum(probe.timing.disturbed for probe in probes):
        print(f"{disturbed} of {len(probes)} timings are left out, others took the machine; without any, speed is not judged")
    path = gate_baseline.write(place, gate_baseline.updated(before, chosen, probes, own.reason, now()))
    print(f"baseline of {plan.lane.name}: seeds {', '.join(map(str, wanted))} on {chosen[0].record.speed_class}")
    print(f"written to {path}; commit it together with the change that it accepts")
    return 0


def _words_of(runs: list[Any]) -> list[str]:
    """The plan of a finished run in words, less its seed; without a run the default lane."""
    if not runs:
        return []
    return [word for word in words_of(runs[0].plan, str(runs[0].folder / "plan.yaml")) if not word.startswith("seed=")]


def _refuse(run, plan) -> None:
    """Only whole evidence of the very plan becomes a baseline."""
    if run.record.plan_hash != plan_hash(plan):
        raise UserError(
            f"{run.folder} ran plan {run.record.plan_hash[:8]}, these words make {plan_hash(plan)[:8]}",
            "name runs of one plan, with the words that made them",
        )
    found = check(run)
    if found:
        raise UserError(f"{run.folder} contradicts itself: {found[0]}", "restore it, or leave it out to train that seed anew")


def _refuse_other_class(runs: list[Any], probes: list[Any]) -> None:
    classes = {run.record.speed_class for run in runs} | {probe.hardware_class for probe in probes}
    if len(classes) > 1:
        raise UserError(
            f"runs and timings are of {len(classes)} hardware classes: {'; '.join(sorted(classes))}",
            "leave out the runs of other machines: their seeds are then trained here",
        )


def _seeds(named: list[int] | None, given: list[int]) -> list[int]:
    """Those named, else those given, filled up with the lowest others to as many as a claim takes."""
    if named is None:
        others = [seed for seed in range(1, 1 + len(SEEDS) + len(given)) if seed not in given]
        return sorted([*given, *others[: max(0, len(SEEDS) - len(given))]])
    wanted = sorted({*named, *given})
    if len(wanted) < len(SEEDS):
        raise UserError(
            f"seeds={','.join(map(str, named))}: {len(wanted)} seeds",
            f"name at least {len(SEEDS)}: fewer show no spread worth the name",
        )
    return wanted
