"""Who is timed: our backends, what one writes with torch alone, released packages where they can be imported, and the bound.

Letters as in `harness.bench.shapes`; R = T*K rows. A contestant prepares leaves in its own layout outside the clock. Its error
against fp32 is measured like ours, so an adapter that feeds a package wrongly cannot win.
"""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm, silu

from harness.bench.shapes import Inputs, Shape
from kernels import Arithmetic, Precision, Quantization, moe_mlp, prepare_products
from kernels.precision import FORMATS


@dataclass
class Prepared:
    """`run()` -> y, routed as `expert_TK` is at that moment; `leaves`: x, w_up, w_down and routing weights in its own layout;
    `ours(gradients)` brings theirs into the layout of `kernels.moe_mlp`."""

    run: Callable[[], Tensor]
    leaves: list[Tensor]
    ours: Callable[[list[Tensor]], list[Tensor]] = list


@dataclass(frozen=True)
class Contestant:
    name: str
    version: str
    prepare: Callable[[Shape, Inputs], Prepared]
    is_bound: bool = False  # computes something else with the same number of FLOPs


def contestants(backend: str, precision: Precision, device: str) -> tuple[list[Contestant], dict[str, str]]:
    """All that can run here, ours first and the bound last; and why each of the others cannot."""
    found = [
        Contestant(f"ours ({backend})", "this commit", lambda shape, given: _ours(shape, given, backend, precision)),
        Contestant("grouped_mm", f"torch {torch.__version__}", _grouped_mm),
        Contestant("loop", f"torch {torch.__version__}", _loop),
    ]
    missing = {}
    for package, build in PEERS.items():
        try:
            version = importlib.metadata.version(package)
            prepare = build()
        except importlib.metadata.PackageNotFoundError:
            missing[package] = "not installed"
            continue
        except ImportError as error:
            missing[package] = f"not importable: {error}"
            continue
        if device != "cuda":
            missing[package] = f"{version}: needs a CUDA device"
            continue
        found.append(Contestant(package, version, prepare))
    found.append(Contestant("bound: one dense GEMM", f"torch {torch.__version__}", _dense, is_bound=True))
    return found, missing


def in_formats(backend: str, arithmetic: Arithmetic, shape: Shape) -> list[Contestant]:
    """Ours with operands in the arithmetic as they are, then in each format whose blocks divide the shape, then
    the bound. Weights are quantized anew in every forward and backward, as in training."""
    wanted = {f"ours ({backend})": Precision(arithmetic)}
    for format, block in FORMATS.items():
        if shape.D % block == shape.F % block == 0:
            wanted[f"ours, {format}"] = Precision(arithmetic, Quantization.recipe(format))
    found = [
        Contestant(name, "this commit", lambda shape, given, low=low: _ours(shape, given, backend, low))
        for name, low in wanted.items()
    ]
    return [*found, Contestant("bound: one dense GEMM", f"torch {torch.__version__}", _dense, is_bound=True)]


