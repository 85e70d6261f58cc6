"""What ranks a group on time: the one place that tells open lanes from those that fix a budget.

A lane that fixes the budget asks when the curve of every seed passed the target. An open lane leaves the budget to the
contestant and asks for the training seconds of all of it, where the mean of the seeds lies below the target at the end: a seed
that misses it by itself does not matter. There seconds alone rank, since with any budget bits per byte can be had.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.run_data import RunData
from harness.report.statistics import Sample


@dataclass(frozen=True)
class Rule:
    """What ranks lanes that fix a budget, and the words in which boards speak of it."""

    boards: str = ""  # what follows a track's name in the title of its boards, which are its own
    column: str = "to target, s"
    means: str = "training seconds to the target, mean ± sd over seeds; only where every seed reached it undisturbed"
    counted: str = "to target"  # after "88.4 s"
    unreached: str = "target not reached by every seed"
    fixed_by: str = "the lane"  # who fixes the last step
    seconds_alone: bool = False  # nothing else ranks a group
    of_table: str = ""  # what "to target" means in a table of runs of any lane, where that needs a word
    beside: frozenset[str] = frozenset()  # further columns of its boards

    def of_run(self, run: RunData) -> float | None:
        """The seconds that a run has to show, whatever they are worth; None where it has none."""
        return run.record.metrics.time_to_target_s

    def seconds(self, runs: Sequence[RunData]) -> Sample | None:
        """Those of a group; None where they rank nothing."""
        found = [self.of_run(run) for run in runs]
        return None if None in found else Sample.of(found)

    def missing(self, runs: Sequence[RunData]) -> str:
        """Why a group without seconds has none, in a few words."""
        reached = sum(run.record.metrics.target_reached for run in runs)
        return "not reached" if len(runs) == 1 else f"{reached} of {len(runs)} reached it"

    def no_time(self, runs: Sequence[RunData]) -> str:
        """The same as a sentence of a claim."""
        reached = sum(run.record.metrics.target_reached for run in runs)
        return f"{reached} of {len(runs)} seeds reached the target: no time is claimed"


@dataclass(frozen=True)
class Race(Rule):
    """What ranks open lanes."""

    boards: str = ", open"
    column: str = "training, s"
    means: str = (
        "training seconds of the whole budget, mean ± sd over seeds; only undisturbed, and where their mean at the end is "
        "below the target"
    )
    counted: str = "of training"
    unreached: str = "not below the target at the end"
    fixed_by: str = "the plan"
    seconds_alone: bool = True
    of_table: str = "of an open lane: training seconds of the whole budget, where the mean at the end is below the target"
    beside: frozenset[str] = frozenset({"parameters", "active"})

    def of_run(self, run: RunData) -> float | None:
        return run.record.clock.train_s

    def seconds(self, runs: Sequence[RunData]) -> Sample | None:
        target = runs[0].target
        if target is None or Sample.of([getattr(run.record.metrics, target.metric) for run in runs]).mean >= target.level:
            return None
        return super().seconds(runs)

    def missing(self, runs: Sequence[RunData]) -> str:
        return "not below it"

    def no_time(self, runs: Sequence[RunData]) -> str:
        return "at the end the seeds are not below the target: no time is claimed"


TO_TARGET, RACE = Rule(), Race()


def rule_of(plan: dict[str, Any]) -> Rule:
    """`plan`: as plan.yaml has it; one that is older than the key is of a lane that fixes the budget."""
    return RACE if plan["lane"].get("open", False) else TO_TARGET
