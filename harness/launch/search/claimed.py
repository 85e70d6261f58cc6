"""The search that a submitted plan came from, as its claim states it."""

from pathlib import Path

from harness.errors import UserError
from harness.launch.search.confirm_plan import base_hash_of
from harness.plan.fingerprint import base_hash
from harness.record.confirmation_files import frozen_ledger, read_confirmations
from harness.record.confirmations import ClaimedSearch
from harness.record.ledger import Ledger, has_ledger, ledger_hash, read_ledger, read_ledger_file
from harness.report.groups import Group


def search_of(group: Group) -> ClaimedSearch | None:
    """That of which a confirmation held this plan, the newest one; else that in whose ledger it stands, at whatever budget.
    Looked for beside the folders of runs (RUNS/search-NAME); None where there is none.

    Raises:
        UserError: a ledger or a confirmation there is damaged.
    """
    places = sorted({run.folder.resolve().parent.parent for run in group.runs})
    folders = [path for place in places for path in sorted(place.glob("search-*")) if has_ledger(path)]
    return next(filter(None, (_confirmed(folder, group) for folder in folders)), None) or next(
        filter(None, (_in_ledger(folder, group) for folder in folders)), None
    )


def _confirmed(folder: Path, group: Group) -> ClaimedSearch | None:
    confirmations = read_confirmations(folder)
    mine = [
        it for it in confirmations if (it.candidate.plan_hash, it.hardware_class) == (group.plan_hash, group.hardware_class)
    ]
    if not mine:
        return None
    ledger = read_ledger_file(frozen_ledger(folder, mine[-1].number))
    return ClaimedSearch(
        name=mine[-1].space, trials=mine[-1].trials, runs=ledger.counts.runs, confirmations=len(confirmations),
        ledger_sha256=mine[-1].ledger_sha256,
    )  # fmt: skip


def _in_ledger(folder: Path, group: Group) -> ClaimedSearch | None:
    ledger = read_ledger(folder)
    if (ledger.space.lane, ledger.hardware_class) != (group.lane, group.hardware_class):
        return None
    if base_hash(group.plan) not in _bases(ledger):
        return None
    return ClaimedSearch(
        name=ledger.name, trials=len(ledger.trials), runs=ledger.counts.runs, confirmations=len(read_confirmations(folder)),
        ledger_sha256=ledger_hash(folder),
    )  # fmt: skip


def _bases(ledger: Ledger) -> set[str]:
    """The hashes of its trials' plans at any budget; a trial whose plan cannot be had any more has none."""
    found = set()
    for words in {tuple(trial.words) for trial in ledger.trials}:
        try:
            found.add(base_hash_of(ledger.space, words))
        except UserError:
            pass
    return found
