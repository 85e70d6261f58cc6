"""One run from plan to record: open the folder, build, go on or start, warm up, train, score, write."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harness.data.corpora import Splits
from harness.errors import UserError
from harness.evaluate.lockstep import Agreed
from harness.plan.compose import Composed
from harness.plan.goal import slice_length
from harness.progress import Progress
from harness.ranks import LostRank, Ranks
from harness.record import documents, record, schema
from harness.record.folder import RunFolder, identity, open_folder, prefix_sha256
from harness.record.provenance import provenance
from harness.train import audit, checkpoint, ending, machine
from harness.train.clock import Clock
from harness.train.health import HealthStop
from harness.train.loop import Loop, State
from harness.train.occupancy import Meter
from harness.train.processors import Processors
from harness.train.session import Session
from harness.train.signals import RECORD, Stop, number_of
from harness.train.warmup import warm_up


class Stopped(Exception):
    """The run was left early with a checkpoint; `code` is the exit status."""

    def __init__(self, path: Path, code: int):
        super().__init__(str(path))
        self.path, self.code = path, code


def run(
    composed: Composed, here: machine.Machine, ranks: Ranks, processors: Processors | str | None, corpus: Splits,
    progress: Progress, opened: Callable[[Path], None] = lambda folder: None,
) -> Path | None:  # fmt: skip
    """Returns the path of record.json (None on ranks other than the first). `processors`: those of the run, or why they are
    not measured. `opened` is told the run folder, by the first rank, once it is locked.

    Raises:
        UserError: the run cannot start or go on here.
        Stopped: it was left early, by a signal or as planned.
        HealthStop: health stopped it, and stopped.json is written.
    """
    plan, started = composed.plan, time.perf_counter()
    origin = provenance(composed.overrides)
    folder = _shared_folder(composed, here, ranks, origin, progress)
    watch = audit.listen(plan, folder.path)

    def begun() -> tuple[Session, State, Mapping[str, Any] | None]:
        session = Session(plan, here, ranks, corpus)
        state, tensors = _starting_state(plan, folder, ranks, progress)
        if tensors is not None:
            session.restore(tensors)
        return session, state, tensors

    try:
        session, state, tensors = ranks.all_or_none(begun)
    except UserError:
        folder.forget()
        raise
    if ranks.is_first:
        opened(folder.path)
    meter = Meter(processors, here, state.occupancy, state.step)
    clock = Clock(_entries(state.ledger), started - max(0.0, _unexplained(state.ledger)), meter.switch)
    val_N = corpus.val[: composed.scoring_cap]
    slice_N = val_N[: slice_length(plan.track)]
    progress.say("compiling and warming up on throw-away state ..." if here.compiled else "warming up on throw-away state ...")
    clock.ledger["setup_s"] += time.perf_counter() - started
    with _nobody_lost(ranks, folder, state):
        rate = warm_up(session, clock, slice_N, state.step, tensors)
    if watch:
        watch.compiled()
    del tensors
    step_s = session.steps.tokens(state.step) / rate
    left_s = (session.steps.total - session.steps.before(state.step)) / rate
    progress.say(f"warm: {step_s * 1e3:,.0f} ms a step, {rate:,.0f} tokens/s; {left_s:,.0f} s on the clock to go")
    with clock.entry("peaks_s"):
        meter.look("before", here.matmul_peak_flops)
    loop = Loop(session, folder, clock, meter, state, progress, slice_N, lambda: machine.peak_memory_bytes(here.device))
    with Stop().heard() as stop, _nobody_lost(ranks, folder, state):
        try:
            if not loop.run(stop):
                number = max(ranks.everyones_values(stop.number))  # a signal may have reached one of them alone
                raise Stopped(folder.path, 128 + number if number else 0)
            path = _end(composed, loop, stop, val_N, origin, watch)
        except HealthStop as health:
            _write_stop(folder, health)
            raise
    folder.release()
    return path


@contextmanager
def _nobody_lost(ranks: Ranks, folder: RunFolder, state: State) -> Iterator[None]:
    """Raises: UserError where another rank is gone."""
    try:
        yield
    except LostRank as lost:
        known = checkpoint.steps(folder.checkpoints)
        raise UserError(
            f"rank {ranks.rank} of {ranks.world} lost another one after step {state.step:,}, in {lost.during}: {lost}",
            "see what that one said or does, and set run.timeout_s where it only took long; the same command goes on from "
            + (f"step {known[-1]:,}" if known else "the beginning"),
        ) from lost


def _shared_folder(
    composed: Composed, here: machine.Machine, ranks: Ranks, origin: schema.Provenance, progress: Progress
) -> RunFolder:
    """Rank 0 opens and locks the folder; the others learn its path, and its refusal."""
    answer: tuple[str, Any] = ("", None)
    folder = None
    if ranks.is_first:
        try:
            beside = 1 if here.bits_by_ranks else ranks.world
            who = identity(composed.plan, here.hardware_class, origin, beside)
            folder = open_folder(composed.plan, who, progress.say)
            answer = ("folder", (folder.path, folder.resumes))
        except UserError as error:
            answer = ("error", (error.problem, error.remedy))
    kind, content = ranks.broadcast(answer)
    if kind == "error":
        raise UserError(*content, said_elsewhere=not ranks.is_first)
    return folder or RunFolder(content[0], None, content[1])


def _starting_state(plan, folder: RunFolder, ranks: Ranks, progress: Progress) -> tuple[State, Mapping[str, Any] | None]:
    """A resumed run's last good checkpoint, a fork's, or nothing."""
    if folder.resumes:
        found = checkpoint.load_newest(folder.checkpoints, progress.say, lambda it: _belongs(it, folder), ranks)
        if found is not None:
            state = State(**found.meta.content())
            state.resumes += state.step < plan.steps  # nothing of a training that had ended is done again
            progress.say(f"resuming {folder.path} from step {state.step:,}")
            return state, found.tensors
        progress.say(f"{folder.path} has no usable checkpoint; starting it from the beginning")
    if plan.fork:
        return State(), _forked(plan.fork, ranks)
    return State(), None


def _belongs(found: checkpoint.Checkpoint, folder: RunFolder) -> None:
    """Whether a checkpoint is one of this folder's log.

    Raises:
        ValueError: the log is not, byte for byte, what it was when the checkpoint was written.
    """
    try:
        state = State(**found.meta.content())
    except TypeError as error:
        raise ValueError(f"the note of the checkpoint of step {found.step} is corrupt: {error}") from error
    sha256 = prefix_sha256(folder.metrics, state.metrics_position)
    if sha256 is None:
        raise ValueError(f"{folder.metrics} has lost rows that the checkpoint of step {found.step} counts on")
    if state.metrics_sha256 not in ("", sha256):
        raise ValueError(
            f"{folder.metrics} has been changed since the checkpoint of step {found.step}: the first "
            f"{state.metrics_position:,} bytes have sha256 {sha256[:12]}, expected {state.metrics_sha256[:12]}"
        )


def _forked(fork: str, ranks: Ranks) -> Mapping[str, Any]:
    """The tensors of RUN@STEP (or RUN@last).

    Raises:
        UserError: there is no such checkpoint; it names the steps that have one.
    """
    where, _, wanted = fork.rpartition("@")
    folder = Path(where) / "checkpoints"
    known = ranks.broadcast(checkpoint.steps(folder))
    step = known[-1] if wanted == "last" and known else int(wanted) if wanted.isdecimal() else -1
    if not where or step not in known:
        raise UserError(
            f"fork={fork}: no such checkpoint",
            f"write fork=RUN@STEP; {where or 'RUN'} has steps {', '.join(map(str, known)) or 'none'}",
        )
    try:
        return checkpoint.load(folder, step, ranks).tensors
    except ValueError as error:
        raise UserError(f"fork={fork}: {error}", f"other steps: {', '.join(map(str, known))}") from error


def _entries(ledger: dict[str, float]) -> dict[str, float]:
    return {name: seconds for name, seconds in ledger.items() if name not in ("other_s", "wall_s")}


def _unexplained(ledger: dict[str, float]) -> float:
    return ledger.get("other_s", 0.0)


def _write_stop(folder: RunFolder, health: HealthStop) -> None:
    kept = checkpoint.steps(folder.checkpoints)
    stopped = documents.Stop(
        reason=health.reason, step=health.step, what=health.what, remedy=health.remedy, checkpoints=kept, counts=health.counts
    )
    folder.write("stopped.json", json.dumps(stopped.content(), indent=1))
    health.folder = folder.path


def _end(
    composed: Composed, loop: Loop, stop: Stop, val_N, origin: schema.Provenance, watch: audit.Watch | None
) -> Path | None:  # fmt: skip
    """Scores val and writes the record; then, where there are public test sets, scores those and writes it again. Every rank
    scores, the first one writes. Whatever ends the processes meanwhile, the same command goes on from a checkpoint of the last
    step and scores what is left.

    Raises:
        Stopped: a signal came during the scores.
        HealthStop, UserError: a score is not finite, or nothing can be written.
    """
    public, ranks, lockstep = composed.final, loop.session.ranks, loop.lockstep(lambda: stop.number)
    if public:
        loop.save()  # they take longer than much training
    trained, found, written = loop.mark(), None, False
    others = audit.of_others(watch, ranks)

    def of_val() -> tuple[ending.Scored, schema.Record] | None:
        if (scored := ending.of_val(composed, loop, val_N, lockstep)) is None:
            return None
        loop.strange = list(dict.fromkeys([*others, *(watch.reasons() if watch else [])]))
        content = ending.content(composed, loop, scored, origin, {}, public)
        if public:
            loop.folder.await_scores()
            record.write(loop.folder, content)
        return scored, content

    try:
        with stop.interrupting() if ranks.world == 1 else stop.between_passes(), loop.session.optimizer.scoring():
            found = ranks.all_or_none(of_val)
            if public:
                written = True
                with nullcontext() if loop.session.shards.spread else stop.interrupting():
                    evaluations = ending.public_scores(public, loop, lockstep)
                if found:
                    found = found[0], ending.content(composed, loop, found[0], origin, evaluations)
    except KeyboardInterrupt as interrupted:
        if not written:  # else the record stands on what was logged, and the checkpoint is there
            if ranks.world > 1 and not isinstance(interrupted, Agreed):
                raise  # a second signal, of this rank alone: the others have no part in a checkpoint
            loop.back_to(trained)
            loop.save()
        raise Stopped(loop.folder.path, 128 + number_of(interrupted)) from None
    stop.notice = RECORD
    if not found:
        return None
    path = record.write(loop.folder, found[1])
    loop.folder.has_scores()
    return path
