"""Warmup-stable-decay in tokens (arXiv 2404.06395)."""

from harness.plan.schema import Schedule


def lr_scale(schedule: Schedule, tokens_before: int, tokens_per_step: int, budget_tokens: int) -> float:
    """The factor on every learning rate for the step that starts after `tokens_before` tokens; in (0, 1].

    Linear warmup reaches 1 at the end of its share; linear decay reaches `final_fraction` at the end of the budget. Taken
    in the middle of the step, so that neither the first nor the last step is wasted at zero.
    """
    progress = (tokens_before + tokens_per_step / 2) / budget_tokens
    assert 0 < progress < 1, f"step outside the budget: {tokens_before} of {budget_tokens}"
    warm = 1.0 if schedule.warmup_share == 0 else min(1.0, progress / schedule.warmup_share)
    if schedule.decay_share == 0:
        return warm
    remaining = min(1.0, (1 - progress) / schedule.decay_share)
    return warm * (schedule.final_fraction + (1 - schedule.final_fraction) * remaining)
