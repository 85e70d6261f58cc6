"""The starting plan: what a run will be, printed before anything is spent."""

from dataclasses import asdict, dataclass
from itertools import groupby

from harness.errors import UserError
from harness.launch.data_plan import data_lines
from harness.model.build import count_beside
from harness.model.counts import Counts
from harness.plan.bounds import TAKEN, looser
from harness.plan.compose import Composed
from harness.plan.fingerprint import flat, plan_hash
from harness.plan.goal import CURVE_METRICS, goal, levels
from harness.plan.schema import Model, Plan, Precision, Track
from harness.plan.steps import batch_scale
from harness.plan.tasks import made_anew, made_by, val_length
from harness.progress import duration
from harness.record.read import read_record
from harness.report.peaks import Peaks, known_peaks
from harness.report.twin import best_record
from harness.train.backends import attention_backend, expert_backend
from harness.train.estimate import run_seconds
from harness.train.machine import Machine, memory_available_bytes
from harness.train.memory import memory
from harness.train.warmup import WARMUP_STEPS
from kernels import Arithmetic
from kernels.activation import ACTIVATIONS
from kernels.precision import FORMATS

GIB = 1 << 30


RUNS_ANYWHERE = "tiny-moe-16e"


def refuse_what_cannot_run(composed: Composed, here: Machine) -> None:
    """Raises: UserError when a lane for GPUs is not shortened on a machine without one, the format is emulated where the plan
    requires it natively, or the memory estimate does not fit."""
    plan = composed.plan
    if plan.precision.require_native and _execution(plan, here) == "emulated":
        raise UserError(
            f"precision.require_native=true, but {plan.precision.format} is emulated on {here.model}",
            "drop it: the operands are exact, the record says emulated and makes no claim about speed",
        )
    if plan.lane.gpu and here.device == "cpu" and not composed.cut:
        raise UserError(
            f"lane {plan.lane.name} is made for a GPU, and there is no CUDA device here",
            f"make speedrun LANE={RUNS_ANYWHERE} runs here; a short look at this lane: "
            f'make speedrun LANE={plan.lane.name} SET="unranked=true budget.tokens=65536"',
        )
    found, available = memory(plan, here), memory_available_bytes(here.device)
    needed = found.total
    if needed > available:
        spread = f"; make plan LANE={plan.lane.name} RANKS=N says how many GPUs hold it" if plan.lane.gpu else ""
        raise UserError(
            f"lane {plan.lane.name} needs about {needed / GIB:.1f} GiB ({found}), {available / GIB:.1f} GiB are free here",
            "lower parallel.micro_batch_tokens, set parallel.activation_checkpointing=true, lower budget.tokens "
            f"(unranked=true), or run LANE={RUNS_ANYWHERE}{spread}",
        )


SLOWER = 0.9  # of the peak that its class is known to reach: a machine below is busy, or slower than the class says


def starting_plan(composed: Composed, here: Machine, counts: Counts, taken: float | None) -> str:
    """Plain text, one line a topic. `taken`: of the processor time by others, now; None where it is not known."""
    plan = composed.plan
    m, track = plan.model, plan.track
    changed = [f"{k}={b} (lane: {a})" for k, (a, b) in composed.broken.items()]
    changed += [f"{k}={b} (ranking: at most {a})" for k, (a, b) in looser(asdict(plan)).items()]
    rank = ("unranked" if plan.unranked else "ranked") + (f": {'; '.join(changed)}" if changed else "")
    pace = _pace(plan, counts, here)
    found, steps = memory(plan, here), plan.by_step
    ffn = (
        f"{m.num_experts} experts of {m.expert_width}, top-{m.top_k}{_beside(m)}, {m.router}"
        if m.num_experts
        else f"dense FFN {m.ffn_width}"
    )
    lines = [
        ("lane", f"{plan.lane.name}, track {track.name}, {_precision(plan, here)}",
         f"plan {plan_hash(plan)[:8]}  seed {plan.seed}  {rank}"),
        ("model", f"{m.layers} layers x {m.width}, {_mixers(m)}{ffn}",
         f"{counts.params_total / 1e6:,.2f} M parameters, {counts.params_active / 1e6:,.2f} M active, "
         f"{counts.flops_per_token / 1e6:.1f} MFLOP/token, {_cached(plan, here):,} bytes/token to decode"),
        ("budget", f"{steps.total:,} {track.unit}, {_steps(plan)}",
         f"about {pace.said} on the clock (estimate; refined after warm-up)"),
        *_rates(plan),
        *_tasks(plan),
        *data_lines(plan),
        ("memory", f"about {found.total / GIB:.1f} GiB", str(found)),
        ("machine", f"{here.model}, {here.isa}, {here.threads} threads",
         f"bf16 {here.execution('bf16')}, {'compiled' if here.compiled else 'eager'}, "
         f"{_experts(plan, here)}{_attention(plan, here)}matmul peak {here.matmul_peak_flops / 1e9:,.0f} GFLOP/s measured"),
        *_busy(taken, pace),
        ("target", *_target(track)),
        ("twin", plan.lane.twin or "none", _twin(plan.lane.twin, plan.run.folder, here, track.shortly)),
        ("rules", f"{_held(plan)} held; health bounds; determinism on", f"clock starts after {WARMUP_STEPS} warm-up steps"),
        *_scoring(composed),
    ]  # fmt: skip
    width = max(len(left) for _, left, _ in lines) + 3
    return "\n".join(f"{name:<10}{left:<{width}}{right}" for name, left, right in lines)


