"""A plan built: model, optimizer and batches on a machine, and one optimizer step over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

import kernels
from harness.data.corpora import Splits
from harness.model.build import build_model, count_plan, spread_over
from harness.model.init import initialize
from harness.model.where import Where
from harness.optim.ahead import AheadLoss
from harness.optim.auxiliary import AuxiliaryLosses
from harness.optim.balance import bias_rate, update_biases
from harness.optim.expert_gradient import scale_expert_gradients
from harness.optim.optimizer import Optimizer
from harness.optim.qk_clip import clip_scores
from harness.optim.schedule import step_scale
from harness.plan.check_parallel import micro_sequences
from harness.plan.schema import Plan
from harness.ranks import Ranks
from harness.train import sums
from harness.train.backends import attention_backend, check_spread, expert_backend
from harness.train.machine import Machine
from harness.train.shards import Shards
from harness.train.telemetry import Telemetry
from kernels import Arithmetic


@dataclass
class StepResult:
    """What a step left behind, on the device: loss (fp32 mean nats, of the cross-entropy alone), norms (one per parameter),
    count_LE, on measured steps the groups' RMS values and what a format below bf16 did (`harness.train.telemetry`), auxiliary
    losses (fp32: of routers the mean over MoE layers, of targets further ahead), and the rows of each layer beyond a capacity
    (int64; None without one)."""

    loss: Tensor
    norms: Tensor
    count_LE: Tensor
    lr_scale: float
    groups: dict[str, dict[str, float]] | None
    precision: dict[str, Any] | None = None
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    dropped_L: Tensor | None = None


class Session:
    def __init__(self, plan: Plan, machine: Machine, ranks: Ranks, corpus: Splits):
        self.plan, self.machine, self.ranks, self.corpus = plan, machine, ranks, corpus
        self.steps, self.below_bf16 = plan.by_step, plan.below_bf16
        self.batches = corpus.batches(plan.seed, self.steps, plan.model.sequence_length)
        sizes = [stage.tokens for stage in self.steps.stages]
        self.micro_sequences = {tokens: micro_sequences(plan, tokens, ranks.world) for tokens in sizes}
        self.auxiliary, self.ahead = AuxiliaryLosses(plan), AheadLoss(plan)
        check_spread(plan, machine)
        with machine.torch_device:  # at no time is all of a large model on the host
            backends = expert_backend(plan, machine), attention_backend(plan, machine)
            self.model = build_model(plan, machine.arithmetic, *backends, ranks=spread_over(plan, ranks))
        self.shards = Shards.of(self.model, ranks)
        initialize(self.model, plan.init, plan.seed)
        self.model.to(machine.torch_device)  # the tables that are made on the host
        if machine.device == "cuda":
            self.model.hold_operands()
        self.counts = count_plan(plan)  # of all experts, whoever holds them
        dtype, backend = Arithmetic.of(machine.arithmetic).dtype, "brgemm" if machine.brgemm else "torch"
        self.optimizer = Optimizer(self.model, plan.optim, dtype, backend)
        self.sums = sums.KINDS[plan.parallel.sums](ranks, self.model, self.optimizer)
        self.telemetry = Telemetry(self.model)
        if machine.compiled:
            self._compile()

    def _compile(self) -> None:
        """Block by block: blocks of one kind share one compilation. Expert GEMMs stay opaque operators inside.

        The reference backend has shapes that depend on the data, which static compilation cannot hold: MoE blocks stay eager.
        """
        eager_experts = self.plan.kernels.backend == "reference"
        blocks = [block for i, block in enumerate(self.model.blocks) if not (eager_experts and i in self.model.moe_layers)]
        # A function has one limit, whichever module it is of. Each block may be of a kind of its own, compiled for every size
        # of a micro-batch and that of scoring; the head has sizes with targets ahead and without.
        sizes, config = len(set(self.micro_sequences.values())), torch._dynamo.config
        needed = max(len(blocks) * (sizes + 1), 2 * sizes + 1) * (
            1 + (self.below_bf16 < self.steps.count) + bool(self.plan.precision.dither)
        )
        config.recompile_limit = max(config.recompile_limit, needed)
        config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, needed)
        for module in (*blocks, self.model.head):
            module.compile(fullgraph=True, dynamic=False)  # past a limit it fails, and never runs uncompiled

    def prepare_products(self) -> None:
        """Lets the CPU's library build the expert products that training may meet (see `kernels.prepare_products`). `brgemm`
        needs few, and builds them in the warm-up's steps."""
        model = self.plan.model
        if self.machine.device != "cpu":
            return
        precisions = {self.model.blocks[layer].feedforward.planned for layer in self.model.moe_layers}
        if self.below_bf16 < self.steps.count:
            precisions |= {precision.plain for precision in precisions}
        if expert_backend(self.plan, self.machine) == "brgemm":
            precisions = {precision for precision in precisions if precision.quantization}
        for precision, sequences in product(precisions, sorted(set(self.micro_sequences.values()))):
            kernels.prepare_products(
                sequences * model.sequence_length, model.width, model.expert_width,
                activation=model.activation, precision=precision,
            )  # fmt: skip

    @property
    def scoring_tokens(self) -> int:
        """Tokens per forward pass of scoring: as planned, or those of the largest micro-batch."""
        return self.plan.validation.batch_tokens or max(self.micro_sequences.values()) * self.plan.model.sequence_length

    def step(self, index: int, measured: bool = False) -> StepResult:
        """Optimizer step `index`, counted from 0: forward and backward over this rank's part, sums over ranks, update."""
        plan, drops = self.plan, self.plan.balance.capacity_factor
        self.stand_at(index, trains=True)
        inputs, targets = map(self._there, self._of_rank(self.batches.batch, index))
        loss, count_LE, dropped_LE, peak_LH, auxiliary = self._gradients(index, inputs, targets, measured)
        totals = {"loss": loss, **auxiliary}
        self.sums.finish(totals)
        self.ranks.sum_([count_LE])
        self.ranks.sum_([dropped_LE] if drops else [])
        computed_LE = count_LE - dropped_LE if drops else count_LE
        scale_expert_gradients(self.model, computed_LE, self.steps.tokens(index), plan.optim.expert_gradient_scale)
        norms = self.sums.norms()
        self.optimizer.clip(norms.norm())
        scale = step_scale(plan, self.steps, index)
        groups, precision = self._measured_update(scale) if measured else (self.optimizer.step(scale), None)
        self.optimizer.clear_gradients()
        if plan.optim.qk_clip:
            self.ranks.max_(peak_LH)
            clip_scores(self.model, peak_LH, plan.optim.qk_clip)
        if plan.balance.rule == "bias":
            update_biases(self.model, count_LE, bias_rate(plan, self.steps.progress(index)))
        dropped_L = dropped_LE.sum(1) if drops else None
        return StepResult(loss, norms, count_LE, scale, groups, precision, auxiliary, dropped_L)

    def stand_at(self, index: int, trains: bool = False) -> None:
        """The model multiplies as it does in this step, counted from 0, or with `trains` false as it is scored after it."""
        self.model.quantize(self.is_low(index), trains)

    def is_low(self, index: int) -> bool:
        """Whether a step has the plan's format, and not bf16 in its place."""
        return index < self.below_bf16

    def kinds(self, step: int) -> list[int]:
        """The first step of each kind that is left from `step` on, itself first; each is compiled for itself."""
        return self.ahead.kinds(step, self.is_low)

    def _of_rank(self, read: Callable[..., Any], index: int) -> tuple[Tensor, ...]:
        """What `read` of the step's batch has for this rank, a tensor or several, each joined along sequences."""
        found = [read(index, *place) for place in self.sums.slices(self._units(index))]
        columns = zip(*found) if isinstance(found[0], tuple) else [found]
        return tuple(torch.cat(parts) for parts in columns)

    def _units(self, index: int) -> int:
        """The micro-batches of a step, over all ranks."""
        tokens = self.steps.tokens(index)
        return tokens // (self.micro_sequences[tokens] * self.plan.model.sequence_length)

    def _there(self, tokens_BS: Tensor) -> Tensor:
        """A batch on the device; a GPU copies it while the host goes on."""
        if self.machine.device == "cuda":
            return tokens_BS.pin_memory().to(self.machine.torch_device, non_blocking=True)
        return tokens_BS.to(self.machine.torch_device)

    def _gradients(
        self, index: int, inputs: Tensor, targets: Tensor, measured: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Forward and backward of this rank's share, micro-batch by micro-batch: its part of the loss, of the counts, of the
        dropped rows, its largest scores, and its part of the auxiliary losses."""
        count_LE, dropped_LE, peak_LH, totals = None, None, None, {}
        tokens, scored = self.steps.tokens(index), self.batches.scored(index)
        inputs, targets = (batch.split(self.micro_sequences[tokens]) for batch in (inputs, targets))
        documents = self._documents(index, len(inputs))
        load_LE = None
        if self.auxiliary.needs_load and (len(inputs) > 1 or self.sums.load_apart):
            load_LE = self._load(inputs, documents)
        numbers = self.sums.numbers(self._units(index))
        for at, (number, x, y, document_BS) in enumerate(zip(numbers, inputs, targets, documents, strict=True)):
            self.model.at(self.plan.seed, index, number * x.numel())
            with self.sums.together(), self.telemetry.measure(measured and at == 0):
                ahead_KBS = self.ahead.targets(index, y, document_BS)
                output = self.model(self._where(x, document_BS), y, ahead_KBS)
                part = {"loss": output.nats_BS.sum() / scored}
                objective = part["loss"]
                if output.terms:
                    if load_LE is None and self.auxiliary.needs_load:
                        load_LE = self._over_ranks(output.count_LE)
                    shares_L = self.auxiliary.shares(output.terms, load_LE, tokens)
                    objective = objective + self.auxiliary.objective(shares_L)
                    part |= {name: share_L.mean() for name, share_L in shares_L.items()}
                if ahead_KBS is not None:
                    shares = self.ahead.shares(index, output.ahead_K, scored)
                    objective = objective + self.ahead.objective(index, shares)
                    part |= shares
                objective.backward()
            totals = self.sums.add(totals, {name: scalar.detach() for name, scalar in part.items()})
            count_LE = output.count_LE if count_LE is None else count_LE + output.count_LE
            dropped_LE = output.dropped_LE if dropped_LE is None else dropped_LE + output.dropped_LE
            peak_LH = output.peak_LH if peak_LH is None else torch.maximum(peak_LH, output.peak_LH)
        return totals.pop("loss"), count_LE, dropped_LE, peak_LH, totals

    def _load(self, inputs: tuple[Tensor, ...], documents: list[Tensor | None]) -> Tensor:
        """int64 (L, E): the rows of each expert in the whole step, from a forward pass of its own. The very passes that the
        gradient takes afterwards, so the counts are the same ones."""
        counts = []
        for x, document_BS in zip(inputs, documents):
            with self.sums.together():
                counts.append(self._count(x, document_BS))
        return self._over_ranks(torch.stack(counts).sum(0))

    def _count(self, x: Tensor, document_BS: Tensor | None) -> Tensor:
        """int64 (L, E). What autograd keeps of the pass is let go on return, before the next one begins."""
        routed = self.model.trunk(self._where(x, document_BS))[1]
        return torch.stack([layer.count_E for layer in routed])

    def _where(self, x: Tensor, document_BS: Tensor | None) -> Where:
        return Where(x, document_BS=document_BS, capacity=self.plan.expert_capacity(x.numel()))

    def _over_ranks(self, count_LE: Tensor) -> Tensor:
        total_LE = count_LE.clone()
        self.ranks.sum_([total_LE])
        return total_LE

    def _measured_update(self, scale: float) -> tuple[dict[str, dict[str, float]], dict[str, Any] | None]:
        weights = self.telemetry.before()
        groups = self.optimizer.step_measured(scale, self.sums.squares)
        return groups, self.telemetry.after(weights)

    def _documents(self, index: int, parts: int) -> list[Tensor | None]:
        """For each micro-batch of this rank's share, the documents of its tokens, which see nothing else; None without masking.

        Only training masks. Val is scored in the track's windows, which run across documents, whatever a recipe trains with:
        a model that has never looked across one meets it there, and the score says what that costs.
        """
        if not self.plan.data.document_mask:
            return [None] * parts
        (document_BS,) = self._of_rank(self.batches.documents, index)
        return list(document_BS.to(self.machine.torch_device).split(self.micro_sequences[self.steps.tokens(index)]))

    def state(self) -> dict[str, Tensor]:
        """The live tensors that a checkpoint must hold: weights, buffers, optimizer state; of `shards` this rank's slices."""
        return {f"model.{k}": t for k, t in self.model.state_dict().items()} | self.optimizer.state()

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Copies saved tensors, whole ones, into the live ones. Raises: UserError when names or shapes differ."""
        self.shards.fill(self.state(), saved)
