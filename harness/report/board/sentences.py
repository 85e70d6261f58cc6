"""Statistics in sentences, each with the assumption it rests on."""

from collections.abc import Iterable

from harness.plan.bounds import TAKEN
from harness.plan.track import measure
from harness.report.board.claims import find_claim, trials
from harness.report.board.holder import Against, Tenure
from harness.report.board.standings import Board, Standing
from harness.report.columns import millions
from harness.report.groups import Group
from harness.report.statistics import ALPHA, ASSUMES, LEVEL, MIN_SEEDS, Test

ABOUT_TASKS = (
    "Tasks, means over difficulties and seeds, in parentheses beyond the difficulties of training: exact match of whole "
    "answers, and where not even the best answer is certain the KL from the exact distribution, in nats per answer."
)
HOW_RACED = (
    "Open lanes fix data, scoring and target alone, and have boards of their own: ranked by mean training seconds of the whole "
    "budget, where the mean over seeds at the end is below the target; a seed that misses it by itself does not matter. There "
    f"a number takes at least {MIN_SEEDS} seeds, undisturbed, with a mean below the target at p < {ALPHA}."
)
HOW_TESTED = (
    f"± is the standard deviation over seeds. Intervals are two-sided at {LEVEL:.0%} (Student's t), tests one-sided "
    f"(against the target a t-test, against the holder Welch's), {ASSUMES}; with few seeds neither can be checked. "
    "p values are not corrected for the number of rows."
)


def measures(boards: Iterable[Board]) -> str:
    """What the vals of these boards are scored in."""
    return " or ".join(sorted({board.measure for board in boards}, reverse=True)) or measure("")


def how_ranked(boards: Iterable[Board]) -> str:
    raced = f" {HOW_RACED}" if any(board.rule.seconds_alone for board in boards) else ""
    return (
        f"Ranked by mean training seconds to the target where every seed reached it, then by mean {measures(boards)} of all of "
        f"val. A number counts claims: at least {MIN_SEEDS} seeds, and on time a mean below the target at p < {ALPHA}. Fewer "
        "seeds are shown where their figures put them, without a number. Seconds of different hardware classes, and figures of "
        "different protocols, are never ranked together; emulated formats are never ranked on time, and neither is a group "
        f"with a run that others took more than {TAKEN:.0%} of the processor time from. Records of the first revision do not "
        f"say what was taken.{raced}"
    )


def about(standing: Standing, board: Board) -> list[str]:
    """What the seeds of a row allow to be said: against the target and the holder, and how many plans were tried for it."""
    against = [_against_target(standing, board), _against_holder(standing, board)]
    return [*against, *_machine(standing.group), _tuning(standing.group), *_chosen(standing.group), _executed(standing.group)]


def about_claim(standing: Standing, board: Board) -> list[str]:
    """What `submit` says: the figures, then the verdicts in the leaderboard's own words, the holder before among them."""
    label = [f"Not a claim: {standing.why_no_claim}."] if standing.why_no_claim else []
    said = [*figures(standing.group, board.timed), *label, _against_target(standing, board), _against_holder(standing, board)]
    if board.is_held_by(standing.group):
        said.append(f"The holder before: {about_tenure(board.holder)}")
    return said


def figures(group: Group, timed: bool) -> list[str]:
    """Where the runs stopped, their bits per byte, their time where one may be claimed, and what stands beside it."""
    bits = [group.sample(key).counted("{:.4f}") for key in ("slice_bpb", "val_bpb")]
    return [
        f"stop step {group.first.metrics.curve[-1]['step']:,}, fixed by {group.rule.fixed_by} before any seed was run",
        f"slice {group.shortly} {bits[0]}, all of val {bits[1]}",
        _time(group, timed),
        *_beside(group),
    ]


def _beside(group: Group) -> list[str]:
    """What the lane leaves to the plan, where it does."""
    if not group.rule.beside:
        return []
    counts, peak = group.first.counts, max(group.sample("peak_memory_bytes").values) / 2**30
    return [f"{millions(counts.params_total)} parameters, {millions(counts.params_active)} active, peak memory {peak:.2f} GiB"]


