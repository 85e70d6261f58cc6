"""Two executions of one plan side by side: are the bits equal, are the numbers within tolerance, do fresh seeds agree?

Each of the three is weaker than the one before. Equal bits can only be had on the hardware class that made the record.
Elsewhere sums are taken in another order, so each step differs by rounding, and training amplifies it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.record.rows import Rows
from harness.report.statistics import ALPHA, MIN_SEEDS, Sample

Chains = Iterable[tuple[int, str]]  # (step, hash chain) of each window

# Bounds of relative differences, about twice what other arithmetic was seen to do to one seed. Largest difference of a loss
# against two threads, compiled, bf16 emulated, on two AVX2 cores with 1,024 bytes a step:
#                                          steps 1 to 16   17 to 32    17 to 384       scores after up to 384 steps
#   one thread                 both lanes              0          0
#   kernels.compile=off        tiny-dense        1.6e-06    1.7e-05
#                              tiny-moe-16e      4.5e-04    1.7e-03
#   precision.format=fp32      tiny-dense        3.7e-05    4.6e-05
#                              tiny-moe-16e      6.7e-04    3.7e-03    2.7e-02 (*)     5.7e-03 (*)
# (*) width 64, one thread and eager on both sides. A router that rounds otherwise sends tokens elsewhere: MoE drifts faster.
EARLY_STEPS = 16
EARLY_TOLERANCE = 1e-3
LATE_TOLERANCE = 5e-2
SCORE_TOLERANCE = 1e-2

EXACT = {
    "step": ("tokens", "loss", "grad_norm", "lr_scale"),
    "window": ("tokens", "chain", "counts"),
    "validation": ("tokens", "slice_bpb"),
    "final": ("nats", "targets", "counts", "scored_bytes", "val_bpb", "val_bpb_clean", "slice_bpb_shuffled_routing"),
}  # what has the same bits in two executions; seconds and rates have not


@dataclass(frozen=True)
class Comparison:
    """How the first `steps` steps compare. `difference` is the earliest in words, None where every compared bit is equal."""

    steps: int
    difference: str | None
    largest: float  # relative difference of a loss among the first EARLY_STEPS steps
    largest_at: int
    largest_later: float  # among the steps after those
    scores: float | None  # largest relative difference of a score (validations, final); None where none was reached
    contradiction: str | None  # how the record cannot have come about, whatever machine made it

    @property
    def equal_bits(self) -> bool:
        return self.difference is None

    @property
    def within_tolerance(self) -> bool:
        """NaN is within nothing."""
        return (
            self.largest <= EARLY_TOLERANCE
            and self.largest_later <= LATE_TOLERANCE
            and (self.scores is None or self.scores <= SCORE_TOLERANCE)
        )


def compare(recorded: Rows, found: Rows, steps: int) -> Comparison:
    """Both must hold every one of the first `steps` steps; rows beyond them are not looked at."""
    differences = []
    for kind, keys in EXACT.items():
        theirs, ours = ({row["step"]: row for row in rows[kind] if row["step"] <= steps} for rows in (recorded, found))
        for step in sorted(theirs.keys() | ours.keys()):
            if step not in theirs or step not in ours:
                where = "the record" if step not in theirs else "the re-execution"
                differences.append((step, f"step {step}: {where} has no {kind} row"))
                continue
            for key in keys:
                if theirs[step].get(key) != ours[step].get(key):
                    differences.append((step, f"step {step}: {_told(kind, key, theirs[step].get(key), ours[step].get(key))}"))
                    break
    pairs = [(a["step"], a["loss"], b["loss"]) for a, b in zip(recorded["step"], found["step"]) if a["step"] <= steps]
    relative = {step: _relative(a, b) for step, a, b in pairs}
    largest_at = max((step for step in relative if step <= EARLY_STEPS), key=lambda step: relative[step])
    return Comparison(
        steps=len(pairs),
        difference=min(differences, key=lambda item: item[0])[1] if differences else None,
        largest=relative[largest_at],
        largest_at=largest_at,
        largest_later=max((r for step, r in relative.items() if step > EARLY_STEPS), default=0.0),
        scores=max(_score_differences(recorded, found, steps), default=None),
        contradiction=_contradiction(recorded, found, steps),
    )


def _contradiction(recorded: Rows, found: Rows, steps: int) -> str | None:
    """A chain covers every loss before it: two equal chains over unequal losses mean that losses were changed afterwards."""
    chains = {row["step"]: row["chain"] for row in found["window"]}
    shared = [row["step"] for row in recorded["window"] if row["step"] <= steps and row["chain"] == chains.get(row["step"])]
    for a, b in zip(recorded["step"], found["step"]):
        if a["step"] <= max(shared, default=0) and (a["loss"], a["grad_norm"]) != (b["loss"], b["grad_norm"]):
            return (
                f"the hash chain of step {max(shared)} is the one re-executed here, but loss or gradient norm of step "
                f"{a['step']} is not: the recorded ones are not those that the chain was made of"
            )
    return None


def parting(ours: Chains, theirs: Chains) -> tuple[int, int | None]:
    """Where two executions part: (the last step at which they have one chain, the first at which they have two; None where no
    window of both shows it)."""
    known, equal = dict(theirs), 0
    for step, chain in ours:
        if known.get(step, chain) != chain:
            return equal, step
        equal = step if step in known else equal
    return equal, None


def _told(kind: str, key: str, recorded: Any, found: Any) -> str:
    if isinstance(recorded, float) and isinstance(found, float):
        return f"{key} is {recorded!r} in the record, {found!r} re-executed"
    name = "hash chain" if key == "chain" else f"{key} of the {kind}"
    return f"the {name} is another"


def _score_differences(recorded: Rows, found: Rows, steps: int) -> list[float]:
    out = []
    for kind, key in (("validation", "slice_bpb"), ("final", "val_bpb")):
        ours = {row["step"]: row[key] for row in found[kind]}
        out += [
            _relative(row[key], ours[row["step"]]) for row in recorded[kind] if row["step"] <= steps and row["step"] in ours
        ]
    return out


def _relative(recorded: float, found: float) -> float:
    """Infinite where either is no finite number."""
    if not (math.isfinite(recorded) and math.isfinite(found)):
        return math.inf
    return abs(recorded - found) / max(abs(recorded), 1e-12)


def window_losses(rows: Rows, steps: int) -> list[float]:
    """The mean loss of each of the windows that end within the first `steps` steps."""
    ends = [row["step"] for row in rows["window"] if row["step"] <= steps]
    begins = [0, *ends[:-1]]
    return [_mean([row["loss"] for row in rows["step"] if begin < row["step"] <= end]) for begin, end in zip(begins, ends)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


@dataclass(frozen=True)
class SeedTest:
    """Window losses of a fresh seed among those of `n` recorded seeds. `problem` says why it does not pass, or None."""

    n: int
    seed: int
    problem: str | None


def try_fresh_seed(recorded: Mapping[int, list[float]], claimed: int, seed: int, fresh: list[float]) -> SeedTest:
    """Is a fresh seed where the recorded ones predict it, and seed `claimed` where all the others do?

    `recorded`: window losses by seed, `claimed` among them. Prediction intervals of Student's t, ALPHA shared among all
    tests (Bonferroni); assuming independent seeds and a roughly normal spread. It passes a wrong record that looks like any
    other seed of the lane.
    """
    if len(recorded) < MIN_SEEDS:
        return SeedTest(len(recorded), seed, f"{len(recorded)} recorded seeds of this plan beside it, {MIN_SEEDS} are needed")
    others = [losses for s, losses in recorded.items() if s != claimed]
    level = 1 - ALPHA / (2 * len(fresh))
    for name, against, tested in (
        (f"fresh seed {seed}", list(recorded.values()), fresh),
        (f"the record's seed {claimed}", [*others, fresh], recorded[claimed]),
    ):
        for window, values in enumerate(zip(*against), 1):
            low, high = Sample.of(values).prediction(level)
            if not low <= tested[window - 1] <= high:
                told = f"{name}: mean loss {tested[window - 1]:.4f} in window {window}"
                return SeedTest(len(recorded), seed, f"{told}, the other seeds predict {low:.4f} to {high:.4f}")
    return SeedTest(len(recorded), seed, None)