def _held(plan: Plan) -> str:
    return "an open lane: data, scoring and target" if plan.lane.open else "frozen keys"


@dataclass(frozen=True)
class _Pace:
    """`said`: the estimate in words; `known`: what the class is known to reach, None where the machine reaches it now."""

    said: str
    known: Peaks | None = None


def _pace(plan: Plan, counts: Counts, here: Machine) -> _Pace:
    """By the peaks that machines of this class are known to reach, and by those of now where they are far below."""
    known = known_peaks([plan.run.folder, "results"], here.speed_class)
    best, now = (duration(run_seconds(plan, counts, it)) for it in (here.raised(known.matmul, known.fp32, known.memory), here))
    if here.matmul_peak_flops >= SLOWER * known.matmul:
        return _Pace(best)
    return _Pace(f"{best} at the {known.matmul / 1e9:,.0f} GFLOP/s of its class, {now} at those measured now,", known)


def _steps(plan: Plan) -> str:
    first, *later = (f"{stage.count:,} steps of {stage.tokens:,}" for stage in plan.by_step.stages)
    return ", then ".join([first, *(said.replace(" steps", "") for said in later)])


def _rates(plan: Plan) -> list[tuple[str, str, str]]:
    """What the stages of a batch make of the learning rate; nothing of a constant one."""
    batch, schedule = plan.batch, plan.schedule
    if not batch.stages:
        return []
    factors = ", ".join(f"{batch_scale(plan, tokens):.4g}" for tokens in batch.stages)
    at = f"1 at batch.tokens_per_step={batch.tokens_per_step}"
    return [("rate", f"x {factors} in the stages of the batch", f"{at} (schedule.batch_lr={schedule.batch_lr})")]


def _tasks(plan: Plan) -> list[tuple[str, str, str]]:
    """What the rows of a track of tasks are made of, by the sample that its tasks are weighed by; nothing of another track."""
    if not plan.track.of_tasks:
        return []
    from harness.data.corpora.tasks import said_shares
    from harness.data.rows import Mix

    mix = Mix.of(plan.data.tasks, plan.data.task_shares, plan.task, plan.model.sequence_length)
    scored = f"{mix.density:.1%} of the tokens are answers, which alone are scored; 0% padding"
    lines = [("tasks", scored, f"of the scored tokens (of the rows): {said_shares(mix)}")]
    if made_anew(flat(plan)):
        lines.append(("val", "generated anew: not the track's", f"it is of {made_by(plan)}; the record has its own sha256"))
    return lines


def _busy(taken: float | None, pace: _Pace) -> list[tuple[str, str, str]]:
    """What says that the machine is not the run's own now; nothing where it is."""
    lines = []
    if taken:
        share = f"machine busy: others take {taken:.0%} of the processor time now"
        lines.append(("busy", share, f"a run that more than {TAKEN:.0%} is taken from has no rank on time"))
    if pace.known:
        known, where = f"its class is known for {pace.known.matmul / 1e9:,.0f} GFLOP/s", pace.known.folder
        lines.append(("slow", known, f"by {where}: this machine is busy, or slower than its class"))
    return lines


def _cached(plan: Plan, here: Machine) -> int:
    """Bytes that decoding keeps of a token, in the dtype of products."""
    return count_beside(plan).cache_values * Arithmetic.of(here.arithmetic).dtype.itemsize


