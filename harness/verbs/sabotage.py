"""Shows that the gate finds faults and passes clean runs: eight faults put in one at a time, ten clean reruns.

usage: python -m harness sabotage [faults=NAME,NAME] [seeds=10] [clean=10] [jobs=N] [key=value ...]
       make sabotage [SET="clean=2 faults=slow,memory"]

On a micro lane (a shrunken tiny-moe-16e, seconds a run, one thread a process) it makes a baseline of ten seeds in a temporary
folder, then runs the gate on seed 1 with each fault patched into the running program from outside, so that plan and hash
stay what they are, and on ten seeds that the baseline does not know. Prints the table between the markers that README
embeds. Exit status 1 when a fault is missed or a clean run fails. `jobs` trainings run at a time; timings never overlap.
"""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError, nearest

SUMMARY = "put eight faults in, one at a time: the gate must find each and pass ten clean runs"
OWN = ("faults", "seeds", "clean", "jobs")
MICRO = (
    "lane=tiny-moe-16e unranked=true model.width=32 model.layers=2 model.heads=2 model.sequence_length=32 "
    "model.num_experts=8 model.expert_width=16 model.top_k=2 batch.tokens_per_step=256 budget.tokens=16384 "
    "validation.steps=[32] validation.batch_tokens=2048 kernels.compile=off run.log_every_steps=8"
).split()
BEGIN, END = "<!-- sabotage -->", "<!-- /sabotage -->"
BITS = "exact bits"


@dataclass(frozen=True)
class Case:
    """One judged run: the fault that was in it (NONE for a clean one), its seed, and the outcomes."""

    fault: str
    seed: int
    outcomes: tuple[Any, ...]

    @property
    def caught_by(self) -> list[str]:
        return [o.detector for o in self.outcomes if o.status == "fail"]


def main(arguments: list[str]) -> int:
    from harness.plan.compose import compose
    from harness.sabotage.faults import FAULTS

    own = dict(word.split("=", 1) for word in arguments if word.split("=", 1)[0] in OWN and "=" in word)
    words = [*MICRO, *(word for word in arguments if word.split("=", 1)[0] not in OWN)]
    plan = compose(words).plan  # a wrong word is told before anything runs
    faults = own.get("faults", ",".join(FAULTS)).split(",")
    for name in faults:
        if name not in FAULTS:
            raise UserError(f"unknown fault {name!r}", nearest(name, FAULTS))
    seeds, clean, jobs = (
        _whole(key, own.get(key, default), least)
        for key, default, least in (("seeds", "10", 3), ("clean", "10", 0), ("jobs", str(min(4, os.cpu_count() or 1)), 1))
    )
    # a second thread gains nothing at this size, and on a busy machine the two wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        cases, hardware_class = run_all(Path(folder), words, faults, seeds, clean, jobs)
    print(markdown(cases, hardware_class, seeds, plan.steps))
    return 1 if missed(cases) or disturbed(cases) else 0


