"""Which plan of a search is confirmed: the best complete trial of a family over both samplers, the one that is named, or one
typed by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UserError, nearest
from harness.plan.schema import FIXED_IN_OPEN
from harness.plan.series import key_of
from harness.plan.space import OWN, Space
from harness.record.confirmations import Champion
from harness.record.ledger import Ledger, LedgerTrial


@dataclass(frozen=True)
class Candidate:
    """`trial`: ARM/NUMBER, None of a plan typed by hand; `words`: beyond the lane and what all plans of the space share;
    `figure`: what its last rung came to, None where none was run."""

    name: str
    trial: str | None
    family: str
    words: list[str]
    figure: float | None = None


def choose(ledger: Ledger, family: str | None, trial: str | None, champion: Champion | None) -> Candidate:
    """`champion`: what holds the lane, which is no candidate unless it is named.

    Raises:
        UserError: there is no such family or trial, or none that is complete.
    """
    if family is not None:
        _known_family(ledger, family)
    if trial is not None:
        return _of(_named(ledger, family, trial))
    _started(ledger, family)
    complete = ledger.complete(family)
    if not complete:
        raise UserError(f"no trial of {family or 'any family'} is complete in search {ledger.name}", _go_on(ledger))
    best = _of(complete[0])
    if champion and (champion.space, champion.trial) == (ledger.name, best.trial):
        raise UserError(
            f"{best.name} is the best, and champion already since confirmation {champion.number}",
            f"{_go_on(ledger)}, trial={trial_name(complete[-1])} names any other, or {best.trial} again, with new seeds",
        )
    return best


def typed(space: Space, family: str | None, words: Sequence[str]) -> Candidate:
    """Raises: UserError without a family, from whose start plan it may have to take the record, or where a word sets what a
    confirmation sets itself (seeds, the line, what is scored)."""
    if family is None:
        raise UserError("words=... without a family", f"FAMILY={'|'.join(space.families)}: whose start plan it is held against")
    if family not in space.families:
        raise UserError(f"space {space.name} has no family {family!r}", nearest(family, space.families))
    if not words:
        raise UserError("words= names no plan", 'type what the plan has beyond the lane: words="optim.muon.lr=0.05"')
    if own := [word for word in words if _is_own(key_of(word))]:
        raise UserError(
            f"{own[0]} in words, which a confirmation sets itself: seeds, lane, line and what is scored",
            f"leave {own[0]} out",
        )
    return Candidate(f"a plan of {family} typed by hand", None, family, list(words))


def trial_name(trial: LedgerTrial) -> str:
    return f"{trial.arm}/{trial.number}"


def _is_own(key: str) -> bool:
    return key.split(".")[0] in (*OWN, "track", "task") or key in FIXED_IN_OPEN


def _of(trial: LedgerTrial) -> Candidate:
    name = trial_name(trial)
    return Candidate(f"trial {name}", name, trial.family, list(trial.words), trial.finished[-1].figure)


def _known_family(ledger: Ledger, family: str) -> None:
    if family not in ledger.space.families:
        raise UserError(f"search {ledger.name} has no family {family!r}", nearest(family, ledger.space.families))


def _started(ledger: Ledger, family: str | None) -> None:
    """A slope is measured on a family's first trial."""
    if not (ledger.slopes if family is None else family in ledger.slopes):
        raise UserError(f"search {ledger.name} has no finished first trial of {family or 'any family'}", _go_on(ledger))


def _named(ledger: Ledger, family: str | None, said: str) -> LedgerTrial:
    """`said`: moe/tpe/5, of a family tpe/5, or 5 where one arm alone has it."""
    known = [trial for trial in ledger.trials if family in (None, trial.family)]
    found = [trial for trial in known if f"/{trial_name(trial)}".endswith(f"/{said}")]
    if not found:
        names = [trial_name(trial) for trial in known]
        raise UserError(
            f"search {ledger.name} has no trial {said!r}" + (f" of {family}" if family else ""), nearest(said, names)
        )
    if len(found) > 1:
        raise UserError(f"trial {said} is in several arms", f"trial={' or trial='.join(map(trial_name, found))}")
    if found[0].state != "complete" or not found[0].finished:
        why = f" ({found[0].why})" if found[0].why else ""
        raise UserError(
            f"trial {trial_name(found[0])} is {found[0].state}{why}: what it would take at its whole budget is not known",
            f'name one that is complete, or type its plan: words="{" ".join(found[0].words)}"',
        )
    _started(ledger, found[0].family)
    return found[0]


def _go_on(ledger: Ledger) -> str:
    return f"make search NAME={ledger.name} HOURS=1 goes on"
