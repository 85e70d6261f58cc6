"""The typed plan: every key a run can read, each with its one default.

A field carries marks. `frozen=True`: the lane fixes it, a recipe may not set it, the command line may only with
`unranked=true`. `hashed=False`: it cannot change the bits of a run and stays outside `plan_hash`. `later=True`: it joined
after records were made; at its default it means what its absence meant then, and only another value is hashed.
`least`, `most`, `among`: the values it may have (`marks.py`).
`bounded=True`: its default is also the most that ranking allows (`bounds.py`); what is stricter is free.
Sections are read by the room of the same name; `tests/test_plan_schema.py` fails on a key that nothing reads.
"""

import math
from collections.abc import Iterator
from dataclasses import MISSING as UNSET
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from harness.plan import parts
from harness.plan.marks import SWITCH, bounded, free, frozen, unhashed
from harness.plan.numbers import Ahead as Ahead
from harness.plan.numbers import Gains as Gains
from harness.plan.numbers import Precision as Precision
from harness.plan.steps import Steps, first_at, steps_of
from harness.plan.track import File as File
from harness.plan.track import Line as Line
from harness.plan.track import Track

STEPS = "choose steps of 1 or more"
STAGES = "name the tokens of a step in each stage, multiples of model.sequence_length"


@dataclass
class Lane:
    name: str = frozen()
    gpu: bool = frozen(False, later=True)  # made for a GPU: elsewhere only shortened and unranked
    open: bool = frozen(False, later=True)  # the lane fixes data, scoring and target alone (FIXED_IN_OPEN)
    # the lane it is fair to compare with
    twin: str | None = field(default=None, metadata={"frozen": True, "hashed": False})


@dataclass
class Data:
    shards: str = frozen("", later=True)
    document_mask: bool = free(
        False, later=True
    )  # in training a token looks at its own document only; scoring stays the track's
    tasks: list[str] = frozen([], among=parts.names("task"), later=True)  # of a track of tasks: which ones
    # of the scored tokens, a task each; none: as many of each
    task_shares: list[float] = frozen([], least=0, later=True)
    # Of a track of bytes, in this order (harness/data/turned.py); a `document` is a passage of one.
    sources: list[str] = frozen([], later=True)  # of the track's, which of them train reads; none: all
    weights: list[float] = frozen([], least=0, later=True)  # of sequences from each of them; none: by their size
    noise: list[str] = frozen([], among=parts.names("noise"), later=True)  # kinds of it, planted in equal shares
    noise_share: float = frozen(0.0, least=0, most=1, later=True)  # of the bytes of train that stand in noise
    deduplicate: bool = frozen(False, later=True)  # of equal documents the first one stays
    quality: str = frozen("", hashed=False, later=True)  # a file of grades, one a document (harness/data/grades.py)
    quality_sha256: str = frozen("", later=True)  # that file's
    quality_keep: float = frozen(1.0, least=0, most=1, later=True)  # of the bytes of train, the best graded
    epochs: int = frozen(0, least=0, later=True)  # train is cut so that the budget reads it so often; 0: all of train
    # staged: noise first, then source after source; with weights noise stays in its source
    order: str = frozen("mixed", among=("mixed", "staged"), later=True)


@dataclass
class Model:
    width: int = frozen(least=1)  # D
    layers: int = frozen(least=1)
    heads: int = frozen(least=1)  # H
    sequence_length: int = frozen(least=1)  # S
    vocab_size: int = frozen(least=1)  # V
    activation: str = frozen("relu2", among=("relu2", "swiglu"))
    ffn_width: int = frozen()  # of dense layers; 0 where every layer is MoE
    num_experts: int = frozen(0)  # E; 0 builds a dense model
    expert_width: int = frozen(0)  # F
    top_k: int = frozen(0)  # K
    shared_experts: int = frozen(0, least=0)
    leading_dense_layers: int = frozen(0)
    moe_every: int = frozen(1, later=True)  # after the leading dense layers every n-th layer is MoE, the first of them included
    router: str = frozen("sigmoid_topk", among=parts.names("router"))
    router_renormalize: bool = frozen(True, later=True)  # the chosen scores divided by their sum; off: the scores themselves
    attention: str = frozen("full", among=parts.names("attention"), later=True)
    attention_pattern: list[str] = frozen(
        [], among=parts.names("attention"), later=True
    )  # one a layer, in place of `attention`
    residual: str = frozen("plain", among=parts.names("residual"), later=True)
    memories: list[str] = frozen([], among=parts.names("memory"), later=True)  # what reads a few tokens beside the attention
    qk_norm: bool = frozen(True)
    norm_weight: bool = frozen(False)
    rope_base: float = frozen(10000.0, least=1)

    @property
    def attentions(self) -> list[str]:
        """The attention of each layer."""
        return self.attention_pattern or [self.attention] * self.layers

    @property
    def moe_layers(self) -> list[int]:
        """Which layers hold experts; the others are dense."""
        return list(range(self.leading_dense_layers, self.layers, self.moe_every)) if self.num_experts else []


