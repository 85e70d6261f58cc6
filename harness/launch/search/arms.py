"""An arm's draws: Optuna's distributions of the dials, and a sampler that is seeded anew for every trial.

What trial N of an arm is depends on the space's seed, the arm, N, and the trials of that arm which have figures when it is
drawn: not on when a search was interrupted. Several processes at once draw before each other's trials are scored, so with them
TPE draws otherwise; random draws are the same.
"""

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from harness.keyed import generator
from harness.plan.space import TYPES, Dial, Space

STARTUP = 4  # trials of a TPE arm before its model draws, the start among them; Optuna's ten are most of a dozen
optuna.logging.set_verbosity(optuna.logging.WARNING)


def distributions(space: Space, family: str) -> dict[str, BaseDistribution]:
    return {name: _distribution(name, dial) for name, dial in space.dials_of(family).items()}


def sampler(space: Space, arm: tuple[str, str], number: int) -> BaseSampler:
    """That of trial `number` of an arm, (family, sampler)."""
    seed = int(generator(space.seed, "search", *arm, number).bit_generator.random_raw() >> 32)
    if arm[1] == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)


def _distribution(name: str, dial: Dial) -> BaseDistribution:
    if dial.choices is not None:
        return CategoricalDistribution(list(dial.choices))
    if TYPES[name] is int:
        return IntDistribution(int(dial.low), int(dial.high), log=dial.log)
    return FloatDistribution(dial.low, dial.high, log=dial.log)
