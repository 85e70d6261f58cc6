"""What a study of the clock (figure `race`) asks of its file and of its plans: an open lane with a line to pass, two families,
and of each a case that differs by half the budget alone, which tells how its bits fall with seconds. A case FAMILY-DIAL has the
words of its family, and then its own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from harness.errors import UserError
from harness.plan.fingerprint import differences
from harness.plan.schema import Plan

RACE = "race"  # the figure
TO_LINE = "line"  # what its cases have in common
HALF = "half"  # the dial
BUDGET = "budget.tokens"


def no_race(figure: str, equal: str, families: Sequence[str], cases: Collection[str]) -> list[str]:
    """What keeps a study's file from being one of a race; empty of another figure, whose cases are no race."""
    if (figure == RACE) != (equal == TO_LINE):
        return [f"figure {figure} with equal: {equal}: figure {RACE} has equal: {TO_LINE}, and no other figure has"]
    if figure != RACE:
        return []
    if not families:
        return [f"figure {RACE} of no families, which are two cases: families: [dense, moe]"]
    wrong = [
        f"family {family} without the dial {HALF}: case {family}-{HALF}: {BUDGET}=..., half of its own"
        for family in families if f"{family}-{HALF}" not in cases
    ]  # fmt: skip
    return wrong + [
        f"case {case!r} of no family, which is named {' or '.join(f'{family}-DIAL' for family in families)}"
        for case in cases if not any(case == family or case.startswith(f"{family}-") for family in families)
    ]  # fmt: skip


def refuse_race(families: Sequence[str], plans: Mapping[str, Plan]) -> None:
    """`plans`: by case, of one lane; at least one.

    Raises:
        UserError: the lane is not open or has no line, or a half is not the half of its family's plan.
    """
    some = next(iter(plans.values()))
    if not some.lane.open:
        raise UserError(
            f"figure {RACE} of lane {some.lane.name}, which is not open: its plans do not choose their own budgets",
            "use an open lane, such as tiny-open, or figure: cost",
        )
    if not some.track.target:
        said = f"figure {RACE} of lane {some.lane.name}, whose track has no line to pass"
        raise UserError(said, "name one in track.target, or use another lane")
    for family in families:
        if family in plans and f"{family}-{HALF}" in plans:
            _refuse_half(family, plans[family], plans[f"{family}-{HALF}"])


def _refuse_half(family: str, plan: Plan, half: Plan) -> None:
    name, words = f"{family}-{HALF}", f"{BUDGET}={plan.budget.tokens // 2} alone"
    if other := [line for line in differences(half, asdict(plan)) if not line.startswith(f"{BUDGET}:")]:
        raise UserError(f"{name} differs from {family} by more than its budget: {'; '.join(other)}", f"give it {words}")
    if abs(2 * half.budget.tokens - plan.budget.tokens) > 2 * plan.batch.tokens_per_step:
        said = f"{half.budget.tokens:,} tokens, and {family} {plan.budget.tokens:,}: that is no half, to within a step"
        raise UserError(f"{name} has {said}", f"give it {words}")
