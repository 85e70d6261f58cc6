"""What a plan will take, before it is run: seconds a step and bytes of memory.

Seconds are products at the measured peak, attention and Muon's iteration at the measured fp32 peak, and everything elementwise
at the measured memory bandwidth. The constants were read off a profile of the tiny lanes on two AVX2 cores, the cost of a call
off both CPUs: it moves the estimate for tiny-moe-16e from 272 s to 302 on AVX2, where the run took 307, and from 70 to 100 on
AMX, where it took 104. Those of the kernels in C++ were read off two AVX512-BF16 cores: 222 and 240 ms a step of tiny-dense and
tiny-moe-16e, which took 221 and 262. After warm-up a run prints what it measured instead.
"""

from types import ModuleType

from harness.model.build import count_beside
from harness.model.counts import Counts
from harness.model.transformer import LOGITS_AT_ONCE
from harness.plan import parts
from harness.plan.schema import Plan
from harness.train.machine import Machine

PRODUCT_EFFICIENCY = 0.85  # of the peak of a large square product
ATTENTION_EFFICIENCY = 0.28  # of the fp32 peak: short sequences, softmax, causal tiles half empty
ITERATION_EFFICIENCY = 0.9  # Newton-Schulz, of the fp32 peak
BRGEMM_ATTENTION_EFFICIENCY = 0.5  # of the matmul peak, where the kernels in C++ run
BRGEMM_ITERATION_EFFICIENCY = 0.8  # the same; of an iteration whose symmetric products were computed whole
# On a GPU, of the matmul peak; nothing is measured yet: published figures of FlashAttention-2 with a deterministic backward at
# head width 64 (about 240 and 130 of an H100's 989 TFLOP/s), and batched products of some hundred rows.
FLASH_EFFICIENCY = 0.16
GPU_ITERATION_EFFICIENCY = 0.4
BRGEMM_PASSES = 0.5  # of the passes below: packing and rounding happen in cache
BLOCK_PASSES = 74  # fp32 passes over (tokens, width) that a block makes, forward and backward
ROW_PASSES = 16  # the same over (tokens x top-k, width): gathers and sums of routed rows
OPTIMIZER_PASSES = 12  # over the parameters
EXPERT_CALL_S = 2e-4  # beside the arithmetic, of each product of an expert on a CPU: six an expert, layer and step
BASE_BYTES = 0.7 * 2**30  # interpreter, torch, compiled code


def step_seconds(plan: Plan, counts: Counts, here: Machine) -> float:
    """Seconds of one optimizer step on this machine."""
    m, tokens = plan.model, plan.batch.tokens_per_step / here.world_size
    attention = tokens * count_beside(plan).flops
    products = tokens * counts.flops_per_token - attention
    elements = m.layers * tokens * m.width * (BLOCK_PASSES + ROW_PASSES * m.top_k) + counts.params_total * OPTIMIZER_PASSES
    layers = len(m.moe_layers) if here.device == "cpu" else 0
    if plan.balance.aux_loss_coef and 0 < plan.parallel.micro_batch_tokens < tokens:
        products, attention = 4 / 3 * products, 4 / 3 * attention  # a forward pass more: harness/train/session.py
    calls = 6 * layers * min(m.num_experts, m.top_k * tokens)
    iteration = optimizer_flops(plan, counts)
    if here.brgemm:
        fused = attention / BRGEMM_ATTENTION_EFFICIENCY + iteration / BRGEMM_ITERATION_EFFICIENCY
        beside = fused / here.matmul_peak_flops + 4 * BRGEMM_PASSES * elements / here.memory_bytes_per_s
    elif here.device == "cuda":
        tensor_cores = attention / FLASH_EFFICIENCY + iteration / GPU_ITERATION_EFFICIENCY
        beside = tensor_cores / here.matmul_peak_flops + 4 * elements / here.memory_bytes_per_s
    else:
        attention, iteration = attention / ATTENTION_EFFICIENCY, iteration / ITERATION_EFFICIENCY
        beside = (attention + iteration) / here.fp32_peak_flops + 4 * elements / here.memory_bytes_per_s + EXPERT_CALL_S * calls
    return products / (PRODUCT_EFFICIENCY * here.matmul_peak_flops) + beside


def optimizer_flops(plan: Plan, counts: Counts) -> float:
    """What the optimizers compute in a step beside elementwise work, as each says."""
    return sum(it.flops_per_step(plan, counts.params_total) for it in _optimizers(plan) if hasattr(it, "flops_per_step"))


def memory_bytes(plan: Plan, counts: Counts, device: str) -> int:
    """Weights, gradients, what the optimizers hold and the copy of the weights that a measured step takes, in fp32;
    activations of one micro-batch."""
    held = max(it.NUMBERS_PER_WEIGHT if hasattr(it, "NUMBERS_PER_WEIGHT") else 2 for it in _optimizers(plan))
    states = counts.params_total * 4 * (1 + 1 + held + 1)
    tokens = plan.parallel.micro_batch_tokens or plan.batch.tokens_per_step
    m = plan.model
    per_layer = 12 * m.width + 4 * (m.ffn_width + m.top_k * m.expert_width)
    layers = 1 if plan.parallel.activation_checkpointing else m.layers
    return int(BASE_BYTES + states + 4 * tokens * layers * per_layer + 12 * min(tokens * m.vocab_size, LOGITS_AT_ONCE[device]))


def _optimizers(plan: Plan) -> list[ModuleType | None]:
    """What is known of each optimizer without torch; None of one of which nothing is."""
    return [parts.without_torch("optim", name) for name in {plan.optim.matrices, plan.optim.others}]