def _leaves(*tensors: Tensor) -> list[Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


def _ours(shape: Shape, given: Inputs, backend: str, precision: Precision) -> Prepared:
    leaves = _leaves(given.x_TD, given.w_up_EDG, given.w_down_EFD, given.weight_TK)
    x, w_up, w_down, weight = leaves
    if x.device.type == "cpu":  # as a run does before its clock starts
        prepare_products(shape.T, shape.D, shape.F, activation=shape.activation, precision=precision)
    return Prepared(
        lambda: moe_mlp(
            x, w_up, w_down, given.expert_TK, weight, activation=shape.activation, backend=backend, precision=precision
        ),
        leaves,
    )


def _activate(h_RG: Tensor, activation: str) -> Tensor:
    if activation == "relu2":
        return torch.relu(h_RG).square()
    gate, value = h_RG.chunk(2, dim=-1)
    return silu(gate) * value


def _grouped_mm(shape: Shape, given: Inputs) -> Prepared:
    """Sort the rows by expert, gather them, two grouped products with the activation between, weight, sum over slots."""
    leaves = _leaves(given.x_TD, given.w_up_EDG, given.w_down_EFD, given.weight_TK)
    x, w_up, w_down, weight = leaves

    def run() -> Tensor:
        order_R = torch.sort(given.expert_TK.flatten(), stable=True).indices
        count_E = torch.zeros(shape.E, dtype=torch.int64, device=x.device).scatter_add_(
            0, given.expert_TK.flatten(), torch.ones_like(order_R)
        )
        ends_E = count_E.cumsum(0).to(torch.int32)
        h_RG = grouped_mm(x.index_select(0, order_R // shape.K), w_up, offs=ends_E)
        y_RD = grouped_mm(_activate(h_RG, shape.activation), w_down, offs=ends_E)
        y_RD = y_RD * weight.flatten().index_select(0, order_R).unsqueeze(1).to(y_RD.dtype)
        slot_R = torch.empty_like(order_R).scatter_(0, order_R, torch.arange(len(order_R), device=x.device))
        return y_RD.index_select(0, slot_R).view(shape.T, shape.K, shape.D).sum(1)

    return Prepared(run, leaves)


def _loop(shape: Shape, given: Inputs) -> Prepared:
    """For each expert: where() over the routing, gather, two products, index_add."""
    leaves = _leaves(given.x_TD, given.w_up_EDG, given.w_down_EFD, given.weight_TK)
    x, w_up, w_down, weight = leaves

    def run() -> Tensor:
        y_TD = torch.zeros_like(x)
        for expert, (w_up_DG, w_down_FD) in enumerate(zip(w_up.unbind(0), w_down.unbind(0))):
            token_R, slot_R = torch.where(given.expert_TK == expert)
            a_RF = _activate(x[token_R] @ w_up_DG, shape.activation)
            y_RD = (a_RF @ w_down_FD) * weight[token_R, slot_R].unsqueeze(1).to(x.dtype)
            y_TD = y_TD.index_add(0, token_R, y_RD)
        return y_TD

    return Prepared(run, leaves)


def _dense(shape: Shape, given: Inputs) -> Prepared:
    """One product of R rows with as many FLOPs: (R, D) @ (D, G + F)."""
    left = torch.randn(shape.T * shape.K, shape.D, device=given.x_TD.device).to(given.x_TD.dtype)
    right = torch.randn(shape.D, shape.G + shape.F, device=given.x_TD.device).to(given.x_TD.dtype)
    leaves = _leaves(left, right)
    return Prepared(lambda: leaves[0] @ leaves[1], leaves)


def _liger() -> Callable[[Shape, Inputs], Prepared]:
    from liger_kernel.ops.fused_moe import LigerFusedMoEFunction

    def prepare(shape: Shape, given: Inputs) -> Prepared:
        if shape.activation != "swiglu":
            raise NotImplementedError("SwiGLU only")
        leaves = _leaves(given.x_TD, given.w_up_EDG.mT.contiguous(), given.w_down_EFD.mT.contiguous(), given.weight_TK)
        x, w_up, w_down, weight = leaves

        def run() -> Tensor:
            return LigerFusedMoEFunction.apply(x, w_up, w_down, given.expert_TK.to(torch.int32), weight)

        return Prepared(run, leaves, _transposed)

    return prepare


def _scattermoe() -> Callable[[Shape, Inputs], Prepared]:
    from scattermoe.parallel_experts import flatten_sort_count, parallel_linear

    def prepare(shape: Shape, given: Inputs) -> Prepared:
        leaves = _leaves(given.x_TD, given.w_up_EDG, given.w_down_EFD, given.weight_TK.to(given.x_TD.dtype))
        x, w_up, w_down, weight = leaves

        def run() -> Tensor:
            sorted_R, order_R, ends_E = flatten_sort_count(given.expert_TK, num_experts=shape.E)
            h_RG = parallel_linear(x, w_up, shape.K, sorted_R, order_R, ends_E, grouped_out=True)
            a_RF = _activate(h_RG, shape.activation)
            return parallel_linear(a_RF, w_down, 1, sorted_R, order_R, ends_E, gates=weight, grouped_in=True)

        return Prepared(run, leaves)

    return prepare


def _sonicmoe() -> Callable[[Shape, Inputs], Prepared]:
    from sonicmoe.enums import ActivationType
    from sonicmoe.functional import moe_general_routing_inputs

    def prepare(shape: Shape, given: Inputs) -> Prepared:
        gated = shape.activation == "swiglu"
        w_up_EGD = given.w_up_EDG.mT
        if gated:  # its gate and value rows alternate
            w_up_EGD = torch.stack(w_up_EGD.chunk(2, dim=1), dim=2).flatten(1, 2)
        leaves = _leaves(given.x_TD, w_up_EGD.contiguous(), given.w_down_EFD.mT.contiguous(), given.weight_TK.flatten())
        x, w_up, w_down, weight = leaves
        token_R = torch.arange(shape.T, device=x.device, dtype=torch.int32).repeat_interleave(shape.K)
        kind = ActivationType("swiglu" if gated else "relu_sq")
        stream = torch.cuda.current_stream().cuda_stream

        def run() -> Tensor:
            expert_R = given.expert_TK.flatten().to(torch.int32)
            return moe_general_routing_inputs(
                x, weight, token_R, expert_R, w_up.permute(1, 2, 0), None, w_down.permute(1, 2, 0), None, shape.E, stream, kind
            )[0]

        def ours(gradients: list[Tensor]) -> list[Tensor]:
            dx, dw_up, dw_down, dweight = gradients
            if gated:
                dw_up = torch.cat([dw_up[:, 0::2], dw_up[:, 1::2]], dim=1)
            return [dx, dw_up.mT, dw_down.mT, dweight.view(shape.T, shape.K)]

        return Prepared(run, leaves, ours)

    return prepare


def _transposed(gradients: list[Tensor]) -> list[Tensor]:
    dx, dw_up, dw_down, dweight = gradients
    return [dx, dw_up.mT, dw_down.mT, dweight]


PEERS = {"liger-kernel": _liger, "scattermoe": _scattermoe, "sonic-moe": _sonicmoe}
