"""The steps of a run: how many there are, how many tokens each takes, and how many came before it.

The batch is constant, or it changes in stages (`batch.stages`) that share the token budget: equally, or by
`batch.stage_shares`. A stage takes the whole steps that end within its part of the budget, and leaves the rest of the part to
the next stage; what the last one leaves, less than a step, is not trained on. Steps are counted from 0. Whoever asks for more
than the budget has, as a test or a benchmark may, gets steps like the last one.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.plan.schema import Batch, Plan


@dataclass(frozen=True)
class Stage:
    """`count` steps in a row of `tokens` tokens each."""

    tokens: int
    count: int


@dataclass(frozen=True)
class Steps:
    stages: tuple[Stage, ...]

    @classmethod
    def even(cls, tokens: int, count: int = 1) -> "Steps":
        """Steps of a constant batch."""
        return cls((Stage(tokens, count),))

    @property
    def count(self) -> int:
        return sum(stage.count for stage in self.stages)

    @property
    def total(self) -> int:
        """The tokens of all steps: at most the budget."""
        return sum(stage.count * stage.tokens for stage in self.stages)

    @property
    def largest(self) -> int:
        """The tokens of the largest step."""
        return max(stage.tokens for stage in self.stages)

    def tokens(self, step: int) -> int:
        """The tokens of this step."""
        return self.stages[self._stage(step)].tokens

    def before(self, step: int) -> int:
        """The tokens of all steps before this one."""
        stage = self._stage(step)
        return self._befores[stage] + (step - self._firsts[stage]) * self.stages[stage].tokens

    def progress(self, step: int) -> float:
        """The share of all tokens that is behind in the middle of this step; in (0, 1). The middle, so that neither the first
        step nor the last is at an end."""
        found = (self.before(step) + self.tokens(step) / 2) / self.total
        assert 0 < found < 1, f"step {step} of {self.count}: its tokens are outside the budget"
        return found

    @cached_property
    def _firsts(self) -> list[int]:
        """The first step of each stage."""
        return [0, *accumulate(stage.count for stage in self.stages[:-1])]

    @cached_property
    def _befores(self) -> list[int]:
        """The tokens before each stage."""
        return [0, *accumulate(stage.count * stage.tokens for stage in self.stages[:-1])]

    def _stage(self, step: int) -> int:
        assert step >= 0, step
        return bisect_right(self._firsts, step) - 1


def steps_of(batch: "Batch", budget_tokens: int) -> Steps:
    """The steps that a plan's batch makes of a budget. A stage whose part of the budget holds no step has a count of 0."""
    stages: list[Stage] = []
    before = 0
    for tokens, end in zip(batch.sizes, _ends(batch, budget_tokens)):
        stages.append(Stage(tokens, max(0, end - before) // tokens))
        before += stages[-1].count * tokens
    return Steps(tuple(stages))


def first_at(steps: Steps, share: float) -> int:
    """The first step, counted from 0, in whose middle so much of the budget is behind; their number where there is none."""
    return bisect_left(range(steps.count), share, key=steps.progress)


def shares_of(batch: "Batch") -> list[Fraction]:
    """The part of the budget that each stage has. A share means the decimal that was written: .1 and .2 make .3."""
    if batch.stage_shares:
        return [Fraction(str(share)) for share in batch.stage_shares]
    return [Fraction(1, len(batch.sizes))] * len(batch.sizes)


def _ends(batch: "Batch", budget_tokens: int) -> list[int]:
    """Where the part of each stage ends, to the nearest token: a third may be written as .333333. The last one ends with the
    budget."""
    inner = accumulate(shares_of(batch)[:-1])
    return [*(int(share * budget_tokens + Fraction(1, 2)) for share in inner), budget_tokens]


def budget_of_about(batch: "Batch", budget_tokens: int, count: int) -> int:
    """The tokens of a shorter budget of about `count` steps, in which every stage still has one: at most `budget_tokens`."""
    whole = steps_of(batch, budget_tokens)
    least = max(-(-stage.tokens // share) for stage, share in zip(whole.stages, shares_of(batch)))
    return min(max(count * whole.total // whole.count, int(least)), budget_tokens)


POWERS = {"linear": 1.0, "sqrt": 0.5, "none": 0.0}


def batch_scale(plan: "Plan", tokens: int) -> float:
    """The factor on every learning rate in a step of so many tokens; 1 at `batch.tokens_per_step`.

    linear: the rate per token, rate / tokens, is the same in every step, so that equal stretches of training have equal sums
    of rates however they are cut into steps. sqrt: the noise of an Adam update per token stays what it is (arXiv 2205.10287).
    none: the rate follows the schedule alone.
    """
    return (tokens / plan.batch.tokens_per_step) ** POWERS[plan.schedule.batch_lr]


def of_first_stage(plan: "Plan") -> "Plan":
    """The plan with the batch of its first stage throughout: what a step is timed by, at one size."""
    return replace(plan, batch=replace(plan.batch, stages=plan.batch.stages[:1], stage_shares=[]))
