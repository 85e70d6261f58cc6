"""The race of a study: the seconds that each case would take to pass the line of its lane.

Its *seconds to the line* are the equivalent seconds of harness/record/ledger.py, train_s * exp((slice - level) / slope), with
the slope of its family: the bits per ln(second) by which its own case lies below the same plan with half the budget, the mean
over seeds. So the half itself is level with its family's own case, in the mean, whatever it came to.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from harness.plan.race import HALF
from harness.plan.study import Study
from harness.record.ledger import equivalent_s, fall
from harness.record.schema import Target
from harness.report.statistics import Sample
from harness.report.study.families import Value
from harness.report.study.trials import Trial


def raced(trial: Trial) -> float | None:
    """What the target is about, at the end."""
    return trial.raced


def ln_seconds(trial: Trial) -> float | None:
    """ln of the training seconds of the whole budget; None where they are not the run's own."""
    return None if trial.train_s is None else math.log(trial.train_s)


def target_of(trials: Sequence[Trial]) -> Target | None:
    """That of the study's lane; None before a run has finished, and of a track without one."""
    return next((trial.record.metrics.target for trial in trials if trial.record), None)


def unit(trials: Sequence[Trial]) -> str:
    """In which the figure that the target is about is measured."""
    target = target_of(trials)
    return trials[0].nats if target and target.metric == "slice_loss" else trials[0].measure


def slopes(study: Study, trials: Sequence[Trial]) -> dict[str, Sample]:
    """By family: bits per ln(second), a value a seed that has both the family's own case and its half with seconds of their
    own. A family without such a seed is left out."""
    found: dict[str, list[float]] = {}
    for family in study.families:
        whole, half = (_points(trials, case) for case in (family, f"{family}-{HALF}"))
        for seed in sorted(whole.keys() & half.keys()):
            found.setdefault(family, []).append(fall([half[seed], whole[seed]]))
    return {family: Sample.of(values) for family, values in found.items()}


def _points(trials: Sequence[Trial], case: str) -> dict[int, tuple[float, float]]:
    """{seed: (training seconds, bits)}."""
    of_case = [trial for trial in trials if trial.case == case and trial.train_s and trial.raced]
    return {trial.seed: (trial.train_s, trial.raced) for trial in of_case}


def to_line(study: Study, trials: Sequence[Trial]) -> dict[str, Value]:
    """By family: ln of the seconds to the line of its trials; nothing of a family whose bits do not fall with seconds."""
    target = target_of(trials)
    falling = {family: slope.mean for family, slope in slopes(study, trials).items() if slope.mean > 0}
    return {family: _to_line(target.level, slope) for family, slope in falling.items()} if target else {}


def _to_line(level: float, slope: float) -> Callable[[Trial], float | None]:
    def value(trial: Trial) -> float | None:
        seconds, bits = trial.train_s, trial.raced
        return None if seconds is None or bits is None else math.log(equivalent_s(seconds, bits, level, slope))

    return value


def why_no_line(study: Study, falling: Mapping[str, Value]) -> str:
    """ "no seconds to the line of moe: ..."; empty where every family has a slope."""
    without = [family for family in study.families if family not in falling]
    why = f"no seed has both its case and its {HALF} with seconds of their own, or bits do not fall between them"
    return f"no seconds to the line of {' and '.join(without)}: {why}" if without else ""
