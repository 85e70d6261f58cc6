"""Shows that the gate finds faults and passes clean runs: eight faults put in one at a time, ten clean reruns.

usage: python -m tests.sabotage [faults=NAME,NAME] [seeds=10] [clean=10] [jobs=N] [timing=off] [key=value ...]
       make sabotage [SET="clean=2 faults=slow,memory"]

On a micro lane (a shrunken tiny-moe-16e, seconds a run, one thread a process) it makes a baseline of ten seeds in a temporary
folder, then runs the gate on seed 1 with each fault patched into the running program from outside, so that plan and hash
stay what they are, and on ten seeds that the baseline does not know. Prints the table between the markers that README
embeds. Exit status 1 when a fault is missed or a clean run fails. `jobs` trainings run at a time; timings never overlap.
timing=off leaves out the probes, and so what only they find.
"""

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from harness.__main__ import HELP, answered
from harness.launch.options import Word, Words, choice, several, whole
from harness.plan.compose import compose
from harness.report.markup import head, row, text
from harness.report.statistics import ALPHA
from tests.sabotage.bench import BITS, Bench, Case
from tests.sabotage.faults import FAULTS, NONE

WORDS = Words(
    "sabotage",
    Word("faults", several(choice(*FAULTS), f"some of {', '.join(FAULTS)}"), list(FAULTS)),
    Word("seeds", whole(3), 10),
    Word("clean", whole(0), 10),
    Word("jobs", whole(1), min(4, os.cpu_count() or 1)),
    Word("timing", choice("on", "off"), "on", says="write timing=on or timing=off"),
    plan=True,
)
MICRO = (
    "lane=tiny-moe-16e unranked=true model.width=32 model.layers=2 model.heads=2 model.sequence_length=32 "
    "model.num_experts=8 model.expert_width=16 model.top_k=2 batch.tokens_per_step=256 budget.tokens=16384 "
    "validation.steps=[32] validation.batch_tokens=2048 kernels.compile=off run.log_every_steps=8 run.mlflow=off"
).split()
BEGIN, END = "<!-- sabotage -->", "<!-- /sabotage -->"


def main(arguments: list[str]) -> int:
    if any(word in HELP for word in arguments):
        print(__doc__)
        return 0
    return answered(lambda: _sabotage(arguments))


def _sabotage(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    own.plan = [*MICRO, *own.plan]
    compose(own.plan)  # a wrong word is told before anything runs
    # a second thread gains nothing at this size, and on a busy machine the two wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        return run_all(Path(folder), own)


def run_all(folder: Path, own: SimpleNamespace) -> int:
    """A baseline of seeds 1 to `seeds`, then every fault with seed 1 and `clean` later seeds without one."""
    seeds, timed = own.seeds, own.timing == "on"
    bench = Bench(folder, own.plan, timed)
    known = [(NONE, seed) for seed in range(1, seeds + 1)]
    judged = [(fault, 1) for fault in own.faults] + [(NONE, seed) for seed in range(seeds + 1, seeds + own.clean + 1)]
    print(f"training {len(known) + len(judged)} runs, {own.jobs} at a time ...", flush=True)
    runs = bench.train([*known, *judged], own.jobs)
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


def missed(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.fault != NONE and not case.caught_by]


def disturbed(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.fault == NONE and case.caught_by]


def markdown(cases: list[Case], hardware_class: str, seeds: int) -> str:
    said = f"baseline of n = {seeds} seeds; seed noise alone fails a clean run with a probability of at most {ALPHA:.0%}"
    lines = [BEGIN, f"Printed by `make sabotage` ({text(hardware_class)}; {said}):", ""]
    lines += head(("fault", "caught by", "also without exact bits?"))
    for case in (case for case in cases if case.fault != NONE):
        lines.append(row((FAULTS[case.fault][0], ", ".join(case.caught_by) or "**missed**", _without_bits(case))))
    reruns, bad = [case for case in cases if case.fault == NONE], disturbed(cases)
    names = "; ".join(f"seed {case.seed} failed by {', '.join(case.caught_by)}" for case in bad)
    passed = f"Clean reruns with other seeds: {len(reruns) - len(bad)} of {len(reruns)} pass"
    return "\n".join([*lines, "", passed + (f" ({names})." if bad else "."), END])


def _without_bits(case: Case) -> str:
    if not case.caught_by:
        return "-"
    return "no: only equal bits show it" if case.caught_by == [BITS] else "yes"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
