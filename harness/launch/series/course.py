"""A series on its way: what is there, what fits, what is run next and how long it took."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.launch.job import Job, State, is_run_of, make_job, take_or_run
from harness.launch.series.grid import HOUR_S, Grid, fitting
from harness.launch.series.points import SeriesPoint, points_of, study_of_points
from harness.launch.series.seconds import Seconds, measured
from harness.plan.series import Series
from harness.plan.study import Study
from harness.report.groups import read_runs
from harness.report.study.trials import Trial, read_trial
from harness.shown import one_line

SPARE = 1.1  # of the time left: the last run may take so much more than what is left when it begins


@dataclass
class Course:
    """`there`: (point, seed) of runs that exist; `jobs`: by point."""

    series: Series
    points: dict[str, SeriesPoint]
    jobs: dict[str, Job]
    places: list[Path]
    known: list
    seconds: Seconds
    state: State = field(default_factory=State)
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, series: Series) -> "Course":
        """Raises: UserError where the series has no plans, or this machine cannot run them."""
        points = points_of(series)
        jobs = {name: make_job(name, point.words[1:], point.plan) for name, point in points.items()}
        places, problems = [Path(next(iter(jobs.values())).plan.run.folder), Path("results")], []
        found = cls(
            series, points, jobs, places, list(read_runs(places, problems, studies=True)),
            measured(points.values(), series.scored),
        )  # fmt: skip
        found.state.complaints += [f"skipped: {one_line(problem)}" for problem in problems]
        names = {job.plan_hash: name for name, job in jobs.items()}
        for run in found.known:
            if name := names.get(run.record.plan_hash):
                found.seconds.learn(points[name], run)
        return found

    @property
    def folder(self) -> Path:
        """Where what is drawn of it goes."""
        return self.places[0] / f"series-{self.series.name}"

    def there(self, seeds: Sequence[int]) -> set[tuple[str, int]]:
        """(point, seed) of the runs that exist."""
        return {
            (name, seed)
            for name, job in self.jobs.items()
            for seed in seeds
            if (name, seed) in self.state.done or any(is_run_of(run, job, seed) for run in self.known)
        }

    def of_point(self, name: str) -> float:
        """Seconds of a run of it."""
        return self.seconds.of(self.points[name])[0]

    def known_ahead(self, seeds: Sequence[int]) -> list[tuple[str, int]]:
        """Runs ahead of the grid that exist: an earlier prediction may have chosen another size."""
        return [(name, seed) for name, seed in sorted(self.there(seeds)) if self.points[name].budget == self.series.ahead]

    def slowest_ahead(self) -> list[str]:
        """The point ahead of each family that would take longest: before a prediction nobody knows which one it will be."""
        ahead = [point for point in self.points.values() if point.budget == self.series.ahead]
        by_family = [[p.name for p in ahead if p.family == family] for family in self.series.families]
        return [max(names, key=self.of_point) for names in by_family]

    def fitting(self, seeds: Sequence[int], hours: float) -> tuple[Grid, list[tuple[Grid, float]]]:
        """The largest part that fits, and all parts with the seconds that they lack. Raises: UserError where none fits."""
        return fitting(self.series, seeds, hours, self.there(seeds), self.of_point, self.slowest_ahead())

    def run(self, runs: Sequence[tuple[str, int]], hours: float) -> list[tuple[str, int]]:
        """Takes or makes these, in their order, as long as there is time; returns those that were left."""
        there = self.there(sorted({seed for _, seed in runs}))
        for place, (name, seed) in enumerate(runs):
            left_s = hours * HOUR_S - (time.monotonic() - self.began)
            if (name, seed) not in there and self.of_point(name) > SPARE * left_s:
                return list(runs[place:])
            began = time.monotonic()
            take_or_run(self.jobs[name], seed, self.known, self.state, self.places)
            run = self.state.done.get((name, seed))
            if run and (name, seed) not in there:
                self.seconds.learn(self.points[name], run, time.monotonic() - began)
        return []

    def study(self) -> Study:
        """Its cases: the points that there are runs of."""
        seen = {name for name, _ in (*self.state.done, *self.state.stopped)}
        return study_of_points(self.series, [point for point in self.points.values() if point.name in seen])

    def trials(self) -> list[Trial]:
        """Every run that was taken or made, by point and seed."""
        order = list(self.points)
        keys = sorted({*self.state.done, *self.state.stopped}, key=lambda key: (order.index(key[0]), key[1]))
        return [read_trial(name, seed, self.state.folder(name, seed)) for name, seed in keys]

    def warn(self) -> None:
        for complaint in self.state.complaints:
            print(f"warning: {complaint}", file=sys.stderr)
