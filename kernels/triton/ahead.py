"""Compiles the kernels for GPUs that are not here, and reads what the assembler makes of them.

The launches of a forward and backward are recorded, and one of each kind is compiled. Triton's interpreter must be off. Types
and pointer alignments are those of contiguous tensors, operands in bf16.
"""

import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from kernels.activation import ACTIVATIONS
from kernels.precision import Precision
from kernels.triton import expert_mlp, router
from kernels.triton.configuration import Configuration, safe
from kernels.triton.metadata import Order, invert_kernel, order
from kernels.triton.thin_product import thin_product
from kernels.triton.units import Fold

TYPES = {
    torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.float8_e4m3fn: "*fp8e4nv", torch.uint8: "*u8", torch.int64: "*i64",
}  # fmt: skip
KINDS = ("SURVEY", "STOCHASTIC", "NAMED", "WIDE", "GATHER_LEFT", "ADD")  # values that make another kernel of one,
ONES = ("inner_stride", "outer_stride", "STRIDE_I", "STRIDE_O")  # or do where they are 1
REGISTERS, SHARED_BYTES = 1 << 16, {80: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10}  # of a processor
WARPS = {80: 64, 89: 48, 90: 64, 100: 64}  # that a processor holds
_HOOKED = threading.Lock()  # Triton has one hook for all threads
Launch = tuple[JITFunction, dict[str, str], dict[str, object], dict[str, int]]  # kernel, types, constants, options