def _time(group: Group, timed: bool) -> str:
    if not timed:
        return f"{group.arithmetic}: no time is claimed, emulation says nothing about the format's"
    if group.runs[0].target is None:
        return "the track is a fixed budget: no target, no time to it"
    if group.disturbed:
        return f"no time is claimed: {group.disturbed}"
    if (seconds := group.to_target()) is None:
        return group.rule.no_time(group.runs)
    return f"{seconds.counted('{:.1f}')} s {group.rule.counted}"


def _against_target(standing: Standing, board: Board) -> str:
    target, test = board.target, standing.target
    if target is None or test is None:
        return "Target: none, a fixed budget."
    sample, side = standing.group.sample(target.metric), "below" if test.difference < 0 else "above"
    known = f"{sample.mean:.4f} {target.unit.replace(' of ', ' on ')} (n = {sample.n}) is {abs(test.difference):.4f} {side}"
    return f"Target: {known} {target.label} ({target.level:.4f}){_judgement(test, '{:+.4f}')}"


def _against_holder(standing: Standing, board: Board) -> str:
    if board.is_held_by(standing.group):
        return f"Holder: this plan has held the record since {board.holder.since[:10]}."
    found = board.against_holder(standing.group)
    return f"Holder: {_verdict(found)}" if found else "Holder: nobody holds this record yet."


def _tuning(group: Group) -> str:
    """As stated by the claim beside the records; a plan picked from many is better by luck alone."""
    claim = find_claim(group)
    tried = trials(claim)
    among = f", which stands among {claim.search.told}" if claim and claim.search else ""
    return f"Tuning: {'not stated how many plans were' if tried is None else f'{tried} other plans'} tried for it{among}."


def _chosen(group: Group) -> list[str]:
    """Which seeds its figures may have been chosen from, as the claim beside the records states them; nothing where none."""
    claim = find_claim(group)
    if claim is None:
        return []
    counted = set(map(str, claim.seeds))
    failed = [f"{seed} ({why})" for seed, why in claim.failed_seeds.items() if seed not in counted]
    repeats = {seed: times for submission in claim.submissions for seed, times in (submission.repeats or {}).items()}
    again = [f"{seed} ({times} times)" for seed, times in repeats.items()]
    raced, parts = group.rule.seconds_alone, len(claim.submissions)
    return [
        *([f"Seeds that do not count: {', '.join(failed)}."] if failed else []),
        *([f"Seeds run more than once, of which one run counts: {', '.join(again)}."] if again else []),
        *([f"Seeds came in {parts} submissions: the later ones knew what the first had shown."] if raced and parts > 1 else []),
    ]


def _machine(group: Group) -> list[str]:
    """Whether each seed had its machine to itself; nothing where old records do not say."""
    if group.disturbed:
        return [f"Time: no claim, {group.disturbed}."]
    known = [run.record.occupancy.share for run in group.runs if run.record.occupancy]
    return [f"Time: others took at most {max(known):.1%} of a seed's processor time."] if known else []


def _executed(group: Group) -> str:
    """What has been had again since, by which commit."""
    found = {run.record.seed: run.verified for run in group.runs}
    done = [
        f"seed {seed} ({it.steps:,} of {it.of:,} steps at commit {it.commit[:8]}, {it.verified_at[:10]})"
        for seed, it in found.items()
        if it
    ]
    return f"Re-executed with equal bits: {', '.join(done)}." if done else "Nothing of it has been re-executed yet."


def about_tenure(tenure: Tenure) -> str:
    """How a holder compared with the one before."""
    return _verdict(tenure.against) if tenure.against else "the first claim"


def _verdict(found: Against) -> str:
    """How much less or more, with its unit, and whether that is significant."""
    side, amount = "less" if found.test.difference < 0 else "more", abs(found.test.difference)
    if found.on_time:
        than = f"{found.other.rule.counted} than {found.other.lane}"
        return f"{amount:,.1f} s {side} {than}{_judgement(found.test, '{:+,.1f}')}"
    return f"{amount:.4f} {found.other.measure} {side} on all of val than {found.other.lane}{_judgement(found.test, '{:+.4f}')}"


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
