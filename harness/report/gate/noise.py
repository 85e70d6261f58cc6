"""Is a figure of one run inside what seeds alone would give? Prediction intervals from the seeds of a baseline.

All comparisons of a run form one family: each is made at 1 - ALPHA / m (Bonferroni), so that a run that differs by its seed
alone fails any of the m with a probability of at most ALPHA. Seeds are taken to be independent and figures to be roughly
normal. With few seeds the intervals are wide: two of three seeds differ by chance, and the gate says how wide they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.record.results import Figures
from harness.report.statistics import ALPHA, Sample, quantile

# Figures on a grid (a bias moves in steps of its rate) or near a bound (entropy near 1) can show no spread in a few seeds:
# an interval is never narrower than this.
FLOORS = {"worst entropy": 0.002, "max load": 0.5, "bias range": 0.02, "dead": 0.5}
ROUNDING = 1e-9  # the mean of equal numbers is not always that number
BELOW, ABOVE, BOTH = "below", "above", "both"


@dataclass(frozen=True)
class Comparison:
    """`bad`: on which side of its interval a value fails."""

    name: str
    value: float
    seeds: Sample
    bad: str
    unit: str
    floor: float = 0.0

    def interval(self, comparisons: int) -> tuple[float, float]:
        """Where the next seed falls with probability 1 - ALPHA / comparisons."""
        low, high = self.seeds.prediction(1 - ALPHA / comparisons)
        floor = max(self.floor, ROUNDING * abs(self.seeds.mean))
        return min(low, self.seeds.mean - floor), max(high, self.seeds.mean + floor)

    def outside(self, comparisons: int) -> str | None:
        """BELOW or ABOVE where that fails, else None."""
        low, high = self.interval(comparisons)
        if self.value < low and self.bad in (BELOW, BOTH):
            return BELOW
        if self.value > high and self.bad in (ABOVE, BOTH):
            return ABOVE
        return None

    def sentence(self, comparisons: int) -> str:
        low, high = self.interval(comparisons)
        return f"{self.name} {self.value:.4f} {self.unit}".rstrip() + f", seeds give {low:.4f} to {high:.4f}"


def of_losses(run: Figures, seeds: list[Figures], unit: str) -> Iterator[Comparison]:
    """Training loss by quarter of the run, the slice at every validation, all of val. `unit`: what the latter are in."""
    for part, value in enumerate(run.loss):
        sample = Sample.of([of_seed.loss[part] for of_seed in seeds])
        yield Comparison(f"training loss, part {part + 1} of {len(run.loss)}", value, sample, BOTH, "nats")
    for i, (step, value) in enumerate(run.slice_bpb):
        sample = Sample.of([of_seed.slice_bpb[i][1] for of_seed in seeds])
        yield Comparison(f"slice at step {step}", value, sample, BOTH, unit)
    yield Comparison("all of val", run.val_bpb, Sample.of([of_seed.val_bpb for of_seed in seeds]), BOTH, unit)


def of_health(run: Figures, seeds: list[Figures]) -> Iterator[Comparison]:
    """Final routing on val, and the selection biases at the end of training; nothing for a dense model."""
    health, of_seeds = run.health, [of_seed.health for of_seed in seeds]
    if health is None or None in of_seeds:
        return
    for name, key, bad, unit, floor in (
        ("dead experts", "dead", ABOVE, "", "dead"),
        ("max load", "max_load_percent", ABOVE, "%", "max load"),
        ("worst entropy / ln E", "worst_entropy_ratio", BELOW, "", "worst entropy"),
        ("lowest bias range of a layer", "bias_range_low", BOTH, "", "bias range"),
        ("highest bias range of a layer", "bias_range_high", BOTH, "", "bias range"),
    ):
        yield Comparison(name, getattr(health, key), Sample.of([getattr(h, key) for h in of_seeds]), bad, unit, FLOORS[floor])


def slowdown(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """(how much longer our step takes against the reference workload, the share of it that noise explains at 1 - ALPHA).

    Each value is one process's step / workload. Both samples are taken to share one relative spread, so that a single new
    measurement can be judged: half width = t * sd * sqrt(1/n + 1/m) with n + m - 2 degrees of freedom.
    """
    a, b = Sample.of(ours), Sample.of(theirs)
    squares = sum((v / s.mean - 1) ** 2 for s in (a, b) for v in s.values)
    freedom = a.n + b.n - 2
    assert freedom > 0, "one measurement against one shows no spread"
    noise = quantile(1 - ALPHA, freedom) * (squares / freedom) ** 0.5 * (1 / a.n + 1 / b.n) ** 0.5
    return a.mean / b.mean - 1, noise
