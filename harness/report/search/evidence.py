"""Do the records beside a ledger give what it says?"""

import math
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.reading import file_hash, is_there
from harness.record.ledger import Ledger, LedgerRung, LedgerTrial, counts_of, equivalent_s, slope_of
from harness.report.integrity import check
from harness.report.run_data import load_run

RECORDS = "records"  # of a published folder


def problems_in(ledger: Ledger, folder: Path) -> list[str]:
    """A sentence for each thing that does not hold, each record looked at once."""
    found = list(_of_whole(ledger))
    seen: set[str] = set()
    for trial in ledger.trials:
        for rung in trial.rungs:
            name = f"{trial.arm} {trial.number} at {rung.share:g}"
            if rung.folder is None:
                continue
            if not (folder / RECORDS / rung.place).is_dir():
                found.append(f"{name}: {RECORDS}/{rung.place} is missing")
            else:
                found += [f"{name}: {why}" for why in _of_run(ledger, rung, folder / RECORDS / rung.place, seen)]
            found += [f"{name}: {why}" for why in _of_seconds(ledger, trial, rung)]
    return found


def _of_whole(ledger: Ledger) -> Iterator[str]:
    if ledger.space.sha256 != ledger.space_sha256:
        yield "space_sha256 is not that of the space beside it"
    if counts_of(ledger.trials).content() != ledger.counts.content():
        yield "counts are not those of the trials"
    for family, slope in ledger.slopes.items():
        firsts = [t for t in ledger.trials if (t.family, t.number, t.state) == (family, 0, "complete")]
        derived = slope_of(firsts[0].rungs) if firsts else None
        if derived is None or not math.isclose(derived, slope, rel_tol=1e-9):
            yield f"the slope of {family} is {slope:.6g}, its first trial gives {derived}"


def _of_run(ledger: Ledger, rung: LedgerRung, place: Path, seen: set[str]) -> Iterator[str]:
    if not rung.finished:
        if not is_there(place / "stopped.json"):
            yield f"{place.name} has no stopped.json"
        return
    try:
        if (found := file_hash(place / "record.json")) != rung.record_sha256:
            yield f"record.json has the hash {found[:12]}, the ledger has {rung.record_sha256[:12]}"
            return
        run = load_run(place)
    except UserError as error:
        yield error.problem
        return
    record = run.record
    said = (rung.plan_hash, rung.chain, rung.slice_bpb, rung.figure, rung.train_s, rung.disturbed)
    metrics = record.metrics
    has = (
        record.plan_hash, record.determinism.chain, metrics.slice_bpb, getattr(metrics, ledger.metric), record.clock.train_s,
        record.disturbed,
    )  # fmt: skip
    if said != has:
        yield "plan, chain, figures or seconds are not those of its record"
    if record.speed_class != ledger.hardware_class:
        yield f"its record is of {record.speed_class}"
    if rung.record_sha256 not in seen:
        seen.add(rung.record_sha256)
        yield from check(run)


def _of_seconds(ledger: Ledger, trial: LedgerTrial, rung: LedgerRung) -> Iterator[str]:
    if rung.equivalent_s is None:
        return
    slope = ledger.slopes.get(trial.family)
    if slope is None:
        yield f"it has equivalent seconds, and {trial.family} no slope"
    elif not math.isclose(derived := equivalent_s(rung.train_s, rung.figure, ledger.level, slope), rung.equivalent_s):
        yield f"equivalent_s is {rung.equivalent_s:.4f}, its figures give {derived:.4f}"