def launches(
    precision: Precision, activation: str, width: int, expert_width: int, top_k: int, config: Configuration | None = None,
    native: bool = False,
) -> dict[str, dict[str, Launch]]:  # fmt: skip
    """{kernel: {kind: what `compiled` takes}}. Nothing runs: what the launches would write is never read. Widths as in
    `kernels.moe_mlp`; `config` instead of the table's; `native`: as `kernels.triton.blockscaled` multiplies."""
    act = ACTIVATIONS[activation]
    x_TD, weight_TK = torch.zeros(64, width, dtype=torch.bfloat16), torch.zeros(64, top_k)
    w_up, w_down = torch.zeros(4, width, act.fan * expert_width), torch.zeros(4, expert_width, width)
    weights = (precision.weight_operand(w) for w in (w_up, w_down))
    expert_TK, key_4 = torch.zeros(64, top_k, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    tensors = (x_TD, *weights, expert_TK, weight_TK, act, precision, key_4)
    with _recorded() as found:
        _, *kept = expert_mlp.forward(*tensors, config=config, native=native)
        expert_mlp.backward(x_TD, *tensors, *kept, config=config, native=native)
    return found


def of_units(activation: str, width: int, expert_width: int, config: Configuration | None = None) -> dict[str, Launch]:
    """What `compiled` takes of the weight gradients that are folded over units in bf16: {fold_up | fold_down}, which add to a
    total, and {fold_up first | fold_down first}, which begin one."""
    outer = ACTIVATIONS[activation].fan * expert_width
    x_RD, dh_RG, a_RF, dy_RD = (torch.zeros(64, n, dtype=torch.bfloat16) for n in (width, outer, expert_width, width))
    row_R, start_U1 = torch.zeros(64, dtype=torch.int64), torch.zeros(4 * 8 + 1, dtype=torch.int64)
    tiles = config or safe(torch.bfloat16, "")
    found = {}
    for name, totals in {"": (torch.zeros(4, width, outer), torch.zeros(4, expert_width, width)), " first": None}.items():
        with _recorded() as recorded:
            Fold(start_U1, 8, totals)(x_RD, dh_RG, a_RF, dy_RD, Order(row_R, row_R, start_U1), tiles)
        up, down = (recorded["fold_kernel"][_kind(GATHER_LEFT=left, ADD=not name)] for left in (True, False))
        found |= {f"fold_up{name}": up, f"fold_down{name}": down}
    return found


def of_routing(experts: int, top_k: int) -> dict[str, Launch]:
    """What `compiled` takes of the kernels that choose experts and order rows, by kernel."""
    score_TE = torch.zeros(64, experts)
    with _recorded() as found:
        expert_TK, chosen_TK, _ = router.select(score_TE, score_TE, top_k)
        router.select_backward(chosen_TK, expert_TK, experts)
        order(expert_TK.zero_(), experts)
    return {name: _only(kinds) for name, kinds in found.items()}


def of_router(width: int, experts: int) -> dict[str, Launch]:
    """{logits | dx | dw: what `compiled` takes} of a router's product and its gradients."""
    x_TD, w_DE, dlogit_TE = torch.zeros(8192, width), torch.zeros(width, experts), torch.zeros(8192, experts)
    found = {}
    for name, pair in {"logits": (x_TD, w_DE), "dx": (dlogit_TE, w_DE.t()), "dw": (x_TD.t(), dlogit_TE)}.items():
        with _recorded() as recorded:
            thin_product(*pair)
        found[name] = _only(recorded["thin_product_kernel"])
    return found


@contextmanager
def _recorded() -> Iterator[dict[str, dict[str, Launch]]]:
    """The launches within, none of which runs, as `launches` returns them."""
    found: dict[str, dict[str, Launch]] = {}

    def record(kernel, *values, grid, warmup, **named):
        if kernel is invert_kernel:
            values[1].zero_()  # torch reads by it
        named = dict(zip(kernel.arg_names, values)) | named
        fixed = {p.name: named[p.name] for p in kernel.params if p.is_constexpr or _is_one(named[p.name])}
        types = {k: _type(v) for k, v in named.items() if k in kernel.arg_names and k not in fixed}
        launch = {k: v for k, v in named.items() if k not in kernel.arg_names}
        kind = _kind(**{k: v for k, v in fixed.items() if k in KINDS or (k in ONES and _is_one(v))})
        found.setdefault(kernel.__name__, {}).setdefault(kind, (kernel, types, fixed, launch))

    kernel_run, JITFunction.run = JITFunction.run, record
    try:
        yield found
    finally:
        JITFunction.run = kernel_run


def in_bf16(
    activation: str, width: int, expert_width: int, top_k: int, config: Configuration | None = None
) -> dict[str, Launch]:
    """{up | dh | down | dx | dw_up | dw_down | combine | fold_up | fold_down: what `compiled` takes}."""
    recorded = launches(Precision.of("native"), activation, width, expert_width, top_k, config)
    rows = list(recorded["rows_kernel"].values())
    fan = ACTIVATIONS[activation].fan
    down, dx = (next(it for it in rows if it[2]["INNER"] == inner) for inner in (expert_width, fan * expert_width))
    gradients = recorded["weight_gradient_kernel"]
    folds = of_units(activation, width, expert_width, config)
    return {
        "up": _only(recorded["up_kernel"]), "dh": _only(recorded["dh_kernel"]), "down": down, "dx": dx,
        "dw_up": gradients[_kind(GATHER_LEFT=True)], "dw_down": gradients[_kind(GATHER_LEFT=False)],
        "combine": _only(recorded["combine_kernel"]), "fold_up": folds["fold_up"], "fold_down": folds["fold_down"],
    }  # fmt: skip


def _leave_out_the_assembler(
    backend=None, stages: dict | None = None, options=None, language=None, capability=None
) -> tuple[str, str] | None:
    """A hook of Triton's, whose assembler would only do what `compiled` then asks of it again to hear what it says. Called
    without arguments it gives what keeps these entries of Triton's cache apart, once and again as a hash."""
    if stages is None:
        return ("not assembled",) * 2
    stages["cubin"] = lambda ptx, metadata: b""


def compiled(
    kernel: JITFunction, types: dict[str, str], values: dict[str, object], launch: dict[str, int], target: int
) -> dict[str, object]:
    """What the assembler says of a kernel for compute capability `target` (90 is 9.0), and what stands in its code.

    Raises:
        subprocess.CalledProcessError: the assembler refused it.
    """
    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in types}  # as launches of contiguous tensors find
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in values.items()}, aligned)
    with _HOOKED, knobs.runtime.scope():
        knobs.runtime.add_stages_inspection_hook = _leave_out_the_assembler
        binary = triton.compile(source, target=GPUTarget("cuda", target, 32), options=launch)
    ptx = binary.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        assembler = triton.knobs.nvidia.ptxas_blackwell.path if target >= 100 else triton.knobs.nvidia.ptxas.path
        architecture = re.search(r"\.target (\S+)", ptx).group(1).rstrip(",")
        command = [assembler, "-v", f"--gpu-name={architecture}", path, "-o", Path(folder) / "out"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "spill bytes": sum(int(n) for n in re.findall(r"(\d+) bytes spill", said)),
        "registers": int(re.search(r"Used (\d+) registers", said).group(1)),
        "float atomics": len(re.findall(r"\b(?:atom|red)\.\S*\.(?:f16|bf16|f32|f64)", ptx)),
        "tensor core instructions": len(re.findall(r"\b(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)", ptx)),
        "wgmma": ptx.count("wgmma.mma_async"),
        "fp32 additions": len(re.findall(r"\badd\.(?:rn\.)?f32", ptx)) + len(re.findall(r"\badd\.(?:rn\.)?f32x2", ptx)),
        "block scaled": sorted(set(re.findall(r"tcgen05\.mma\S*kind::(\S+?block_scale\S*)", ptx))),
        "wgmma serialized": said.count("serialized"),
        "wgmma operands": sorted(set(re.findall(r"wgmma\.mma_async\.\S*m\d+n\d+k\d+\.(\S+)", ptx))),
        "maxima that drop NaN": len(re.findall(r"\b(?:max|min)\.f32", ptx)),
        "64-bit products": len(re.findall(r"\b(?:mul\.lo|mad\.lo|mul\.wide|mad\.wide)\.[su]\d\d", ptx))
        - ptx.count("mul.lo.s32")
        - ptx.count("mad.lo.s32"),
        "shared bytes": binary.metadata.shared,
        "warps": launch.get("num_warps", 4),
    }


def programs(found: dict[str, object], target: int) -> int:
    """How many programs of a kernel fit a processor, by warps, registers and shared memory."""
    by_registers = REGISTERS // (found["registers"] * 32 * found["warps"])
    return min(WARPS[target] // found["warps"], by_registers, SHARED_BYTES[target] // max(found["shared bytes"], 1))


def _kind(**values: object) -> str:
    return str(values)


def _only(kinds: dict[str, Launch]) -> Launch:
    (words,) = kinds.values()
    return words


def _is_one(value: object) -> bool:
    """What a launch makes a constant of."""
    return type(value) is int and value == 1


def _type(value: object) -> str:
    return TYPES[value.dtype] if isinstance(value, Tensor) else "i32"
