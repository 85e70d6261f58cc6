"""The best that a family's law can do at a cost, and the least cost of a level, within the sizes that were run.

A contract says what a cost is (FLOPs or seconds of training) and what ties size to tokens: nothing, so that the best size is
taken, or a ratio of tokens to parameters.

Letters: G sizes between the smallest and the largest, equally far apart in log N.
"""

from dataclasses import dataclass

import numpy as np

from harness.report.series.answers import NoAnswer
from harness.report.series.family import Family
from harness.report.series.joint import Law

GRID = 400
ROUNDED = 0.02  # by how much a run's FLOPs may miss its budget, being whole steps


@dataclass(frozen=True)
class Contract:
    """`name`: as a sentence says it. `seconds`: whether cost is seconds, else FLOPs. `tied`: the convention by whose
    parameters both families have as many tokens a parameter; None where each takes the size that is best for it."""

    name: str
    seconds: bool = False
    tied: str | None = None


CONTRACTS = {
    "flops": Contract("at equal FLOPs, each family at its own best size"),
    "totalDN": Contract("at equal tokens per total parameter", tied="total"),
    "activeDN": Contract("at equal tokens per active parameter", tied="active"),
    "seconds": Contract("at equal seconds, each family at its own best size", seconds=True),
}


@dataclass(frozen=True)
class Place:
    """A point of the frontier. `outside`: in words why it is not within the points; None of one that is."""

    n: float  # parameters, by the law's convention
    d: float  # tokens
    bpb: float
    cost: float  # FLOPs or seconds, as the contract has it
    outside: str | None


@dataclass(frozen=True)
class Frontier:
    """A family's law under a contract. `ratio`: tokens per parameter of the tied convention."""

    family: Family
    law: Law
    contract: Contract
    ratio: float | None = None

    def at_cost(self, cost: float) -> Place | NoAnswer:
        """The lowest bits per byte that a cost buys."""
        n_G, per_token_G = self._sizes()
        if self.contract.tied is None:
            d_G = cost / per_token_G
            return self._place(*_lowest(np.log(n_G), self.law.bpb(n_G, d_G)), lambda n: cost / self._per_token(n))
        d_G = self.ratio * self.family.params(n_G, self.contract.tied)
        return self._crossing(np.log(per_token_G * d_G) - np.log(cost))

    def at_level(self, bpb: float) -> Place | NoAnswer:
        """The least cost that reaches `bpb`."""
        n_G, per_token_G = self._sizes()
        if self.contract.tied is None:
            with np.errstate(divide="ignore"):
                cost_G = np.log(per_token_G) + np.log(self.law.tokens(n_G, bpb))
            if not np.isfinite(cost_G).any():
                return NoAnswer(f"outside the points: {self.family.name} reaches {bpb:.4f} at none of its sizes")
            return self._place(*_lowest(np.log(n_G), cost_G), lambda n: float(self.law.tokens(n, bpb)))
        d_G = self.ratio * self.family.params(n_G, self.contract.tied)
        return self._crossing(bpb - self.law.bpb(n_G, d_G))

    def _sizes(self) -> tuple[np.ndarray, np.ndarray]:
        n_G = np.geomspace(self.family.n_Z[0], self.family.n_Z[-1], GRID)
        return n_G, self._per_token(n_G)

    def _per_token(self, n: float | np.ndarray) -> np.ndarray:
        return self.family.seconds(n) if self.contract.seconds else self.family.flops(n)

    def _place(self, log_n: float, edge: str | None, tokens) -> Place:
        n = float(np.exp(log_n))
        d = float(tokens(n))
        name, budgets, flops = self.family.name, self.family.budgets, float(self.family.flops(n)) * d
        outside = None
        if edge:
            outside = f"the best size of {name} is at or beyond its {edge} ({n:,.0f} parameters)"
        elif flops < budgets[0] * (1 - ROUNDED):
            outside = f"{name} takes {flops:.3g} FLOPs, less than its smallest budget ({budgets[0]:.3g})"
        elif flops > budgets[-1] * (1 + ROUNDED):
            outside = f"{name} takes {flops:.3g} FLOPs, more than its largest budget ({budgets[-1]:.3g})"
        return Place(n, d, float(self.law.bpb(n, d)), float(self._per_token(n)) * d, outside)

    def _crossing(self, rising_G: np.ndarray) -> Place | NoAnswer:
        """Where it passes 0."""
        log_n_G = np.log(self._sizes()[0])
        ratio = f"{self.ratio:.3g} tokens per {self.contract.tied} parameter"
        if rising_G[0] > 0 or rising_G[-1] < 0:
            way, edge = ("below", "smallest") if rising_G[0] > 0 else ("above", "largest")
            return NoAnswer(f"outside the points: at {ratio} {self.family.name} would have a size {way} its {edge}")
        log_n = float(np.interp(0.0, rising_G, log_n_G))
        return self._place(log_n, None, lambda n: self.ratio * float(self.family.params(n, self.contract.tied)))


def _lowest(x_G: np.ndarray, y_G: np.ndarray) -> tuple[float, str | None]:
    """Where y is lowest, between the points of the grid by the parabola of three; and the edge that it is at, if it is."""
    i = int(np.argmin(y_G))
    if i in (0, len(y_G) - 1):
        return float(x_G[i]), "largest" if i else "smallest"
    before, here, after = y_G[i - 1 : i + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if np.isfinite(bend) and bend > 0 else 0.0
    return float(x_G[i] + shift * (x_G[1] - x_G[0])), None
