"""Which backends of the kernels run here: the planned ones, or those that a machine has."""

import os

from harness.errors import UserError
from harness.model.precision import Precisions
from harness.plan.schema import Plan
from harness.train.machine import Machine
from kernels import Arithmetic
from kernels.beside import looks_beside
from kernels.cpu.brgemm import library


def expert_backend(plan: Plan, machine: Machine) -> str:
    """Which backend of `kernels.moe_mlp` runs here: the planned one, or for `auto` Triton on a GPU; on a CPU the kernel in C++
    where it can be built, else the one with fused elementwise parts where it can be compiled and the arithmetic allows it.

    Raises: UserError for a backend that cannot run here.
    """
    wanted, on_gpu = plan.kernels.backend, machine.device == "cuda"
    fusible = machine.compiled and not Arithmetic.of(machine.arithmetic).rounds
    if wanted == "auto":
        return "triton" if on_gpu else "brgemm" if machine.brgemm else "inductor" if fusible else "torch"
    if wanted == "triton" and not on_gpu and not os.environ.get("TRITON_INTERPRET"):
        raise UserError("kernels.backend=triton, but there is no CUDA device here", "kernels.backend=auto runs on a CPU")
    if wanted in ("torch", "inductor", "brgemm") and on_gpu:
        raise UserError(
            f"kernels.backend={wanted} runs on a CPU, this run is on a GPU", "use kernels.backend=auto or reference"
        )
    if wanted == "inductor" and not fusible:
        why = "nothing is compiled here" if not machine.compiled else "bf16 is emulated here, whose rounding Inductor drops"
        raise UserError(f"kernels.backend=inductor, but {why}", "kernels.backend=auto takes what runs here")
    if wanted == "brgemm":
        _check_brgemm("kernels.backend", machine)
    return wanted


def check_spread(plan: Plan, machine: Machine) -> None:
    """Raises: UserError where experts are spread over ranks and the kernels that run here cannot be told of other rows."""
    backend = expert_backend(plan, machine)
    if plan.precision.dither and (backend == "triton" or plan.parallel.ep > 1):
        why = "kernels.backend=triton" if backend == "triton" else f"parallel.ep={plan.parallel.ep}"
        raise UserError(
            f"precision.dither={plan.precision.dither} with {why}, which has no dither",
            "dither runs on a CPU, with all experts in one process; or use precision.dither=0",
        )
    low = Precisions(Arithmetic.of(machine.arithmetic), plan.precision).low.quantization
    if plan.parallel.ep > 1 and backend == "triton" and looks_beside(low):
        raise UserError(
            f"parallel.ep={plan.parallel.ep} with precision.format={plan.precision.format} on a GPU, whose kernels look at all "
            "rows of a micro-batch there: by scales of a layer, or stochastic rounding",
            "set parallel.ep=1, or a format that looks at a row's block alone: bf16, fp8, mxfp8",
        )


def attention_backend(plan: Plan, machine: Machine) -> str:
    """What computes attention here: a backend of `kernels.causal_attention`, or `flex` (`kernels.document_attention`).

    Raises: UserError for a backend that cannot run here.
    """
    wanted, on_gpu = plan.kernels.attention, machine.device == "cuda"
    if wanted == "auto":
        return "brgemm" if machine.brgemm else "flex" if on_gpu and _in_blocks(plan) else "torch"
    if wanted == "flex" and not (on_gpu and _in_blocks(plan)):
        lacking = "there is no CUDA device here" if not on_gpu else "this plan stays within no documents by full attention"
        raise UserError(f"kernels.attention=flex, but {lacking}", "kernels.attention=auto takes what runs here")
    if wanted == "brgemm":
        _check_brgemm("kernels.attention", machine)
    return wanted


def _in_blocks(plan: Plan) -> bool:
    """Whether what a token sees are its document's tokens, all that came before, in every layer."""
    return plan.data.document_mask and set(plan.model.attentions) <= {"full", "mla"}


def _check_brgemm(key: str, machine: Machine) -> None:
    if machine.brgemm:
        return
    why = "this run is on a GPU" if machine.device == "cuda" else library.missing() or "nothing is compiled here"
    raise UserError(f"{key}=brgemm, but {why}", f"{key}=auto takes what runs here")
