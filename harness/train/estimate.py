"""What a plan will take, before it is run: seconds a step and bytes of memory.

Seconds: products at the measured peak, plus everything elementwise at the measured memory bandwidth, plus the optimizer. The
two constants were fitted to the committed records; after warm-up the run prints what it measured.
"""

from harness.model.counts import Counts
from harness.plan.schema import Plan
from harness.train.machine import Machine

GEMM_EFFICIENCY = 0.75  # of the peak of a large square product
PASSES_PER_LAYER = 90  # fp32 passes over (tokens, width) that one block makes, forward and backward
OPTIMIZER_PASSES = 12  # over the parameters
BASE_BYTES = 0.7 * 2**30  # interpreter, torch, compiled code


def step_seconds(plan: Plan, counts: Counts, here: Machine) -> float:
    tokens = plan.batch.tokens_per_step / here.world_size
    products = tokens * counts.flops_per_token / (GEMM_EFFICIENCY * here.matmul_peak_flops)
    moved = 4 * (tokens * plan.model.layers * plan.model.width * PASSES_PER_LAYER + counts.params_total * OPTIMIZER_PASSES)
    return products + newton_schulz_flops(plan, counts) / here.matmul_peak_flops + moved / here.memory_bytes_per_s


def newton_schulz_flops(plan: Plan, counts: Counts) -> float:
    """Muon's iteration: about 2 products of (rows, rows, columns) and one of (rows, rows, rows) per step and matrix."""
    if plan.optim.matrices != "muon":
        return 0.0
    m = plan.model
    rows = min(m.width, m.expert_width) if m.num_experts else m.width
    return plan.optim.muon.newton_schulz_steps * 5 * rows * counts.params_total


def memory_bytes(plan: Plan, counts: Counts) -> int:
    """Weights, gradients, optimizer state and the warm-up's copy of them in fp32; activations of one micro-batch."""
    states = counts.params_total * 4 * (1 + 1 + 2 + 3)
    tokens = plan.parallel.micro_batch_tokens or plan.batch.tokens_per_step
    m = plan.model
    per_layer = 12 * m.width + 4 * (m.ffn_width + m.top_k * m.expert_width)
    layers = 1 if plan.parallel.activation_checkpointing else m.layers
    return int(BASE_BYTES + states + 4 * tokens * (layers * per_layer + 3 * m.vocab_size))
