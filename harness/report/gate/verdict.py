"""The gate's verdict on one run: a small function a detector, each with its numbers and its rule. Reads records only.

What a detector has nothing to compare with is skipped, and says so; nothing is guessed. Sources of comparison are the
committed baseline of the plan and, where `base=REF` was given, the same seed run at that commit in the same job.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.plan.bounds import TAKEN
from harness.plan.track import of_uniform
from harness.record.documents import Probe
from harness.record.results import ClassBaseline, Figures, PlanBaseline
from harness.record.schema import Parameters
from harness.report.gate import noise
from harness.report.gate.baseline import figures
from harness.report.integrity import check
from harness.report.run_data import RunData
from harness.report.statistics import ALPHA, ASSUMES
from harness.report.verify.executions import parting

MEMORY_RISE = 0.10  # two equal runs of a micro lane differed by 3.4% on a CPU, where libraries' own pages count
LEAST_SLOWDOWN = 0.05  # never alarms about less, however steady the machine was when the baseline was made
SCORE_TOLERANCE = 1e-6  # of the uniform model's bits: fp32 rounds ln 256 once
PASS, FAIL, SKIP = "pass", "fail", "skip"
REMEDY = 'if this is meant: make gate-update LANE=... REASON="..."'


@dataclass(frozen=True)
class Outcome:
    detector: str
    status: str  # PASS | FAIL | SKIP
    found: str  # the numbers, on one line
    rule: str
    reasons: tuple[str, ...] = ()  # one sentence for each thing that failed


@dataclass(frozen=True)
class Side:
    """What another source says about the same plan, seed and hardware class; any part may be missing."""

    label: str
    figures: Figures | None = None
    counts: Parameters | None = None
    peaks: list[int] = field(default_factory=list)  # bytes
    ratios: list[float] = field(default_factory=list)  # step / reference workload, one a process
    workload_version: int | None = None
    untimed: str = ""  # why there are no ratios, where it was timed in vain
    changed_plan: tuple[str, ...] = ()  # "key: theirs -> ours"; bits are then no longer comparable
    stated: str | None = None  # the reason, where the difference from this side was accepted by a newer baseline


@dataclass(frozen=True)
class Evidence:
    run: RunData
    baseline: PlanBaseline | None = None
    base: Side | None = None
    probes: list[Probe] = field(default_factory=list)  # what `probe` wrote for the code under test

    @property
    def own_class(self) -> ClassBaseline | None:
        return self.baseline.classes.get(self.run.record.speed_class) if self.baseline else None

    @property
    def disturbed(self) -> str:
        """Why speed is not judged, where others took the machine while it was measured; else empty."""
        taken = [probe.timing.taken for probe in self.probes if probe.timing.disturbed]
        if taken and len(taken) == len(self.probes):
            return not_judged("this checkout", taken)
        return self.base.untimed if self.base else ""

    @property
    def sides(self) -> list[Side]:
        """The baseline of this hardware class, then the base."""
        found, own, seed = [], self.own_class, self.run.record.seed
        if own is not None:
            peaks = [of_seed.peak_memory_bytes for of_seed in own.seeds.values()]
            found.append(
                Side(own.label, own.seeds.get(str(seed)), self.baseline.counts, peaks, own.ratios, own.workload_version)
            )
        elif self.baseline is not None:
            found.append(Side("baseline of another hardware class", counts=self.baseline.counts))
        return found + ([self.base] if self.base else [])


def not_judged(what: str, taken: list[float]) -> str:
    return (
        f"not judged: others took {min(taken):.0%} of the processor time or more whenever {what} was timed, {TAKEN:.0%} are "
        "allowed; try again on a machine that is free"
    )


def judge(evidence: Evidence) -> list[Outcome]:
    return [detector(evidence) for detector in DETECTORS]


def exact_bits(e: Evidence) -> Outcome:
    rule = "same seed and hardware class: hash chain, weights and every score equal"
    mine, reasons, compared, stated = figures(e.run), [], [], []
    for side in e.sides:
        if side.changed_plan:
            reasons.append(f"{side.label} has another plan: {'; '.join(side.changed_plan)}")
        elif side.figures is not None:
            differences = list(_differences(mine, side.figures))
            compared.append(side.label)
            if differences and side.stated:
                stated.append(f"differs from {side.label} as stated: {side.stated!r}")
            else:
                reasons += [f"{sentence} ({side.label})" for sentence in differences]
    if reasons:
        return Outcome("exact bits", FAIL, f"{len(reasons)} differences", rule, (*reasons, REMEDY))
    if not compared:
        why = "no run of this seed and hardware class to compare with; base=REF makes one"
        return Outcome("exact bits", SKIP, why, rule)
    return Outcome("exact bits", PASS, "; ".join(stated) or f"equal to {' and '.join(compared)}", rule)


def _differences(mine: Figures, theirs: Figures):
    if mine.chain != theirs.chain:
        before, other = parting(mine.windows, theirs.windows)
        yield f"training leaves it {f'in the window of steps {before + 1} to {other}' if other else f'after step {before}'}"
    elif mine.weights != theirs.weights:
        yield "final weights differ although every step's loss, norm and counts are equal"
    elif mine.val_bpb != theirs.val_bpb or mine.slice_bpb != theirs.slice_bpb:
        yield (
            f"scoring changed: the weights are equal, val_bpb is {mine.val_bpb:.6f} instead of {theirs.val_bpb:.6f}, "
            f"the slice {mine.slice_bpb[-1][1]:.6f} instead of {theirs.slice_bpb[-1][1]:.6f}"
        )


def _noise(e: Evidence) -> tuple[str, list[Figures], int]:
    """(where seed noise is from, the seeds, how many comparisons the whole run makes); no seeds where there is no noise."""
    if e.baseline is None:
        return "no baseline of this plan", [], 0
    where, seeds = e.baseline.seed_noise(e.run.record.speed_class)
    if len(seeds) < 2:
        return f"n = {len(seeds)} seed: one run shows no spread", [], 0
    mine = figures(e.run)
    if any(_steps(seed) != _steps(mine) for seed in seeds):
        return "the run stopped at other steps than the baseline's", [], 0
    count = len([*noise.of_losses(mine, seeds, e.run.shortly), *noise.of_health(mine, seeds)])
    return where, seeds, count


def _steps(of_seed: Figures) -> list[int]:
    """Which figures a run has: parts of its losses, and steps of its curve."""
    return [len(of_seed.loss), *(step for step, _ in of_seed.slice_bpb)]


def _noise_rule(where: str, seeds: list[Figures], count: int) -> str:
    return (
        f"inside the prediction interval of n = {len(seeds)} seeds ({where}) at {1 - ALPHA / count:.4%} each, "
        f"{1 - ALPHA:.0%} for all {count} figures together; {ASSUMES}"
    )


def loss_and_bpb(e: Evidence) -> Outcome:
    where, seeds, count = _noise(e)
    if not seeds:
        return Outcome("loss and bpb", SKIP, where, "inside measured seed noise")
    reasons, closest = [], []
    for c in noise.of_losses(figures(e.run), seeds, e.run.shortly):
        side = c.outside(count)
        closest.append((abs(c.value - c.seeds.mean) / (c.interval(count)[1] - c.seeds.mean or 1), c))
        if side:
            reasons.append(f"{'implausibly fast convergence' if side == noise.BELOW else 'regression'}: {c.sentence(count)}")
    rule = _noise_rule(where, seeds, count)
    found = max(closest, key=lambda item: item[0])[1].sentence(count)
    return Outcome("loss and bpb", FAIL if reasons else PASS, f"nearest its bound: {found}", rule, tuple(reasons))


def router_health(e: Evidence) -> Outcome:
    if e.run.record.router_health is None:
        return Outcome("router health", SKIP, "a dense model", "inside the range of the baseline's seeds")
    where, seeds, count = _noise(e)
    if not seeds:
        return Outcome("router health", SKIP, where, "inside the range of the baseline's seeds")
    comparisons = list(noise.of_health(figures(e.run), seeds))
    reasons = tuple(c.sentence(count) for c in comparisons if c.outside(count))
    found = ", ".join(f"{c.name} {c.value:.4g}{c.unit}" for c in comparisons)
    return Outcome("router health", FAIL if reasons else PASS, found, _noise_rule(where, seeds, count), reasons)


def speed(e: Evidence) -> Outcome:
    """Slower than noise explains fails; faster is good news. What was timed while others took the machine is not judged."""
    rule = f"step / reference workload in one job: not more than {LEAST_SLOWDOWN:.0%} or the measured spread above"
    ours = [probe.timing.ratio for probe in e.probes if not probe.timing.disturbed]
    if e.disturbed:
        return Outcome("speed", SKIP, e.disturbed, rule)
    sides = [
        s for s in e.sides
        if s.ratios and len(ours) + len(s.ratios) > 2 and s.workload_version == e.probes[0].timing.version
    ] if ours else []  # fmt: skip
    if not sides:
        clock = f"; the run's own seconds are no claim: {e.run.disturbed}" if e.run.disturbed else ""
        return Outcome("speed", SKIP, f"nothing timed against the same workload on this hardware class{clock}", rule)
    found, reasons = [], []
    for side in sides:
        slower, spread = noise.slowdown(ours, side.ratios)
        allowed = max(LEAST_SLOWDOWN, spread)
        counted = f"n = {len(ours)} against {len(side.ratios)} measurements"
        found.append(f"{slower:+.1%}, allowed {allowed:+.1%} ({counted})")
        if slower > allowed:
            reasons.append(
                f"steps take {slower:.1%} longer than {side.label}; {allowed:.1%} is noise at {1 - ALPHA:.0%}, {counted}"
            )
    if left := len(e.probes) - len(ours):
        found.append(f"{left} more not counted, while others took the machine")
    return Outcome("speed", FAIL if reasons else PASS, "; ".join(found), rule, tuple(reasons))


def peak_memory(e: Evidence) -> Outcome:
    rule = f"at most {MEMORY_RISE:.0%} above the highest peak on this hardware class"
    peak, found, reasons = e.run.record.metrics.peak_memory_bytes, [], []
    for side in (s for s in e.sides if s.peaks):
        rise = peak / max(side.peaks) - 1
        found.append(f"{peak / 2**20:,.0f} MiB, {rise:+.1%}")
        if rise > MEMORY_RISE:
            reasons.append(
                f"peak memory {peak / 2**20:,.0f} MiB is {rise:.0%} above {max(side.peaks) / 2**20:,.0f} MiB of {side.label}"
            )
    if not found:
        return Outcome("peak memory", SKIP, "no peak of this hardware class to compare with", rule)
    return Outcome("peak memory", FAIL if reasons else PASS, "; ".join(found), rule, tuple(reasons))


def counts(e: Evidence) -> Outcome:
    rule = "parameters, active parameters and FLOPs per token equal"
    mine, reasons, compared = e.run.record.counts, [], 0
    for side in (s for s in e.sides if s.counts is not None):
        compared += 1
        if not (side.changed_plan or side.stated):
            reasons += [
                f"{key} is {getattr(mine, key):,} instead of {getattr(side.counts, key):,} ({side.label})"
                for key in Parameters.model_fields
                if getattr(mine, key) != getattr(side.counts, key)
            ]
    if not compared:
        return Outcome("counts", SKIP, "nothing to compare with", rule)
    found = f"{mine.params_total:,} parameters, {mine.params_active:,} active, {mine.flops_per_token:,} FLOPs per token"
    return Outcome("counts", FAIL if reasons else PASS, found, rule, tuple(reasons))


def record_integrity(e: Evidence) -> Outcome:
    reasons = tuple(check(e.run))
    rule = "every derived number of the record follows from the raw ones beside it"
    return Outcome("record", FAIL if reasons else PASS, f"{len(reasons)} contradictions", rule, reasons)


def scorer(e: Evidence) -> Outcome:
    tokenizer = (e.run.plan["track"].get("tokens") or {}).get("tokenizer", "")
    measure, unit = of_uniform(tokenizer), "token" if tokenizer else "byte"
    rule = f"a uniform model scores log2(vocabulary) {measure} on every {unit} but the first"
    if not e.probes:
        return Outcome("scorer", SKIP, "not probed", rule)
    found = e.probes[0].uniform
    reasons = [
        f"a uniform model scores {scored:.6f} {measure} ({key}) instead of {found.expected:g}"
        for key, scored in (("all", found.all), ("slice", found.slice), ("masked", found.masked))
        if abs(scored - found.expected) > SCORE_TOLERANCE
    ]
    if found.targets != found.expected_targets:
        reasons.append(f"{found.targets:,.0f} {unit}s were scored instead of {found.expected_targets:,.0f}")
    return Outcome("scorer", FAIL if reasons else PASS, f"{found.all:.6f} {measure}", rule, tuple(reasons))


DETECTORS: tuple[Callable[[Evidence], Outcome], ...] = (
    exact_bits, loss_and_bpb, router_health, speed, peak_memory, counts, record_integrity, scorer,
)  # fmt: skip
