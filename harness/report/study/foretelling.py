"""Which figure that is known beforehand foretells what interfering with a router costs: rank correlations within runs.

A run's pairs are a router of one of its checkpoints in one layer of its last model, or a share of experts of a layer that is
removed or exchanged. Spearman's correlation of cost and figure is taken within each run, over all of its pairs and over those
of one age (of one share of experts): differences from the mean of their group, so that what grows with age alone falls out.
Means are over the runs of a case, then over cases. Intervals are a percentile bootstrap's (Efron 1979): runs are drawn within
their case, and in each the checkpoints (layers) with all of their pairs. Draws are keyed: the same runs give the same interval.

Letters: N pairs of a run, G groups, B blocks, P figures, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.keyed import generator
from harness.record.damaged import Damage, Row, alone
from harness.report.rank_correlation import DIGITS, spearman
from harness.report.statistics import LEVEL
from harness.report.study.trials import Trial

RESAMPLES = 1_000
ROUTERS, REMOVED, EXCHANGED = "an earlier router", "experts removed", "experts exchanged"
OUTCOMES = (ROUTERS, REMOVED, EXCHANGED)
# By outcome: figures of routing, first the one that others are set against; of telemetry; of parameters; and the trivial one.
KINDS = {
    "sets": "routing", "router": "routing", "inputs": "routing", "said": "routing", "load": "telemetry",
    "evenness": "telemetry", "weights": "parameters", "model": "parameters", "steps": "trivial", "experts": "trivial",
}  # fmt: skip
FIRST = {ROUTERS: "sets", REMOVED: "said", EXCHANGED: "said"}
SHUFFLED = "shuffled"  # the first figure against the costs of other pairs
LEAST = 4  # pairs of a run


@dataclass(frozen=True)
class Pairs:
    """The same number of pairs in each block; `figures`: by name, in order."""

    key: tuple[str | int, ...]
    cost: tuple[float, ...]
    block: tuple[int, ...]
    group: tuple[float, ...]
    names: tuple[str, ...]
    figures: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Found:
    """A correlation, or a difference of two, with its interval."""

    value: float
    low: float
    high: float

    @property
    def resolved(self) -> bool:
        return not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Foretold:
    """By figure, for one outcome: the correlation of each case, of all, of all within groups, and that of the first figure
    minus it, over all pairs and within groups."""

    cases: Mapping[str, Mapping[str, Found]]
    over: Mapping[str, Found]
    within: Mapping[str, Found]
    first_minus: Mapping[str, Found]
    first_minus_within: Mapping[str, Found]
    runs: int
    pairs: int


def foretold(by_case: Mapping[str, Sequence[Trial]], outcome: str) -> Foretold | None:
    """None where no run has pairs of it."""
    pairs = {case: [found for trial in trials if (found := pairs_of(trial, outcome))] for case, trials in by_case.items()}
    pairs = {case: some for case, some in pairs.items() if some}
    if not pairs:
        return None
    names = next(iter(pairs.values()))[0].names
    over = {case: _of_case(some, case, outcome, False) for case, some in pairs.items()}
    within = {case: _of_case(some, case, outcome, True) for case, some in pairs.items()}
    everywhere, inside = (_mean_of(list(each.values())) for each in (over, within))
    named = [*names, SHUFFLED]
    every = [one for some in pairs.values() for one in some]
    return Foretold(
        {name: {case: _found(*found, at) for case, found in over.items()} for at, name in enumerate(named)},
        {name: _found(*everywhere, at) for at, name in enumerate(named)},
        {name: _found(*inside, at) for at, name in enumerate(named)},
        *({name: _found(*_less(each), at) for at, name in enumerate(named) if at} for each in (everywhere, inside)),
        len(every), sum(len(one.cost) for one in every),
    )  # fmt: skip


def pairs_of(trial: Trial, outcome: str) -> Pairs | None:
    """None of a run that has too few, or none."""
    if trial.damage is None:
        return None
    rows, block, group = _rows(trial.damage, outcome)
    if len(rows) < LEAST or any(row.nats is None for row in rows):
        return None
    names = [FIRST[outcome], *(name for name in rows[0].foretold if name in KINDS and name != FIRST[outcome])]
    figures = tuple(tuple(row.foretold[name] for row in rows) for name in names)
    key = (trial.case, trial.seed, outcome)
    return Pairs(key, tuple(row.nats[0] for row in rows), tuple(block), tuple(group), tuple(names), figures)


def _rows(damage: Damage, outcome: str) -> tuple[list[Row], list[int], list[float]]:
    """Sorted by block. The untrained router is a control, and none of the pairs."""
    if outcome == ROUTERS:
        rows = sorted((row for row in alone(damage.transplants) if row.step), key=lambda row: (row.step, row.layer))
        return rows, [row.step for row in rows], [float(row.step) for row in rows]
    what = {REMOVED: "removed", EXCHANGED: "exchanged"}[outcome]
    there = (row for row in alone(damage.interferences) if row.what == what)
    rows = sorted(there, key=lambda row: (row.layer, row.share, row.which))
    return rows, [row.layer for row in rows], [row.share for row in rows]


Drawn = tuple[np.ndarray, np.ndarray]  # (P + 1,) and (R, P + 1), the last one shuffled


@cache
def _of_run(pairs: Pairs, within: bool) -> Drawn:
    cost_N, figure_PN = np.array(pairs.cost), np.array(pairs.figures)
    if within:
        cost_N, *figure_PN = (_less_group(x_N, pairs.group) for x_N in (cost_N, *figure_PN))
    blocks = len(set(pairs.block))
    each = len(cost_N) // blocks
    words = generator(0, "foretelling", *pairs.key).bit_generator.random_raw(RESAMPLES * (blocks + len(cost_N)))
    share = ((words >> np.uint64(11)) * 2.0**-53).reshape(RESAMPLES, -1)
    drawn_RB = (share[:, :blocks] * blocks).astype(np.int64)
    row_RN = (drawn_RB[:, :, None] * each + np.arange(each)).reshape(RESAMPLES, -1)
    other_RN = np.argsort(share[:, blocks:], axis=1, kind="stable")  # costs of other pairs
    whole = [_spearman(x_N[None], cost_N[None])[0] for x_N in figure_PN]
    drawn = [_spearman(x_N[row_RN], cost_N[row_RN]) for x_N in figure_PN]
    shuffled_R = _spearman(np.broadcast_to(figure_PN[0], other_RN.shape), cost_N[other_RN])
    return np.array([*whole, shuffled_R.mean()]), np.stack([*drawn, shuffled_R], 1)


def _less_group(x_N: np.ndarray, group: Sequence[float]) -> np.ndarray:
    group_N = np.unique(group, return_inverse=True)[1]
    mean_G = np.bincount(group_N, x_N) / np.bincount(group_N)
    return (x_N - mean_G[group_N]).round(DIGITS)


def _spearman(x_RN: np.ndarray, y_RN: np.ndarray) -> np.ndarray:
    """0 where one of the two is the same throughout: it foretells nothing."""
    return np.nan_to_num(spearman(x_RN, y_RN))


def _of_case(runs: Sequence[Pairs], case: str, outcome: str, within: bool) -> Drawn:
    found = [_of_run(run, within) for run in runs]
    words = generator(0, "foretelling", "runs", case, outcome).bit_generator.random_raw(RESAMPLES * len(runs))
    drawn_RM = ((words >> np.uint64(11)) * 2.0**-53 * len(runs)).astype(np.int64).reshape(RESAMPLES, -1)
    drawn_MRP = np.stack([drawn for _, drawn in found])
    return np.mean([whole for whole, _ in found], 0), drawn_MRP[drawn_RM, np.arange(RESAMPLES)[:, None]].mean(1)


def _mean_of(found: Sequence[Drawn]) -> Drawn:
    return np.mean([whole for whole, _ in found], 0), np.mean([drawn for _, drawn in found], 0)


def _less(found: Drawn) -> Drawn:
    """The first figure minus each."""
    whole_P, drawn_RP = found
    return whole_P[0] - whole_P, drawn_RP[:, :1] - drawn_RP


def _found(whole_P: np.ndarray, drawn_RP: np.ndarray, at: int) -> Found:
    low, high = np.quantile(drawn_RP[:, at], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Found(float(whole_P[at]), float(low), float(high))
