"""What a space says, composed: where its families start, and what a draw of its dials is as plans, one a rung."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.goal import goal, slice_length
from harness.plan.schema import Plan
from harness.plan.series import key_of
from harness.plan.space import BUDGET, Dial, Space
from harness.plan.steps import steps_of
from harness.plan.tasks import val_length
from harness.shown import one_line

LEAST_STEPS = 20  # of a rung: with fewer a schedule has no decay to speak of


@dataclass(frozen=True)
class RungPlan:
    """`words`: all that `speedrun` is given beside the seed."""

    share: float
    words: list[str]
    plan: Plan


@dataclass(frozen=True)
class Draw:
    """`words`: beyond the lane and what all trials share; the budget in whole steps."""

    words: list[str]
    rungs: list[RungPlan]


def drawn(space: Space, family: str, params: Mapping[str, Any] | None = None) -> Draw:
    """A trial's plans, from the smallest share of its budget to all of it; without `params` where the family starts.

    Raises:
        UserError: they do not compose.
    """
    before = [f"lane={space.lane}", *space.shared]
    words = [word for word in space.words(family, params) if key_of(word) != BUDGET]
    budget = [word for word in space.words(family, params) if key_of(word) == BUDGET]
    plan = compose([*before, *words, *budget]).plan
    tokens = [_tokens(plan, share) for share in space.rungs]
    found = [
        RungPlan(share, [*before, *words, f"{BUDGET}={some}"], compose([*before, *words, f"{BUDGET}={some}"]).plan)
        for share, some in zip(space.rungs, tokens)
    ]
    return Draw([*words, f"{BUDGET}={tokens[-1]}"], found)


def _tokens(plan: Plan, share: float) -> int:
    """So much of a plan's budget, as the whole steps that its batch makes of it: LEAST_STEPS of them at least, and no more than
    the budget has."""
    total, largest = plan.by_step.total, max(plan.batch.sizes)
    if share == 1 and total:
        return total
    asked = max(round(share * total / largest), LEAST_STEPS) * largest
    return min(steps_of(plan.batch, asked).total, total)


def starts_of(space: Space) -> dict[str, dict[str, Any]]:
    """By family, the values of its dials where it starts.

    Raises:
        UserError: the lane has no line to pass or fixes what a dial turns, a family's start composes to no plan, or a dial
            reaches beyond its key's range or does not hold the start.
    """
    found, wrong = {}, []
    for family in space.families:
        try:
            plan = drawn(space, family).rungs[-1].plan
        except UserError as error:
            raise _of(space, f"family {family} does not start: {error.problem}", error.remedy) from error
        _refuse_no_race(space, plan)
        _refuse_unconfirmed(space, family)
        values = {name: _start(space, family, name, dial, plan) for name, dial in space.dials_of(family).items()}
        wrong += [f"family {family} {why}" for name in values for why in _amiss(space, family, name, plan, values[name])]
        found[family] = values
    if wrong:
        raise _of(space, "\n    ".join(dict.fromkeys(wrong)), "see `make plan SET=--keys` for what a key may be")
    return found


def _refuse_no_race(space: Space, plan: Plan) -> None:
    known, length = val_length(plan), slice_length(plan.track)
    if not goal(plan.track):
        raise _of(space, f"lane {space.lane} has no line to pass", "name an open lane with a target: lane: tiny-open")
    if space.scored < length or (known is not None and space.scored >= known):
        raise _of(
            space,
            f"scored: {space.scored:,} {plan.track.unit} of val, whose slice has {length:,}"
            + (f" of {known:,}: a search leaves the rest to confirmations" if known else ""),
            f"scored: {length}",
        )


def _refuse_unconfirmed(space: Space, family: str) -> None:
    """Trials are unranked, so that they may set what the lane fixes; a confirmation may not."""
    try:
        compose(space.confirmed(space.families[family].words.split()))
    except UserError as error:
        raise _of(space, f"family {family} could not be confirmed: {error.problem}", error.remedy) from error


def _start(space: Space, family: str, name: str, dial: Dial, plan: Plan) -> Any:
    """The value of a dial that leaves a start as it is; None where there is none."""
    if not dial.named:
        value = plan.by_step.total if name == BUDGET else attrgetter(name)(plan)
        if dial.choices is not None:
            return value if value in dial.choices else None
        return value if dial.low <= value <= dial.high else None
    for choice in dial.choices:
        try:
            same = plan_hash(drawn(space, family, {name: choice}).rungs[-1].plan) == plan_hash(plan)
        except UserError:  # said of the choice itself
            same = False
        if same:
            return choice
    return None


def _amiss(space: Space, family: str, name: str, plan: Plan, start: Any) -> Iterator[str]:
    """What is wrong with a dial, in words that go on after the family's name."""
    dial = space.dials_of(family)[name]
    if fixed := sorted(dial.sets(name) & plan.frozen) if plan.lane.open else []:
        yield f"turns {fixed[0]} by dial {name}, which lane {space.lane} fixes"
        return
    for value in dial.choices if dial.choices is not None else (dial.low, dial.high):
        try:
            drawn(space, family, {name: value})
        except UserError as error:
            yield f"has dial {name} at {value}: {one_line(error)}"
    if start is None:
        is_at = "none of its choices" if dial.named else attrgetter(name)(plan)
        among = ", ".join(map(str, dial.choices)) if dial.choices is not None else f"{dial.low:g} to {dial.high:g}"
        yield f"starts with dial {name} at {is_at}, which is not among {among}"


def _of(space: Space, problem: str, remedy: str) -> UserError:
    return UserError(f"space {space.name}: {problem}", f"{remedy}\n  in studies/spaces/{space.name}.yaml")
