"""A record beside its replay: what is equal, what was not expected to be, and whether seeds predicted it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.record.schema import Record
from harness.report.run_data import RunData
from harness.report.statistics import ASSUMES, LEVEL, MIN_SEEDS, Sample
from harness.report.verify.executions import compare
from harness.revision import REVISION, revision_of

PREDICTED = (("training", "train_s", "{:,.1f} s"), ("slice", "slice_bpb", "{:.4f}"), ("all val", "val_bpb", "{:.4f}"))
HASH_CHARS = 8


@dataclass(frozen=True)
class Beside:
    """`record`: of the replay's own seed, None where it has none; `recorded`: the seeds of its plan that were there before, on
    one hardware class, at least one."""

    replay: RunData
    record: RunData | None
    recorded: tuple[RunData, ...]

    @property
    def unlike(self) -> list[str]:
        """What bits depend on and the two do not share, in words."""
        if self.record is None:
            return [f"seed {self.replay.record.seed} has no record"]
        ours, theirs = self.replay.record, self.record.record
        found = []
        if revision_of(theirs.hardware_class) != revision_of(ours.hardware_class):
            found.append(f"revision {revision_of(theirs.hardware_class)} of the arithmetic, now {REVISION}")
        elif ours.hardware_class != theirs.hardware_class:
            found.append(f"hardware class {theirs.hardware_class}, here {ours.hardware_class}")
        if ours.provenance.source_sha256 != theirs.provenance.source_sha256:
            found.append(f"source of commit {theirs.provenance.commit[:7]}, here {ours.provenance.commit[:7]}")
        if ours.provenance.versions != theirs.provenance.versions:
            found.append("versions of packages")
        return found

    @property
    def equal(self) -> bool:
        """Whether chain and weights are those of the record."""
        return self.record is not None and self.replay.record.determinism == self.record.record.determinism

    @property
    def failed(self) -> bool:
        """Other bits, where everything they depend on is the record's."""
        return self.record is not None and not self.equal and not self.unlike

    @property
    def why_untimed(self) -> str | None:
        """Why seconds of the two are not compared."""
        apart = self.replay.why_seconds_differ(self.recorded[0])
        sides = [self.replay, *([self.record] if self.record else [])]
        names = ("the replay", "the record")
        disturbed = [f"{name}: {run.disturbed}" for name, run in zip(names, sides) if run.disturbed]
        return "; ".join([*([apart] if apart else []), *disturbed]) or None


def told(beside: Beside) -> str:
    """The table and its sentences."""
    head = f"replay {beside.replay.folder} of {beside.record.folder if beside.record else beside.recorded[0].folder}"
    return "\n".join([head, "", *_table(beside), "", *sentences(beside)])


def sentences(beside: Beside) -> list[str]:
    return [_bits(beside), _machine(beside), *_predicted(beside), _rank(beside.replay)]


def line(beside: Beside) -> str:
    """One of several."""
    bits = "equal bits" if beside.equal else "other bits" if beside.record else "another seed"
    seconds = f"{_seconds(beside.replay):,.1f} s"
    against = f" against {_seconds(beside.record):,.1f} s" if beside.record and not beside.why_untimed else ""
    return f"{bits:<14}{seconds + against:<34}{beside.replay.folder}"


def _seconds(run: RunData) -> float:
    return run.record.clock.train_s