@dataclass
class Batch:
    """One size for the whole run, or one for each of its stages (`steps.py`)."""

    tokens_per_step: int = frozen()  # where there are stages, what their learning rates are relative to
    stages: list[int] = frozen([], least=1, remedy=STAGES, later=True)  # tokens of a step in each; none: constant
    stage_shares: list[float] = frozen([], least=0, most=1, later=True)  # of the budget; none: each stage has as much

    @property
    def sizes(self) -> list[int]:
        """The tokens of a step, in each stage."""
        return self.stages or [self.tokens_per_step]


@dataclass
class Budget:
    tokens: int = frozen()


@dataclass
class Validation:
    steps: list[int] = frozen([], least=1, remedy=STEPS)  # the curve's steps; the last step is always scored
    # of val that are scored at most, in the track's unit; 0: all of it, and of a cut budget no more than it trains on
    tokens: int = frozen(0, least=0, later=True)
    batch_tokens: int = 0  # per forward pass of scoring; 0 is training's own, which needs no compilation of its own


@dataclass
class Multipliers:
    """Learning-rate multipliers per parameter group."""

    dense: float = free(1.0, least=0)
    expert: float = free(1.0, least=0)
    router: float = free(1.0, least=0)
    embedding: float = free(1.0, least=0)
    head: float = free(1.0, least=0)
    norm: float = free(1.0, least=0)
    scalar: float = free(1.0, least=0, later=True)  # gates, decays, convolutions, lambdas
    table: float = free(1.0, least=0, later=True)  # rows that tokens are looked up in, beside the embedding


@dataclass
class _Optim:
    matrices: str = free("muon", among=parts.names("optim"))  # what updates dense matrices and stacks of expert matrices
    others: str = free("adamw", among=parts.names("optim"), later=True)  # what updates the rest
    multipliers: Multipliers = field(default_factory=Multipliers)
    clip_norm: float = free(0.0, least=0)  # 0 is off
    qk_clip: float = free(0.0, least=0, later=True)  # most that a head's scores may be, by its weights, after a step; 0 is off
    # constant is E/K, load is tokens / rows of the expert
    expert_gradient_scale: str = free("none", among=("none", "constant", "load"), later=True)


# With a section for each optimizer, of its own keys: harness/plan/parts/optim.
Optim = parts.section("optim", _Optim)
Attention, Residual, Memory, Router, Transport, Task = map(
    parts.section, ("attention", "residual", "memory", "router", "transport", "task")
)


@dataclass
class Schedule:
    """Warmup-stable-decay; shares of the token budget."""

    warmup_share: float = free(0.02, least=0, most=1)
    decay_share: float = free(0.4, least=0, most=1)
    final_fraction: float = free(0.0, least=0, most=1)
    # With batch.stages a rate is multiplied by (the step's tokens / batch.tokens_per_step) to the power of 1, 1/2 or 0.
    batch_lr: str = free("linear", among=("linear", "sqrt", "none"), later=True)  # linear: it is constant per token


@dataclass
class Init:
    embedding_std: float = free(1.0, least=0)
    matrix_gain: float = free(1.0, least=0)  # std = gain / sqrt(fan_in)
    zero_output: bool = True  # attention and FFN output projections start at zero


@dataclass
class Balance:
    """The bias, the losses and the capacity combine; what does not is refused by `harness/plan/check_routing.py`."""

    rule: str = free("none", among=("none", "bias"))  # bias: auxiliary-loss-free, arXiv 2408.15664
    rate: float = free(0.0, least=0)
    # of the rate: cosine falls to 0 at the end, warmup rises over schedule.warmup_share
    schedule: str = free("constant", among=("constant", "cosine", "warmup"), later=True)
    # Losses beside the cross-entropy, each a sum over MoE layers (optim/auxiliary.py); 0 is off.
    aux_loss_coef: float = free(0.0, least=0, later=True)  # Switch, over a whole step; micro-batches cost a second forward pass
    sequence_loss_coef: float = free(0.0, least=0, later=True)  # the same within each sequence (DeepSeek-V3)
    z_loss_coef: float = free(0.0, least=0, later=True)  # router z-loss (ST-MoE)
    # In training an expert takes ceil(factor * T*K/E) rows of a micro-batch at most; 0: all.
    capacity_factor: float = free(0.0, least=0, later=True)

    @property
    def losses(self) -> dict[str, float]:
        """The auxiliary losses that are on, by key."""
        return {key: value for key, value in vars(self).items() if key.endswith("_loss_coef") and value}


@dataclass
class Kernels:
    backend: str = free("auto", among=("auto", "reference", "torch", "inductor", "brgemm", "triton"))
    attention: str = free("auto", among=("auto", "torch", "brgemm", "flex"), later=True)
    compile: str = free("auto", among=SWITCH)  # torch.compile of the dense parts
    debug: bool = unhashed(False)  # looks at expert ids and routing weights before every launch; waits for the device