def _whole(key: str, text: str, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise UserError(f"{key}={text}", f"{key} must be a whole number of at least {least}")
    return int(text)


def run_all(folder: Path, words: list[str], faults: list[str], seeds: int, clean: int, jobs: int) -> tuple[list[Case], str]:
    """A baseline of seeds 1 to `seeds`, then every fault with seed 1 and `clean` later seeds without one."""
    from harness.plan.compose import compose
    from harness.plan.fingerprint import plan_hash
    from harness.record.provenance import now
    from harness.report import gate_baseline
    from harness.sabotage.faults import NONE

    known, new = range(1, seeds + 1), range(seeds + 1, seeds + clean + 1)
    wanted = [(NONE, seed) for seed in known] + [(name, 1) for name in faults] + [(NONE, seed) for seed in new]
    print(f"training {len(wanted)} runs, {jobs} at a time ...", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        runs = dict(zip(wanted, pool.map(lambda case: _train(folder, words, *case), wanted)))
    print(f"timing {len(wanted)} processes, one at a time ...", flush=True)
    probes = [_probe(folder, words, NONE, seed) for seed in known]
    baseline_runs = [runs[NONE, seed] for seed in known]
    if any(isinstance(found, str) for found in (*baseline_runs, *probes)):
        raise UserError(next(f for f in (*baseline_runs, *probes) if isinstance(f, str)), "mend that first: it is a clean run")
    empty = gate_baseline.Baseline("tiny-moe-16e")
    made = gate_baseline.updated(empty, baseline_runs, probes, "sabotage", now())
    gate_baseline.write(folder / "baselines", made)
    plan = gate_baseline.read(folder / "baselines", empty.lane).plans[plan_hash(compose(words).plan)]
    cases = []
    for fault, seed in wanted[seeds:]:
        case = Case(fault, seed, _judged(folder, words, fault, seed, runs[fault, seed], plan))
        cases.append(case)
        print(f"  {fault} (seed {seed}): {', '.join(case.caught_by) or 'passes'}", flush=True)
        for outcome in case.outcomes:
            if outcome.status == "fail":
                print("".join(f"      {outcome.detector}: {reason}\n" for reason in outcome.reasons[:2]), end="", flush=True)
    return cases, baseline_runs[0].record["hardware_class"]


def _train(folder: Path, words: list[str], fault: str, seed: int) -> Any:
    """The finished run, or in words why there is none."""
    from harness.sabotage.program import FaultyCheckout
    from harness.verbs.gate_job import JobFailed

    try:
        return FaultyCheckout(fault=fault).train([*words, f"seed={seed}"], folder / fault, f"train-{seed}")
    except JobFailed as failed:
        return str(failed)


def _probe(folder: Path, words: list[str], fault: str, seed: int, again: int = 0) -> Any:
    from harness.sabotage.program import FaultyCheckout
    from harness.verbs.gate_job import JobFailed

    try:
        return FaultyCheckout(fault=fault).probe([*words, f"seed={seed}"], folder / fault, f"probe-{seed}-{again}")
    except JobFailed as failed:
        return str(failed)


def _judged(folder: Path, words: list[str], fault: str, seed: int, run: Any, baseline) -> tuple[Any, ...]:
    """As `gate` judges: what did not finish fails, a probe that looks slow is repeated."""
    from harness.report.gate import FAIL, Evidence, Outcome, judge, speed
    from harness.verbs.gate import MORE_PROBES

    first = run if isinstance(run, str) else _probe(folder, words, fault, seed)
    if isinstance(first, str):
        return (Outcome("run", FAIL, "did not finish", "training and probe end with status 0", (first,)),)
    evidence = Evidence(run, baseline, probes=[first])
    if speed(evidence).status == FAIL:
        more = [_probe(folder, words, fault, seed, i + 1) for i in range(MORE_PROBES)]
        evidence = replace(evidence, probes=[first, *more])
    return tuple(judge(evidence))


def missed(cases: list[Case]) -> list[Case]:
    from harness.sabotage.faults import NONE

    return [case for case in cases if case.fault != NONE and not case.caught_by]


def disturbed(cases: list[Case]) -> list[Case]:
    from harness.sabotage.faults import NONE

    return [case for case in cases if case.fault == NONE and case.caught_by]


def markdown(cases: list[Case], hardware_class: str, seeds: int, steps: int) -> str:
    from harness.report.statistics import ALPHA
    from harness.sabotage.faults import FAULTS, NONE

    lines = [BEGIN, f"Printed by `make sabotage` ({hardware_class}; {steps} steps a run; baseline of n = {seeds} seeds; "
             f"false alarms of the seed-noise family bounded at {ALPHA:.0%} a run):", "",
             "| fault | caught by | also without exact bits? |", "|---|---|---|"]  # fmt: skip
    for case in (case for case in cases if case.fault != NONE):
        others = [name for name in case.caught_by if name != BITS]
        lines.append(f"| {FAULTS[case.fault][0]} | {', '.join(case.caught_by) or '**missed**'} | {_without(others)} |")
    reruns, bad = [case for case in cases if case.fault == NONE], disturbed(cases)
    names = "; ".join(f"seed {case.seed} failed by {', '.join(case.caught_by)}" for case in bad)
    lines += [
        "",
        f"Clean reruns with other seeds: {len(reruns) - len(bad)} of {len(reruns)} pass{f' ({names})' if bad else ''}.",
        END,
    ]
    return "\n".join(lines)


def _without(others: list[str]) -> str:
    return "yes" if others else "no: only equal bits show it"
