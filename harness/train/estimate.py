"""What a plan will take, before it is run: seconds a step (`harness/train/memory.py`: bytes).

Seconds are products at the measured peak, attention and Muon's iteration at the measured fp32 peak, and everything elementwise
at the measured memory bandwidth. The constants were read off a profile of the tiny lanes on two AVX2 cores, the cost of a call
off both CPUs: it moves the estimate for tiny-moe-16e from 272 s to 302 on AVX2, where the run took 307, and from 70 to 100 on
AMX, where it took 104. Those of the kernels in C++ were read off two AVX512-BF16 cores: 222 and 240 ms a step of tiny-dense and
tiny-moe-16e, which took 221 and 262. After warm-up a run prints what it measured instead.
"""

from dataclasses import replace
from types import ModuleType

from harness.model.build import count_beside
from harness.model.counts import Counts
from harness.plan import parts
from harness.plan.schema import Plan
from harness.train.machine import Machine
from harness.train.named_gpus import PRODUCTS, STREAMS, Gpu
from kernels.activation import ACTIVATIONS

PRODUCT_EFFICIENCY = 0.85  # of the peak of a large square product
ATTENTION_EFFICIENCY = 0.28  # of the fp32 peak: short sequences, softmax, causal tiles half empty
ITERATION_EFFICIENCY = 0.9  # Newton-Schulz, of the fp32 peak
BRGEMM_ATTENTION_EFFICIENCY = 0.5  # of the matmul peak, where the kernels in C++ run
BRGEMM_ITERATION_EFFICIENCY = 0.8  # the same; of an iteration whose symmetric products were computed whole
# On a GPU, of the matmul peak; nothing is measured yet: published figures of FlashAttention-2 with a deterministic backward at
# head width 64 (about 240 and 130 of an H100's 989 TFLOP/s), and batched products of some hundred rows.
FLASH_EFFICIENCY = 0.16
GPU_ITERATION_EFFICIENCY = 0.4
EXPERT_EFFICIENCY = 0.62  # of tiles of 128 rows, from their registers and stages (kernels/triton/NOTES.md)
STREAMED = 0.8  # of the bandwidth, by kernels that wait for memory
BRGEMM_PASSES = 0.5  # of the passes below: packing and rounding happen in cache
BLOCK_PASSES = 74  # fp32 passes over (tokens, width) that a block makes, forward and backward
ROW_PASSES = 16  # the same over (tokens x top-k, width): gathers and sums of routed rows
GPU_ROW_PASSES = 7  # gathers are the kernels' own, in bf16: what they read and write of a row at D = 512, F = 256
OPTIMIZER_PASSES = 12  # over the parameters
EXPERT_CALL_S = 2e-4  # beside the arithmetic, of each product of an expert on a CPU: six an expert, layer and step


def run_seconds(plan: Plan, counts: Counts, here: Machine) -> float:
    """Seconds of all steps on this machine."""
    stages = plan.by_step.stages
    return sum(stage.count * sum(step_parts(plan, counts, here, stage.tokens).values()) for stage in stages)


def step_parts(plan: Plan, counts: Counts, here: Machine, step_tokens: int) -> dict[str, float]:
    """Seconds of one step of so many tokens, by part: products, experts (where their rate is another), attention, optimizer,
    elementwise, calls."""
    m, tokens = plan.model, step_tokens / here.world_size
    attention = tokens * count_beside(plan).flops
    products = tokens * counts.flops_per_token - attention
    row_passes = GPU_ROW_PASSES if here.device == "cuda" else ROW_PASSES
    held = replace(counts, params_total=counts.params_total - elsewhere(plan))
    elements = m.layers * tokens * m.width * (BLOCK_PASSES + row_passes * m.top_k) + held.params_total * OPTIMIZER_PASSES
    layers = len(m.moe_layers) if here.device == "cpu" else 0
    if plan.balance.aux_loss_coef and 0 < plan.parallel.micro_batch_tokens < tokens:
        products, attention = 4 / 3 * products, 4 / 3 * attention  # a forward pass more: harness/train/session.py
    calls = 6 * layers * min(m.num_experts, m.top_k * tokens)
    iteration, peak, experts = optimizer_flops(plan, held), here.matmul_peak_flops, 0.0
    if here.brgemm:
        attention_s, iteration_s = (
            flops / share / peak
            for flops, share in ((attention, BRGEMM_ATTENTION_EFFICIENCY), (iteration, BRGEMM_ITERATION_EFFICIENCY))
        )
        elements, calls = BRGEMM_PASSES * elements, 0
    elif here.device == "cuda":
        attention_s, iteration_s = attention / FLASH_EFFICIENCY / peak, iteration / GPU_ITERATION_EFFICIENCY / peak
        if m.num_experts:
            experts = 6 * tokens * len(m.moe_layers) * m.top_k * m.width * m.expert_width * (ACTIVATIONS[m.activation].fan + 1)
    else:
        attention_s, iteration_s = (
            flops / share / here.fp32_peak_flops
            for flops, share in ((attention, ATTENTION_EFFICIENCY), (iteration, ITERATION_EFFICIENCY))
        )
    return {
        "products": (products - experts) / (PRODUCT_EFFICIENCY * peak),
        "experts": experts / (EXPERT_EFFICIENCY * peak),
        "attention": attention_s,
        "optimizer": iteration_s,
        "elementwise": 4 * elements / here.memory_bytes_per_s,
        "calls": EXPERT_CALL_S * calls,
    }


def expected(gpu: Gpu, ranks: int = 1) -> Machine:
    """One of so many, at the shares of its data sheet that `named_gpus` assumes; nothing is measured."""
    return Machine(
        device="cuda", model=f"NVIDIA {gpu.title}, expected", isa=gpu.capability, threads=1, arithmetic="native", compiled=True,
        matmul_peak_flops=PRODUCTS * gpu.peak, fp32_peak_flops=60e12, memory_bytes_per_s=STREAMS * gpu.bandwidth, driver="",
        world_size=ranks,
    )  # fmt: skip


def expert_weights(plan: Plan) -> int:
    """How many all routed experts have."""
    m = plan.model
    return len(m.moe_layers) * m.num_experts * m.width * m.expert_width * (ACTIVATIONS[m.activation].fan + 1)


def elsewhere(plan: Plan) -> int:
    """Weights that a rank does not have, because others hold the experts."""
    return expert_weights(plan) - expert_weights(plan) // parts.holders(plan.parallel)


def optimizer_flops(plan: Plan, counts: Counts) -> float:
    """What the optimizers compute in a step beside elementwise work, as each says."""
    return sum(it.flops_per_step(plan, counts.params_total) for it in _optimizers(plan) if hasattr(it, "flops_per_step"))


def _optimizers(plan: Plan) -> list[ModuleType | None]:
    """What is known of each optimizer without torch; None of one of which nothing is."""
    return [parts.without_torch("optim", name) for name in {plan.optim.matrices, plan.optim.others}]