@dataclass
class Parallel:
    ep: int = unhashed(1, least=1)  # over how many ranks the experts are spread: one holds them all, or the number of ranks
    # where an expert's rows are computed; auto: here with ep=1, else where it is held
    transport: str = unhashed("auto", among=("auto", *parts.names("transport")))
    micro_batch_tokens: int = free(0, least=0)  # per rank and forward pass; 0 is the rank's whole share
    # Over what a step's sums are taken, in which order: over ranks, so that bits depend on how many they are, or over the
    # micro-batches, whoever computes them (train/sums.py).
    sums: str = free("ranks", among=("ranks", "units"), later=True)
    activation_checkpointing: bool = False


@dataclass
class Health:
    """When a run is stopped; a window is `window_steps` steps. The defaults are also what ranking judges every run by,
    whatever the run's own are."""

    window_steps: int = bounded(64, least=1)
    divergence_factor: float = bounded(1.5, least=1)  # window loss above this multiple of the best window's
    collapse_load: float = bounded(0.95, least=0, most=1)  # an expert in more of a window's top-k sets is dominant
    dead_share: float = bounded(0.25, least=0, most=1)  # more of a layer's experts dead in a window end the run


@dataclass
class Run:
    folder: str = unhashed("runs")
    checkpoint_every_s: float = unhashed(60.0, least=0)
    keep_checkpoints: int = unhashed(2, least=1)
    # a checkpoint after each of these steps, kept beside the newest ones
    checkpoint_steps: list[int] = unhashed([], least=1, remedy=STEPS)
    # measuring and logging are on the clock, and verify needs the windows
    log_every_steps: int = bounded(16, hashed=False, least=1)
    stop_after_step: int = unhashed(0, least=0)  # leave with a checkpoint after this step; 0 runs to the end
    timeout_s: float = unhashed(600.0, least=60)  # that ranks wait for one of them before they end
    mlflow: str = unhashed("end", among=("end", "live", "off"))  # into MLflow when it has ended, while it goes on, or never


@dataclass
class Plan:
    lane: Lane = field(default_factory=Lane)
    track: Track = field(default_factory=Track)
    data: Data = field(default_factory=Data)
    task: Task = field(default_factory=Task)
    model: Model = field(default_factory=Model)
    attention: Attention = field(default_factory=Attention)
    residual: Residual = field(default_factory=Residual)
    memory: Memory = field(default_factory=Memory)
    router: Router = field(default_factory=Router)
    batch: Batch = field(default_factory=Batch)
    budget: Budget = field(default_factory=Budget)
    validation: Validation = field(default_factory=Validation)
    precision: Precision = field(default_factory=Precision)
    gains: Gains = field(default_factory=Gains)
    ahead: Ahead = field(default_factory=Ahead)
    optim: Optim = field(default_factory=Optim)
    schedule: Schedule = field(default_factory=Schedule)
    init: Init = field(default_factory=Init)
    balance: Balance = field(default_factory=Balance)
    kernels: Kernels = field(default_factory=Kernels)
    parallel: Parallel = field(default_factory=Parallel)
    transport: Transport = field(default_factory=Transport)
    health: Health = field(default_factory=Health)
    run: Run = field(default_factory=Run)
    seed: int = unhashed(1, least=0, remedy="choose a seed of 0 or more")
    unranked: bool = unhashed(False)
    fork: str | None = unhashed(None)  # RUN@STEP: start from that checkpoint, unranked

    @property
    def frozen(self) -> set[str]:
        """The keys that its lane fixes."""
        return FIXED_IN_OPEN if self.lane.open else FROZEN

    @property
    def by_step(self) -> Steps:
        return steps_of(self.batch, self.budget.tokens)

    @property
    def steps(self) -> int:
        return self.by_step.count

    @property
    def below_bf16(self) -> int:
        """How many of the steps have a format below bf16, where the plan has one; the others follow."""
        return first_at(self.by_step, self.precision.switch_at)

    def expert_capacity(self, tokens: int) -> int:
        """The rows that an expert takes at most of a micro-batch of `tokens`: ceil(factor * T*K/E); 0 is no limit."""
        m = self.model
        return math.ceil(self.balance.capacity_factor * tokens * m.top_k / m.num_experts) if m.num_experts else 0


def walk(cls: type = Plan, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, dataclass field) for every leaf key of the schema."""
    for f in fields(cls):
        if is_dataclass(f.type):
            yield from walk(f.type, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, f


FROZEN = {key for key, f in walk() if f.metadata.get("frozen")}
# Of those an open lane fixes these; whatever else it sets is where a contestant starts from.
FIXED_IN_OPEN = {key for key in FROZEN if key.startswith(("lane.", "track.", "data.", "task.")) or key == "validation.tokens"}
RENAMED = {"run.track": "run.mlflow"}  # keys as older plans have them, none with a bit in it
UNHASHED = {key for key, f in walk() if not f.metadata.get("hashed", True)} | RENAMED.keys()
BOUNDS = {key: f.default for key, f in walk() if f.metadata.get("bounded")}
LATER = {key: f.default if f.default is not UNSET else f.default_factory() for key, f in walk() if f.metadata.get("later")}
