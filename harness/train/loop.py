"""The training loop: steps on the clock; validations and checkpoints off it; raw numbers logged in windows.

A step leaves its numbers on the device. They are read, judged, chained and logged together at the end of a window (every
`log_every_steps`, and before anything is validated or saved), so that the device is never waited for in between. Which
steps are read when changes no bits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from harness.evaluate.bpb import NATS_PER_BIT, Score, score
from harness.evaluate.lockstep import Lockstep
from harness.evaluate.router_health import bias_ranges
from harness.plan.goal import levels
from harness.progress import Glance, Progress
from harness.record.documents import RunState
from harness.record.folder import MetricsLog, RunFolder
from harness.record.load import Load
from harness.record.rows import Point, StepRow, ValidationRow, WindowRow
from harness.train import chain, checkpoint
from harness.train.clock import TRAINING, Clock
from harness.train.health import HealthStop, Monitor, RankingWatch, collapse_remedy, not_finite
from harness.train.machine import forget_peak_memory, synchronize
from harness.train.occupancy import Meter
from harness.train.session import Session, StepResult
from harness.train.signals import Stop
from kernels import NonFiniteOperand


@dataclass
class State:
    """What a run has besides its tensors; goes into every checkpoint."""

    step: int = 0  # steps done
    chain: str = chain.START
    curve: list[Point] = field(default_factory=list)
    resumes: int = 0
    peak_memory_bytes: int = 0
    metrics_position: int = 0
    metrics_sha256: str = ""  # of the log up to there; "" in checkpoints of before it was kept
    monitor: dict[str, Any] = field(default_factory=dict)
    ranking: dict[str, Any] = field(default_factory=dict)
    window_counts: list[list[int]] = field(default_factory=list)
    window_dropped: list[int] = field(default_factory=list)
    dropped: list[float] = field(default_factory=list)  # share of rows beyond a capacity by layer, in the last window closed
    occupancy: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, float] = field(default_factory=dict)


@dataclass
class Loop:
    session: Session
    folder: RunFolder
    clock: Clock
    meter: Meter
    state: State
    progress: Progress
    slice_N: np.ndarray  # the part of val that the curve is scored on
    peak_memory: Callable[[], int]
    strange: list[str] = field(default_factory=list)  # what speaks against the rank of a run that is watched (audit.py)

    def __post_init__(self) -> None:
        s = self.session
        self.plan, self.first_rank, self.trained = s.plan, s.ranks.is_first, s.steps.before  # tokens of so many steps
        names, remedy = list(s.optimizer.parameters), collapse_remedy(s.plan)
        self.monitor = Monitor(s.plan.health, names, s.model.moe_layers, s.plan.model.top_k, remedy)
        self.monitor.restore(self.state.monitor)
        self.ranking = RankingWatch(self.monitor)
        self.ranking.restore(self.state.ranking)
        self.log = MetricsLog(self.folder.metrics, self.state.metrics_position) if self.first_rank else None
        self.pending: list[tuple[int, StepResult]] = []
        self.saved_at_s = self.clock.train_s
        self.window_started = (self.state.step, self.clock.train_s)
        self.window_counts: list[list[int]] = self.state.window_counts
        self.window_dropped: list[int] = self.state.window_dropped

    def run(self, stop: Stop) -> bool:
        """Trains to the end of the budget. Returns False when a signal or `stop_after_step` ended it early, with a checkpoint.

        Raises:
            HealthStop: the run goes wrong.
            UserError: the disk is full.
        """
        with self.clock.entry(TRAINING):
            whole = self._train(stop)
            self._stand_still()
            return whole

    def _stand_still(self) -> None:
        """Before the clock stops: a GPU has then done what it was given, and works off none of it off the clock."""
        synchronize(self.session.machine.device)

    def _train(self, stop: Stop) -> bool:
        plan, last = self.plan, self.plan.steps
        leave_at = plan.run.stop_after_step if plan.run.stop_after_step > self.state.step else last
        while self.state.step < last:
            done = self.state.step + 1
            closes = done % plan.run.log_every_steps == 0 or done == last
            self.pending.append((done, self._step(done, measured=closes)))
            self.state.step = done
            leave = self.session.ranks.agree(stop.requested or (done >= leave_at and done < last))
            validates = done in plan.validation.steps and done < last
            saves = leave or done in plan.run.checkpoint_steps or self._checkpoint_due()
            if closes or validates or saves:
                self._flush(window=closes)
            if validates:
                self.validate(done)
            if leave or (saves and done < last):
                self.save()
            if leave:
                return False
        return True

    def _step(self, done: int, measured: bool) -> StepResult:
        try:
            return self.session.step(done - 1, measured=measured)
        except NonFiniteOperand as found:
            self._flush(window=False)  # an earlier step may have been the first
            raise self._stopped_by(done, found) from found

    def _stopped_by(self, step: int, found: NonFiniteOperand) -> HealthStop:
        what = f"layer {found.layer}: {found.tensor}, on its way into the {self.plan.precision.format} quantizer,"
        return not_finite(step, what)

    def _checkpoint_due(self) -> bool:
        due = self.clock.train_s - self.saved_at_s >= self.plan.run.checkpoint_every_s
        return self.session.ranks.agree(due)

    def _flush(self, window: bool) -> None:
        """Reads the pending steps off the device (on the clock: everything but validation and checkpoints is)."""
        rows: list[StepRow] = []
        try:
            for step, result in self.pending:
                rows.append(self._read(step, result))
        finally:  # a health stop leaves the steps that led to it in the log
            if self.log:
                self.log.append(rows)
        last = self.pending[-1][1] if self.pending else None
        self.pending = []
        if window:
            self._close_window(rows[-1]["loss"], last)

    def _read(self, step: int, result: StepResult) -> StepRow:
        """Reads one step: extends the chain, adds to the window, judges.

        Raises:
            HealthStop: it was the last.
        """
        loss, norms, counts = float(result.loss), result.norms.tolist(), result.count_LE.tolist()
        norm = float(result.norms.norm())
        self.monitor.see(step, loss, norms, counts)
        self.ranking.see(step, loss, norms, counts)
        self.window_counts = _added(self.window_counts, counts)
        if result.dropped_L is not None:
            self.window_dropped = [
                sum(pair) for pair in zip_longest(self.window_dropped, result.dropped_L.tolist(), fillvalue=0)
            ]
        self.state.chain = chain.extend(self.state.chain, loss, norm, counts)
        row = StepRow(
            kind="step", step=step, tokens=self.trained(step), loss=loss, grad_norm=norm,
            lr_scale=result.lr_scale,
        )  # fmt: skip
        if result.auxiliary:
            row["auxiliary"] = {name: float(value) for name, value in result.auxiliary.items()}
        return row

    def _close_window(self, loss: float, last: StepResult) -> None:
        step, tokens = self.state.step, self.trained(self.state.step)
        begun, seconds = self.window_started
        now = self.clock.train_s
        rate = (tokens - self.trained(begun)) / max(now - seconds, 1e-9)
        self.window_started = (step, now)
        mfu = rate * self.session.counts.flops_per_token / self.session.machine.peak_flops
        row = WindowRow(
            kind="window", step=step, tokens=tokens, train_s=now, tokens_per_second=rate, mfu=mfu,
            chain=self.state.chain, counts=self.window_counts, bias_range=bias_ranges(self.session.model), groups=last.groups,
        )  # fmt: skip
        if last.precision is not None:
            row["precision"] = last.precision
        if self.window_dropped:
            dropped = [rows / sum(count) for rows, count in zip(self.window_dropped, self.window_counts)]
            row["dropped"] = self.state.dropped = dropped
        wall_s = now - self.meter.closed_at_s
        if (occupancy := self.meter.close_window(now)) is not None:
            row["occupancy"] = occupancy
        if self.log:
            self.log.append([row])
        self._glance(loss, rate, mfu, self.meter.busy_share(occupancy, wall_s))
        self.window_counts, self.window_dropped = [], []
        if 2 * step >= self.plan.steps and "middle" not in self.meter.peaks:
            self.look("middle")

    def look(self, when: str) -> None:
        """At the machine's peak and who else is on it, off the clock. No bit of the run depends on it."""
        self._stand_still()
        with self.clock.entry("peaks_s"):
            self.state.peak_memory_bytes = max(self.state.peak_memory_bytes, self.peak_memory())
            self.meter.look(when, self.session.machine.matmul_peak_now())
            forget_peak_memory(self.session.machine.device)

    def _glance(self, loss: float, rate: float, mfu: float, taken: float | None) -> None:
        step, tokens = self.state.step, self.trained(self.state.step)
        left = self.session.steps.total - tokens
        worst = float(Load.of(self.window_counts).entropy_ratio.min()) if self.window_counts else None
        curve = self.state.curve
        self.progress.show(Glance(
            step, self.plan.steps, tokens, loss, loss / NATS_PER_BIT, rate, mfu, worst, left / rate,
            curve[-1]["slice_bpb"] if curve else None, taken, self.plan.track.shortly,
        ))  # fmt: skip

    def validate(self, step: int) -> None:
        """Scores the slice, off the clock, and adds a point to the curve."""
        self._stand_still()
        with self.clock.entry("validation_s"), self.session.optimizer.scoring():
            found = self.score(self.slice_N, self.lockstep())
        self.add_point(step, found)

    def lockstep(self, heard: Callable[[], int] = lambda: 0) -> Lockstep:
        """In which the ranks of this run score. `heard`: as there."""
        return Lockstep(self.session.ranks, self.session.sums.together, heard)

    def score(self, text_N: np.ndarray, lockstep: Lockstep, shuffle_seed: int | None = None) -> Score:
        """The first so many tokens of val, scored by all ranks together; see `harness.evaluate.bpb.score`.

        Raises:
            HealthStop: a quantizer met what is not finite.
            Agreed: a signal was heard.
        """
        s = self.session
        s.stand_at(max(self.state.step - 1, 0))
        known = {"token_bytes_V": s.corpus.token_bytes, "answer_N": s.corpus.answer_N}
        try:
            return score(s.model, text_N, s.scoring_tokens, shuffle_seed, lockstep=lockstep, **known)
        except NonFiniteOperand as operand:
            raise self._stopped_by(self.state.step, operand) from operand

    def add_point(self, step: int, found: Score) -> None:
        """`found`: of the slice, or of more of val, whose first part is the slice."""
        slice_bpb = found.bpb(len(self.slice_N))
        if not math.isfinite(slice_bpb):
            raise not_finite(step, f"validation {self.plan.track.measure}")
        point = Point(step=step, tokens=self.trained(step), train_s=self.clock.train_s, slice_bpb=slice_bpb)
        if found.bytes_N is not None:
            point |= {"slice_loss": found.loss(len(self.slice_N)), "epoch": self.session.batches.epochs_after(step)}
        before = self.state.curve[-1] if self.state.curve else None
        self.state.curve.append(point)
        if self.log:
            self.log.append([ValidationRow(kind="validation", **point)])
        for level in sorted(levels(self.plan.track).values(), key=lambda level: -level.level):
            value = point[level.metric]
            if value < level.level <= (before[level.metric] if before else float("inf")):
                self.progress.say(
                    f"passed {level.label} ({level.level:.4f}): {value:.4f} {level.unit} on the slice "
                    f"at {self.clock.train_s:.1f} s"
                )

    def _refuse_bad_weights(self) -> None:
        """A step whose loss and gradients were finite may still leave weights that are not: never the last good checkpoint. Of
        slices each rank looks at its own, and all name the first that any has found."""
        names, bad = [], []
        for at, (name, tensor) in enumerate(self.session.state().items()):
            names.append(name)
            if tensor.is_floating_point() and not bad and not bool(torch.isfinite(tensor).all()):
                bad.append(at)
        found = [each for of_rank in self.session.shards.ranks.everyones_values(bad) for each in of_rank]
        if found:
            raise not_finite(self.state.step, f"{names[min(found)]} after the update")

    def mark(self) -> tuple[int, int]:
        """Where log and curve stand."""
        return self.log.sync() if self.log else 0, len(self.state.curve)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forgets what was logged since."""
        if self.log:
            self.log.cut(mark[0])
        del self.state.curve[mark[1] :]

    def save(self) -> None:
        """A checkpoint, off the clock. Where each rank has all state the first one writes it, else each its own part."""
        self._stand_still()
        with self.clock.entry("checkpoint_s"):
            self._refuse_bad_weights()
            self.state.monitor, self.state.ranking = self.monitor.state(), self.ranking.state()
            self.state.window_counts = self.window_counts
            self.state.window_dropped = self.window_dropped
            self.state.peak_memory_bytes = max(self.state.peak_memory_bytes, self.peak_memory())
            if self.log:
                self.state.metrics_position, self.state.metrics_sha256 = self.log.sync(), self.log.sha256
                self.state.ledger, self.state.occupancy = self.clock.as_record(), self.meter.state()
            if self.log or self.session.shards.spread:
                checkpoint.save(
                    self.folder.checkpoints,
                    self.state.step,
                    self.session.state(),
                    RunState(**vars(self.state)),
                    self.plan.run.keep_checkpoints,
                    always=self.plan.run.checkpoint_steps,
                    shards=self.session.shards,
                )
        self.saved_at_s = self.clock.train_s


def _added(total: list[list[int]], counts: list[list[int]]) -> list[list[int]]:
    return [[a + b for a, b in zip(x, y)] for x, y in zip(total, counts)] if total else counts
