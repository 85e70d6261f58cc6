"""The search that a submitted plan came from, as its claim states it."""

import hashlib
from pathlib import Path

from harness.errors import UserError
from harness.files import replace_atomically
from harness.launch.search.confirm_plan import base_hash_of
from harness.plan.fingerprint import base_hash
from harness.record.confirmation_files import CONFIRMATIONS, frozen_ledger, read_confirmations
from harness.record.confirmations import ClaimedSearch
from harness.record.ledger import Ledger, as_written, has_ledger, read_ledger, read_ledger_file
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
        ledger_sha256=_kept(folder, ledger),
    )  # fmt: skip


def _kept(folder: Path, ledger: Ledger) -> str:
    """The hash of the ledger, of which a copy stays beside the confirmations and is published with them: the search writes its
    own anew whenever it is called."""
    content = as_written(ledger)
    sha256 = hashlib.sha256(content).hexdigest()
    replace_atomically(folder / CONFIRMATIONS / f"claimed-{sha256[:12]}.ledger.json", [content])
    return sha256


def _bases(ledger: Ledger) -> set[str]:
    """The hashes of its trials' plans at any budget; a trial whose plan cannot be had any more has none."""
    found = set()
    for words in {tuple(trial.words) for trial in ledger.trials}:
        try:
            found.add(base_hash_of(ledger.space, words))
        except UserError:
            pass
    return found