def _precision(plan: Plan, here: Machine) -> str:
    """The format; below bf16 also how it is executed and which dials are turned."""
    p = plan.precision
    if p.format in ("bf16", "fp32"):
        return p.format
    untouched = Precision(format=p.format, require_native=p.require_native)
    turned = [f"{key}={value}" for key, value in vars(p).items() if value != getattr(untouched, key)]
    return f"{p.format} {_execution(plan, here)}" + (f" ({', '.join(turned)})" if turned else "")


def _execution(plan: Plan, here: Machine) -> str:
    return here.execution(plan.precision.format, plan.precision.high_precision_operands)


def _experts(plan: Plan, here: Machine) -> str:
    """Backend of the expert kernels and, on a GPU, their tile sizes; nothing for a dense lane."""
    m, backend = plan.model, expert_backend(plan, here)
    if not m.num_experts:
        return ""
    if backend != "triton":
        return f"expert kernels: {backend}; "
    from kernels import triton

    dtype, gated = Arithmetic.of(here.arithmetic).dtype, ACTIVATIONS[m.activation].fan == 2
    format = plan.precision.format if plan.precision.format in FORMATS else ""
    format = triton.kind(format, _execution(plan, here) == "native")
    key = triton.key((here.model, here.isa), dtype, (m.num_experts, m.expert_width, m.width), m.top_k, gated, format)
    return f"expert kernels: triton, {triton.describe(key)}; "


def _mixers(model: Model) -> str:
    """The attentions of layers, where not all are full; the residual scheme, where it is not plain; memories."""
    runs = [(name, len(list(same))) for name, same in groupby(model.attentions)]
    all_full = not model.attention_pattern and model.attention == "full"
    said = [] if all_full else [f"{count} x {name}" for name, count in runs]
    said += [] if model.residual == "plain" else [f"{model.residual} residual"]
    return "".join(f"{what}, " for what in (*said, *model.memories))


def _attention(plan: Plan, here: Machine) -> str:
    """What computes full attention; nothing for a plan without."""
    if not {"full", "mla"} & set(plan.model.attentions):
        return ""
    on_gpu = {"torch": "torch's FlashAttention-2, deterministic", "flex": "flex, over blocks of documents"}
    backend = attention_backend(plan, here)
    return f"attention: {on_gpu[backend] if here.device == 'cuda' else backend}; "


def _target(track: Track) -> tuple[str, str]:
    others = [f"{level.label} {level.level:.4f}" for name, level in levels(track).items() if name != track.target]
    beyond = [f"{m.label} {m.value:.4f} ({m.metric})" for m in track.milestones.values() if m.metric not in CURVE_METRICS]
    stated, target = ", ".join(others + beyond), goal(track)
    if target is None:
        return "none: a fixed budget", f"milestone: {stated}" if stated else f"val {track.measure} decides"
    return f"{target.level:.4f} {target.unit} on the slice", target.label + (f"; then {stated}" if stated else "")


def _scoring(composed: Composed) -> list[tuple[str, str, str]]:
    """What a cut budget is scored on; nothing of the lane's own."""
    plan, track = composed.plan, composed.plan.track
    if composed.partial:
        most = "" if val_length(plan) else "at most "
        scored = f"{most}the first {composed.scoring_cap:,} {track.unit} of val"
        return [("scoring", scored, "partial: no figure of the track stands beside it")]
    left_out = [name for name in track.tokens.final if name not in composed.final]
    if not left_out:
        return []
    return [("scoring", "all of val", f"of a cut budget without {' and '.join(left_out)}: make evaluate RUN=... has them")]


def _beside(model: Model) -> str:
    """What stands beside the routed experts."""
    shared = f" + {model.shared_experts} shared" if model.shared_experts else ""
    if model.moe_every > 1:
        return f"{shared} in layers {', '.join(map(str, model.moe_layers))}"
    dense = model.leading_dense_layers
    return shared + (f", {dense} dense layer{'s' if dense > 1 else ''}" if dense else "")


def _twin(twin: str | None, runs: str, here: Machine, unit: str) -> str:
    if twin is None:
        return ""
    found = best_record([runs, "results"], twin, here.speed_class)
    if found.folder is None:
        return f"no record of it here: make speedrun LANE={twin}"
    record = read_record(found.folder)
    metrics = record.metrics
    where = "" if found.same_class else " (another hardware class)"
    seconds = metrics.time_to_target_s
    to_target = "target not reached, " if seconds is None else f"{seconds:,.1f} s to target, "
    if metrics.target is None:
        to_target = ""
    if record.disturbed:
        to_target = "no fair seconds, "
    return f"{to_target}{metrics.slice_bpb:.4f} {unit}{where}"
