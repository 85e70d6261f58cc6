"""Runs with and without faults, a baseline of clean seeds, and the gate's verdict on each of the others."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.launch.checkout import JobFailed
from harness.launch.gate import probed
from harness.record.provenance import now
from harness.record.results import PlanBaseline
from harness.report.gate import baseline as gate_baseline
from harness.report.gate.verdict import FAIL, Evidence, Outcome, judge
from harness.report.run_data import RunData
from tests.sabotage.faults import NONE
from tests.sabotage.program import FaultyCheckout

BITS = "exact bits"


@dataclass(frozen=True)
class Case:
    """One judged run: the fault that was in it (NONE for a clean one), its seed, and the outcomes."""

    fault: str
    seed: int
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == FAIL]

    @property
    def caught_by(self) -> list[str]:
        return [outcome.detector for outcome in self.failed]


@dataclass(frozen=True)
class Bench:
    folder: Path
    words: list[str]
    timed: bool  # without timing neither speed nor the scorer is judged

    def train(self, cases: list[tuple[str, int]], jobs: int) -> list[RunData | JobFailed]:
        """(fault, seed) of each run, `jobs` at a time: no timing is taken from them."""
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(lambda case: self._train(*case), cases))

    def _train(self, fault: str, seed: int) -> RunData | JobFailed:
        try:
            return FaultyCheckout(fault=fault, timed=self.timed).train(self._plan(seed), self._place(fault, seed))
        except JobFailed as failed:
            return failed

    def baseline(self, runs: list[RunData | JobFailed]) -> PlanBaseline:
        """Of clean runs, written and read back as a committed one is. Raises: UserError where one did not finish."""
        try:
            if broken := [run for run in runs if isinstance(run, JobFailed)]:
                raise broken[0]
            seeds = [run.record.seed for run in runs] if self.timed else []
            probes = [FaultyCheckout().probe(self._plan(seed), self._place(NONE, seed)) for seed in seeds]
        except JobFailed as failed:
            raise UserError(str(failed), "mend that first: there is no fault in it") from failed
        record = runs[0].record
        empty = gate_baseline.empty(record.lane)
        gate_baseline.write(self.folder, gate_baseline.updated(empty, runs, probes, "the program without a fault", now()))
        return gate_baseline.read(self.folder, record.lane).plans[record.plan_hash]

    def judge(self, fault: str, seed: int, run: RunData | JobFailed, baseline: PlanBaseline) -> Case:
        try:
            if isinstance(run, JobFailed):
                raise run
            words, place = self._plan(seed), self._place(fault, seed)
            evidence = (
                probed(FaultyCheckout(fault=fault), words, place, run, baseline) if self.timed else Evidence(run, baseline)
            )
        except JobFailed as failed:
            unfinished = Outcome("run", FAIL, "did not finish", "training and probe end with status 0", (str(failed),))
            return Case(fault, seed, (unfinished,))
        return Case(fault, seed, tuple(judge(evidence)))

    def _plan(self, seed: int) -> list[str]:
        return [*self.words, f"seed={seed}"]

    def _place(self, fault: str, seed: int) -> Path:
        return self.folder / f"{fault}-{seed}"
