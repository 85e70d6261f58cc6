"""Statistics in sentences, each with the assumption it rests on."""

from harness.report.board import Board, Standing, Tenure, compare
from harness.report.claims import find_claim, trials
from harness.report.groups import Group
from harness.report.statistics import ALPHA, ASSUMES, LEVEL, MIN_SEEDS, Test

HOW_RANKED = (
    "Ranked by mean training seconds to the target where every seed reached it, then by mean bits per byte of all of val. "
    f"A number counts claims: at least {MIN_SEEDS} seeds, and on time a mean below the target at p < {ALPHA}. Fewer seeds are "
    "shown where their figures put them, without a number. Seconds of different hardware classes, and figures of different "
    "protocols, are never ranked together; emulated formats are never ranked on time."
)
HOW_TESTED = (
    f"± is the standard deviation over seeds. Intervals are two-sided at {LEVEL:.0%} (Student's t), tests one-sided "
    f"(against the target a t-test, against the holder Welch's), {ASSUMES}; with few seeds neither can be checked. "
    "p values are not corrected for the number of rows."
)


def about(standing: Standing, board: Board) -> list[str]:
    """What the seeds of a row allow to be said: against the target and the holder, and how many plans were tried for it."""
    return [*_against_target(standing, board), *_against_holder(standing, board), _tuning(standing.group)]


def _against_target(standing: Standing, board: Board) -> list[str]:
    target, test = board.target, standing.target
    if target is None or test is None:
        return ["Target: none, a fixed budget."]
    sample, side = standing.group.sample(target.metric), "below" if test.difference < 0 else "above"
    known = f"{sample.mean:.4f} {target.unit.replace(' of ', ' on ')} (n = {sample.n}) is {abs(test.difference):.4f} {side}"
    return [f"Target: {known} {target.label} ({target.level:.4f}){_judgement(test, '{:+.4f}')}"]


def _against_holder(standing: Standing, board: Board) -> list[str]:
    holder = board.holder
    if holder is None:
        return ["Holder: nobody holds this record yet."]
    if board.is_held_by(standing.group):
        return [f"Holder: this plan has held the record since {holder.since[:10]}."]
    test = compare(standing.group, holder.group, board.timed)
    amount, form = _amount(test, standing.on_time and holder.on_time)
    return [f"Holder: {amount} than {holder.group.lane}{_judgement(test, form)}"]


def _tuning(group: Group) -> str:
    """As stated by the claim beside the records; a plan picked from many is better by luck alone."""
    tried = trials(find_claim(group.runs[0].folder.parents[1], group))
    return f"Tuning: {'not stated how many plans were' if tried is None else f'{tried} other plans'} tried for it."


def about_tenure(tenure: Tenure) -> str:
    """How a holder compared with the one before."""
    if tenure.test is None:
        return "the first claim"
    amount, form = _amount(tenure.test, tenure.on_time and tenure.against.to_target() is not None)
    return f"{amount} than {tenure.against.lane}{_judgement(tenure.test, form)}"


def _amount(test: Test, seconds: bool) -> tuple[str, str]:
    """How much less or more, with its unit, and the format of such figures."""
    side = "less" if test.difference < 0 else "more"
    if seconds:
        return f"{abs(test.difference):,.1f} s {side} to target", "{:+,.1f}"
    return f"{abs(test.difference):.4f} bits per byte {side} on all of val", "{:+.4f}"


def _judgement(test: Test, form: str) -> str:
    """The interval, then whether it is significant; what a test rests on stands in the same sentence."""
    if test.interval is None:
        return f". Not a claim: {test.why_not}."
    low, high = (form.format(bound) for bound in test.interval)
    p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.4f}"
    verdict = "significant" if test.significant else "not significant"
    if test.p < ALPHA and not test.significant:
        verdict = f"not a claim ({test.why_not})"
    return f"; {LEVEL:.0%} interval of the difference {low} to {high}, {p}: {verdict}, {ASSUMES}."
