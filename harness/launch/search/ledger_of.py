"""The ledger of a search, made from its storage: nothing is known that the storage does not hold."""

from optuna.trial import FrozenTrial

from harness.launch.search.storage import Arm, Storage
from harness.plan.goal import Goal
from harness.record.commit import stated
from harness.record.ledger import ENDED, LEDGER_VERSION, Ledger, LedgerRung, LedgerTrial, counts_of, slope_of
from harness.record.provenance import commit


def ledger_of(storage: Storage, goal: Goal, hardware_class: str) -> Ledger:
    space = storage.space
    trials = [trial_of(arm, trial) for arm in space.arms for trial in storage.trials(arm)]
    order = {"/".join(arm): place for place, arm in enumerate(space.arms)}
    trials.sort(key=lambda trial: (trial.number, order[trial.arm]))
    return Ledger(
        schema_version=LEDGER_VERSION, space=space, space_sha256=space.sha256, hardware_class=hardware_class,
        commit=stated(*commit()), target=goal.id, metric=goal.metric, level=goal.level,
        slopes=slopes_of(trials), counts=counts_of(trials), trials=trials,
    )  # fmt: skip


def trial_of(arm: Arm, trial: FrozenTrial) -> LedgerTrial:
    noted = trial.user_attrs
    rungs = [LedgerRung(**rung) for rung in noted.get("rungs", [])]
    finished = [rung for rung in rungs if rung.finished]
    state = noted.get("state") if trial.state.is_finished() else "running"
    last = finished[-1].equivalent_s if finished else None
    more = {"equivalent_s": last} if last else {}
    more |= {"why": noted["why"]} if noted.get("why") else {}
    return LedgerTrial(
        number=trial.number, arm="/".join(arm), family=arm[0], sampler=arm[1], words=noted.get("words", []),
        params=trial.params, state=state or "failed", rungs=rungs, rung=len(finished), **more,
    )  # fmt: skip


def slopes_of(trials: list[LedgerTrial]) -> dict[str, float]:
    """By family, of its first trial: where it starts, at all rungs."""
    firsts = {t.family: t for t in reversed(trials) if t.number == 0 and t.state == "complete"}
    return {family: slope for family, trial in sorted(firsts.items()) if (slope := slope_of(trial.rungs))}


def without_slope(trials: list[LedgerTrial]) -> dict[str, str]:
    """Families that will have none, and why: a first trial of theirs has ended, and none finished."""
    slopes = slopes_of(trials)
    ended = [t for t in trials if t.number == 0 and t.state in ENDED and t.family not in slopes]
    return {trial.family: trial.why or trial.state for trial in ended}
