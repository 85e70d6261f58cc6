"""What a search would run, said before anything is: arms, trials, what reaches each rung, seconds, the first draws."""

import statistics
from dataclasses import dataclass

import optuna

from harness.errors import UserError
from harness.launch.search.arms import distributions, sampler
from harness.launch.search.course import Course
from harness.launch.search.halving import expected
from harness.launch.search.seconds import shape_of
from harness.launch.series.grid import HOUR_S
from harness.plan.space_check import Draw, drawn
from harness.record.ledger import LedgerTrial
from harness.shown import one_line

LOOKED_AT = 6  # random draws of a family, whose seconds stand for all of its trials
FIRST = 3  # draws of an arm that are shown


@dataclass(frozen=True)
class Forecast:
    """What an arm of a family would take: `reach`, how many trials come to each rung; `run_s`, a run there without compilation;
    `shapes`, how many of the drawn are still to be compiled, and what one costs; `refused`, draws that are no plan."""

    reach: list[float]
    run_s: list[float]
    shapes: int
    compile_s: float
    refused: int

    @property
    def total_s(self) -> float:
        return sum(count * seconds for count, seconds in zip(self.reach, self.run_s))


def plan_text(course: Course, trials: list[LedgerTrial]) -> str:
    space = course.space
    lines = [
        f"{'arm':<16}{'trials':>8}{'done':>6}  " + "".join(f"{f'at {share:g}':>10}{'s a run':>9}" for share in space.rungs)
    ]
    total = 0.0
    for family in space.families:
        draws = {arm: draws_of(course, arm, LOOKED_AT) for arm in space.arms if arm[0] == family}
        forecast = forecast_of(course, family, [draw for some in draws.values() for draw in some])
        for arm in draws:
            done = sum(trial.arm == "/".join(arm) and trial.state != "running" for trial in trials)
            cells = "".join(f"{reach:>10.1f}{run_s:>9.0f}" for reach, run_s in zip(forecast.reach, forecast.run_s))
            lines.append(f"{'/'.join(arm):<16}{space.trials:>8}{done:>6}  {cells}")
            total += forecast.total_s
        total += forecast.shapes * forecast.compile_s
        told = f"{forecast.shapes} shapes are new here, each of which takes about {forecast.compile_s:.0f} s to compile once"
        told += ", where nothing compiled it before"
        lines.append(f"  {family}: {told}" + (f"; {forecast.refused} draws are no plan" if forecast.refused else ""))
        for arm, some in draws.items():
            lines += [f"    {'/'.join(arm)} {n}: {_told(draw)}" for n, draw in enumerate(some[:FIRST])]
    spent = sum(trial.spent_s for trial in trials)
    lines += [
        "",
        f"all trials take about {total / HOUR_S:.2f} h, compilation included; {spent / HOUR_S:.2f} h of training are there",
        f"a rung is a whole run with its own decay; of n trials there the best ceil(n / {space.reduction}) go on",
    ]
    return "\n".join(lines)


def draws_of(course: Course, arm: tuple[str, str], count: int) -> list[Draw | UserError]:
    """The first draws of an arm, as they are where nothing has been run: a TPE arm's are random until it has seen some."""
    study, found = optuna.create_study(), []
    study.enqueue_trial(course.storage.starts[arm[0]])
    for number in range(count):
        study.sampler = sampler(course.space, arm, number)
        params = study.ask(distributions(course.space, arm[0])).params
        try:
            found.append(drawn(course.space, arm[0], params if number else None))
        except UserError as error:
            found.append(error)
    return found


def forecast_of(course: Course, family: str, draws: list[Draw | UserError]) -> Forecast:
    plans = [[rung.plan for rung in draw.rungs] for draw in draws if isinstance(draw, Draw)]
    seconds, space = course.seconds, course.space
    compiles = {shape_of(plan): seconds.compile_s(plan) for some in plans for plan in some}
    run_s = [
        statistics.fmean(seconds.of(family, some[place]) - seconds.compile_s(some[place]) for some in plans)
        for place in range(len(space.rungs))
    ]
    new = [each for each in compiles.values() if each]
    reach = expected(space.trials, len(space.rungs), space.reduction)
    return Forecast(reach, run_s, len(new), max(new, default=0.0), len(draws) - len(plans))


def _told(draw: Draw | UserError) -> str:
    return " ".join(draw.words) if isinstance(draw, Draw) else f"no plan: {one_line(draw)}"