def _table(beside: Beside) -> list[str]:
    found, timed = beside.record, beside.why_untimed is None
    ours, theirs = beside.replay.record, found.record if found else None
    rows = [("", "record", "replay", "")]

    def add(name: str, of: Callable[[Record], float | None], form: str, clocked: bool = False) -> None:
        now, was = of(ours), of(theirs) if theirs else None
        texts = ["-" if value is None else form.format(value) for value in (was, now)]
        if clocked and not timed:
            texts = [f"({text})" for text in texts]
        both = was is not None and now is not None and (timed or not clocked)
        rows.append((name, *texts, _difference(was, now) if both else ""))

    add("training, s", lambda r: r.clock.train_s, "{:,.1f}", True)
    add("to target, s", lambda r: r.metrics.time_to_target_s, "{:,.1f}", True)
    add("tokens/s", lambda r: r.metrics.tokens_per_second, "{:,.0f}", True)
    add("slice", lambda r: r.metrics.slice_bpb, "{:.4f}")
    add("all val", lambda r: r.metrics.val_bpb, "{:.4f}")
    add("memory, GiB", lambda r: r.metrics.peak_memory_bytes / 2**30, "{:.2f}")
    for name in ("chain", "weights"):
        was, now = (getattr(r.determinism, name)[:HASH_CHARS] if r else "-" for r in (theirs, ours))
        rows.append((name, was, now, "" if found is None else "equal" if was == now else "another"))
    shares = [f"{r.occupancy.share:.1%}" if r and r.occupancy else "-" for r in (theirs, ours)]
    rows.append(("others took", *shares, ""))
    rows.append(("commit", theirs.provenance.commit[:7] if theirs else "-", ours.provenance.commit[:7], ""))
    return [f"  {name:<14}{was:>14}{now:>14}   {says}".rstrip() for name, was, now, says in rows]


def _difference(was: float, now: float) -> str:
    return "equal" if was == now else f"{(now - was) / was:+.1%}" if was else ""


def _bits(beside: Beside) -> str:
    if beside.record is None:
        return f"Bits: nothing to compare with, {beside.unlike[0]}."
    apart = "; ".join(beside.unlike)
    if beside.equal:
        return f"Bits: equal, chain and weights{f', though nothing promised it: the record is of {apart}' if apart else ''}."
    rows = compare(beside.record.rows, beside.replay.rows, beside.record.steps[-1]["step"])
    first = f"First difference: {rows.difference or 'the weights'}."
    if apart:
        return f"Bits: not equal, and nothing promised it: the record is of {apart}. {first}"
    return f"Bits: not equal, though seed, hardware class, source and versions are the record's. {first}"


def _machine(beside: Beside) -> str:
    if why := beside.why_untimed:
        return f"Seconds: no claim, {why}."
    occupancy = beside.replay.record.occupancy
    whose = f"others took {occupancy.share:.1%} of the replay's processor time" if occupancy else "whose machine is not known"
    now = _seconds(beside.replay)
    if beside.record is None:
        return f"Seconds: {now:,.1f} s of training; {whose}."
    was = _seconds(beside.record)
    side, apart = "more" if now > was else "less", abs(now - was)
    return f"Seconds: {apart:,.1f} s ({apart / was:.1%}) {side} of training than the record; {whose}."


def _predicted(beside: Beside) -> list[str]:
    """Where the recorded seeds say that another run falls; nothing below three of them, or of another hardware class."""
    if not beside.replay.same_class(beside.recorded[0]):
        return []
    found = []
    for name, key, form in PREDICTED:
        clocked = key == "train_s"
        runs = [run for run in beside.recorded if not (clocked and run.disturbed)]
        known = beside.why_untimed if clocked else beside.equal  # equal bits need no prediction
        if len(runs) >= MIN_SEEDS and not known:
            found.append(_within(name, _value(beside.replay, key), [_value(run, key) for run in runs], form))
    return [f"Predicted by recorded seeds, {LEVEL:.0%} intervals, {ASSUMES}: {'; '.join(found)}."] if found else []


def _value(run: RunData, key: str) -> float:
    return _seconds(run) if key == "train_s" else getattr(run.record.metrics, key)


def _within(name: str, value: float, recorded: Sequence[float], form: str) -> str:
    low, high = Sample.of(recorded).prediction(LEVEL)
    lies = "inside" if low <= value <= high else "outside"
    return f"{name} {form.format(value)} is {lies} {form.format(low)} to {form.format(high)} (n = {len(recorded)})"


def _rank(run: RunData) -> str:
    if run.why_unranked:
        return f"The replay is a run of its own, unranked: {run.why_unranked}."
    return f"The replay is a run of its own, and ranked: make submit RUN={run.folder} claims it with other seeds of its plan."
