"""Shows that the gate finds faults and passes clean runs: eight faults put in one at a time, ten clean reruns.

usage: python -m harness sabotage [faults=NAME,NAME] [seeds=10] [clean=10] [jobs=N] [timing=off] [key=value ...]
       make sabotage [SET="clean=2 faults=slow,memory"]

On a micro lane (a shrunken tiny-moe-16e, seconds a run, one thread a process) it makes a baseline of ten seeds in a temporary
folder, then runs the gate on seed 1 with each fault patched into the running program from outside, so that plan and hash
stay what they are, and on ten seeds that the baseline does not know. Prints the table between the markers that README
embeds. Exit status 1 when a fault is missed or a clean run fails. `jobs` trainings run at a time; timings never overlap.
timing=off leaves out the probes, and so what only they find.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from harness.errors import UserError, nearest

SUMMARY = "put eight faults in, one at a time: the gate must find each and pass ten clean runs"
OWN = ("faults", "seeds", "clean", "jobs", "timing")
MICRO = (
    "lane=tiny-moe-16e unranked=true model.width=32 model.layers=2 model.heads=2 model.sequence_length=32 "
    "model.num_experts=8 model.expert_width=16 model.top_k=2 batch.tokens_per_step=256 budget.tokens=16384 "
    "validation.steps=[32] validation.batch_tokens=2048 kernels.compile=off run.log_every_steps=8"
).split()
BEGIN, END = "<!-- sabotage -->", "<!-- /sabotage -->"


def main(arguments: list[str]) -> int:
    from harness.plan.compose import compose
    from harness.sabotage.faults import FAULTS

    own = dict(word.split("=", 1) for word in arguments if word.split("=", 1)[0] in OWN and "=" in word)
    words = [*MICRO, *(word for word in arguments if word.split("=", 1)[0] not in OWN)]
    compose(words)  # a wrong word is told before anything runs
    faults = own["faults"].split(",") if "faults" in own else list(FAULTS)
    for name in faults:
        if name not in FAULTS:
            raise UserError(f"unknown fault {name!r}", nearest(name, FAULTS))
    if own.get("timing", "on") not in ("on", "off"):
        raise UserError(f"timing={own['timing']}", "write timing=on or timing=off")
    seeds, clean = _whole(own, "seeds", 10, 3), _whole(own, "clean", 10, 0)
    jobs = _whole(own, "jobs", min(4, os.cpu_count() or 1), 1)
    # a second thread gains nothing at this size, and on a busy machine the two wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        return run_all(Path(folder), words, faults, seeds, clean, jobs, own.get("timing") != "off")


def _whole(own: dict[str, str], key: str, default: int, least: int) -> int:
    text = own.get(key, str(default))
    if not text.isdigit() or int(text) < least:
        raise UserError(f"{key}={text}", f"{key} must be a whole number of at least {least}")
    return int(text)


def run_all(folder: Path, words: list[str], faults: list[str], seeds: int, clean: int, jobs: int, timed: bool) -> int:
    """A baseline of seeds 1 to `seeds`, then every fault with seed 1 and `clean` later seeds without one."""
    from harness.sabotage.bench import Bench
    from harness.sabotage.faults import NONE

    bench = Bench(folder, words, timed)
    known = [(NONE, seed) for seed in range(1, seeds + 1)]
    judged = [(fault, 1) for fault in faults] + [(NONE, seed) for seed in range(seeds + 1, seeds + clean + 1)]
    print(f"training {len(known) + len(judged)} runs, {jobs} at a time ...", flush=True)
    runs = bench.train([*known, *judged], jobs)
    print("timing one process at a time, and judging ..." if timed else "judging ...", flush=True)
    baseline = bench.baseline(runs[: len(known)])
    cases = []
    for (fault, seed), run in zip(judged, runs[len(known) :]):
        cases.append(bench.judge(fault, seed, run, baseline))
        print(f"  {fault}, seed {seed}: {', '.join(cases[-1].caught_by) or 'passes'}", flush=True)
        for outcome in cases[-1].failed:
            print(f"      {outcome.detector}: {outcome.reasons[0]}", flush=True)
    print(markdown(cases, runs[0].record.hardware_class, seeds))
    return 1 if missed(cases) or disturbed(cases) else 0


def missed(cases: list[Any]) -> list[Any]:
    from harness.sabotage.faults import NONE

    return [case for case in cases if case.fault != NONE and not case.caught_by]


def disturbed(cases: list[Any]) -> list[Any]:
    from harness.sabotage.faults import NONE

    return [case for case in cases if case.fault == NONE and case.caught_by]


def markdown(cases: list[Any], hardware_class: str, seeds: int) -> str:
    from harness.report.markup import head, row, text
    from harness.report.statistics import ALPHA
    from harness.sabotage.faults import FAULTS, NONE

    said = f"baseline of n = {seeds} seeds; seed noise alone fails a clean run with a probability of at most {ALPHA:.0%}"
    lines = [BEGIN, f"Printed by `make sabotage` ({text(hardware_class)}; {said}):", ""]
    lines += head(("fault", "caught by", "also without exact bits?"))
    for case in (case for case in cases if case.fault != NONE):
        lines.append(row((FAULTS[case.fault][0], ", ".join(case.caught_by) or "**missed**", _without_bits(case))))
    reruns, bad = [case for case in cases if case.fault == NONE], disturbed(cases)
    names = "; ".join(f"seed {case.seed} failed by {', '.join(case.caught_by)}" for case in bad)
    passed = f"Clean reruns with other seeds: {len(reruns) - len(bad)} of {len(reruns)} pass"
    return "\n".join([*lines, "", passed + (f" ({names})." if bad else "."), END])


def _without_bits(case: Any) -> str:
    from harness.sabotage.bench import BITS

    if not case.caught_by:
        return "-"
    return "no: only equal bits show it" if case.caught_by == [BITS] else "yes"
