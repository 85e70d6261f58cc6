"""Warmup-stable-decay in tokens (arXiv 2404.06395), and how a learning rate follows a batch that changes over the run."""

from harness.plan.schema import Plan, Schedule
from harness.plan.steps import Steps, batch_scale


def step_scale(plan: Plan, steps: Steps, step: int) -> float:
    """The factor on every learning rate in this step: of the schedule, at the middle of its tokens, and of its batch."""
    return lr_scale(plan.schedule, steps.progress(step)) * batch_scale(plan, steps.tokens(step))


def lr_scale(schedule: Schedule, progress: float) -> float:
    """The schedule's factor at `progress` of the token budget, above 0 and below 1; in (0, 1].

    Linear warmup reaches 1 at the end of its share; linear decay reaches `final_fraction` at the end of the budget.
    """
    warm = 1.0 if schedule.warmup_share == 0 else min(1.0, progress / schedule.warmup_share)
    if schedule.decay_share == 0:
        return warm
    remaining = min(1.0, (1 - progress) / schedule.decay_share)
    return warm * (schedule.final_fraction + (1 - schedule.final_fraction) * remaining)
