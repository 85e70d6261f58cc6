"""The points of a series as plans: how many tokens the FLOPs of a budget pay for, counted from the modules of each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError
from harness.model.build import count_plan
from harness.model.counts import Counts
from harness.plan.compose import compose
from harness.plan.fingerprint import flat
from harness.plan.goal import slice_length
from harness.plan.schema import Plan
from harness.plan.series import MORE, VARIES, Series
from harness.plan.study import OF_SERIES, Study
from harness.plan.tasks import val_length

LEAST_STEPS = 20  # of a schedule: with fewer its decay has no eight


@dataclass(frozen=True)
class SeriesPoint:
    """A family, a size and a budget in FLOPs, as a plan. `case`: its words behind those that all points share."""

    name: str
    family: str
    size: int
    budget: float
    case: str
    words: list[str]
    plan: Plan
    counts: Counts

    @property
    def tokens(self) -> int:
        return self.plan.by_step.total

    @property
    def flops(self) -> float:
        """As many as it trains, to half a step of the budget."""
        return float(self.counts.flops_per_token * self.tokens)


def points_of(series: Series) -> dict[str, SeriesPoint]:
    """By name: every point of the grid, and those ahead of it, in the order they are run in.

    Raises:
        UserError: a plan is none, families differ in more than they may, or a budget is too short for a schedule.
    """
    models = {(family, size): _model(series, family, size) for size in series.sizes for family in series.families}
    for size in series.sizes:
        _refuse_unlike({family: models[family, size][0] for family in series.families}, size)
    found = {}
    for budget in series.all_budgets:
        for size in series.sizes:
            for family in series.families:
                point = _point(series, family, size, budget, *models[family, size])
                found[point.name] = point
    _refuse_other_scores(series, found.values())
    return found


def study_of_points(series: Series, points: Sequence[SeriesPoint]) -> Study:
    """The study whose cases are these points; where and how runs are logged is no part of it."""
    series = series.model_copy(update={"common": " ".join(w for w in series.common.split() if not w.startswith("run."))})
    return Study(
        name=series.name, title=series.title, question=series.question, lane=series.lane, figure=OF_SERIES,
        common=" ".join(series.shared), cases={point.name: point.case for point in points}, equal="FLOPs", series=series,
    )  # fmt: skip


def active_width(plan: Plan) -> int:
    """The hidden units of all layers' FFN that one token passes."""
    m = plan.model
    experts = (m.top_k + m.shared_experts) * m.expert_width
    return len(m.moe_layers) * experts + (m.layers - len(m.moe_layers)) * m.ffn_width


def _model(series: Series, family: str, size: int) -> tuple[Plan, Counts]:
    """The plan of a family and size at the lane's own budget, and what its model counts."""
    try:
        plan = compose([f"lane={series.lane}", *series.shared, *series.words(family, size)]).plan
    except UserError as error:
        problem = f"series {series.name}, family {family}, size {size}: {error.problem}"
        raise UserError(problem, f"{error.remedy}\n  in studies/series/{series.name}.yaml: sizes, scaled, words") from error
    return plan, count_plan(plan)


def _point(series: Series, family: str, size: int, budget: float, model: Plan, counts: Counts) -> SeriesPoint:
    steps = round(budget / counts.flops_per_token / model.batch.tokens_per_step)
    if steps < LEAST_STEPS:
        raise UserError(
            f"series {series.name}, family {family}, size {size}: a budget of {budget:.3g} FLOPs pays for {steps} steps of "
            f"{model.batch.tokens_per_step:,} tokens at {counts.flops_per_token:,} FLOPs a token; {LEAST_STEPS} are a schedule",
            "raise the least budget, or leave out the largest size or shrink batch.tokens_per_step",
        )
    case = " ".join([*series.words(family, size), f"budget.tokens={steps * model.batch.tokens_per_step}"])
    words = [f"lane={series.lane}", *series.shared, *case.split()]
    name = series.point_name(family, size, budget)
    return SeriesPoint(name, family, size, budget, case, words, compose(words).plan, counts)


def _refuse_unlike(plans: Mapping[str, Plan], size: int) -> None:
    """Raises: UserError where families differ in a key that they must have in common, or in how wide a token's FFN is."""
    (first, plan), *others = plans.items()
    base = flat(plan)
    for name, other in others:
        unlike = {key: (base[key], value) for key, value in flat(other).items() if base[key] != value}
        if more := [key for key in unlike if not key.startswith(VARIES)]:
            told = "; ".join(f"{key}={unlike[key][0]} and {unlike[key][1]}" for key in more)
            raise UserError(f"families {first} and {name} differ in more than the FFN of a layer: {told}", MORE)
        if active_width(plan) != active_width(other):
            raise UserError(
                f"families {first} and {name} have {active_width(plan):,} and {active_width(other):,} active hidden units in "
                f"all layers at size {size}, so more differs than how they are cut into experts",
                "make the FFN width of the one (top_k + shared_experts) x expert_width of the other",
            )


def _refuse_other_scores(series: Series, points: Any) -> None:
    """Bits of points stand beside each other where they are of the same part of val.

    Raises: UserError where val is shorter than what is to be scored, or the slice, which is the curve's, is cut by it."""
    plan = next(iter(points)).plan
    known = val_length(plan)
    if known is not None and series.scored > known:
        raise UserError(
            f"series {series.name} scores {series.scored:,} {plan.track.unit} of val, which has {known:,}",
            f"scored: {min(known, slice_length(plan.track)):,} in studies/series/{series.name}.yaml",
        )
