"""The backends behind the custom operators of `kernels.moe`, under one interface.

Letters as in `kernels.moe`. A backend takes operands (already in the arithmetic's dtype; weights that are quantized: the
masters), fp32 routing weights and int64 ids. One that `takes_masters` gets weights and dy as the caller has them.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from kernels.activation import Activation
from kernels.beside import Beside
from kernels.cpu import expert_mlp as on_cpu
from kernels.cpu.brgemm import calls
from kernels.cpu.operands import Quantizer
from kernels.cpu.products import combine
from kernels.precision import Arithmetic, Precision
from kernels.routing import check_ids, segments, slot_bound
from kernels.stages import stage

E4M3_CAPABILITY = (8, 9)  # of a CUDA device, from which on it converts E4M3


class Backend(Protocol):
    takes_masters: bool

    def forward(
        self, x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor,
        activation: Activation, precision: Precision, key_4: Tensor | None, beside: Beside | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """y_TD in fp32, and for the backward the pre-activations h_PG, in the arithmetic's dtype, and what `kept` says.
        `beside`: where these are some rows of a micro-batch, in a format that looks at all of them."""

    def backward(
        self, dy_TD: Tensor, x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor,
        activation: Activation, precision: Precision, key_4: Tensor | None, h_PG: Tensor, *kept: Tensor,
        beside: Beside | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Gradients of x, both weights and the routing weights; of the weights in `gradient_dtype`, else fp32."""

    def combine(self, row_SD: Tensor, place_TK: Tensor, w_down_EFD: Tensor, precision: Precision) -> Tensor:
        """fp32 (T, D): the sum over k, in its order, of rows that are outputs of experts or gradients of their inputs, in the
        arithmetic's dtype: as `forward` and `backward` take it of their own, bit for bit. A dropped row has the place of
        zeros."""

    def saved_rows(self, rows: int, experts: int) -> int:
        """P, of `rows` = T*K; it depends on shapes only."""

    def kept(self, tokens: int, top_k: int, experts: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the int64 tensors that the forward leaves to the backward beside h_PG."""

    def gradient_dtype(self, arithmetic: Arithmetic) -> torch.dtype: ...

    def check(self, device: torch.device, precision: Precision) -> None:
        """
        Raises:
            ValueError: the backend cannot run there or in that precision.
        """


@dataclass(frozen=True)
class _OnCpu:
    """On padded segments of rows; `fused`: what lies between the products is compiled."""

    fused: bool
    takes_masters = False

    def forward(self, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, beside=None):
        experts = w_up_EDG.shape[0]
        with stage("metadata"):
            where = segments(expert_TK, experts)
        h_PG = x_TD.new_empty(slot_bound(expert_TK.numel(), experts), w_up_EDG.shape[2])
        h_PG[where.token_P.numel() :] = 0  # the tail that no expert needed: an output must not depend on old memory
        make = Quantizer.of(precision, key_4, self.fused, where, experts, beside)
        return on_cpu.forward(x_TD, w_up_EDG, w_down_EFD, weight_TK, where, activation, make, h_PG), h_PG

    def backward(
        self, dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, h_PG, beside=None
    ):
        experts = w_up_EDG.shape[0]
        with stage("metadata"):
            where = segments(expert_TK, experts)
        make = Quantizer.of(precision, key_4, self.fused, where, experts, beside)
        tensors = (dy_TD, x_TD, w_up_EDG, w_down_EFD, weight_TK)
        dx, dw_up, dw_down, dweight_TK = on_cpu.backward(*tensors, where, activation, make, h_PG)
        if where.dropped:  # the padding slot that dropped rows share has a gradient of its own, which is nobody's
            dweight_TK = dweight_TK.masked_fill(expert_TK < 0, 0.0)
        return dx, dw_up, dw_down, dweight_TK

    def combine(self, row_SD, place_TK, w_down_EFD, precision):
        return combine(Quantizer(None, precision.arithmetic, None, self.fused), row_SD, place_TK)

    def saved_rows(self, rows, experts):
        return slot_bound(rows, experts)

    def kept(self, tokens, top_k, experts):
        return ()

    def gradient_dtype(self, arithmetic):
        return arithmetic.dtype

    def check(self, device, precision):
        if device.type == "cuda":
            raise ValueError(
                f"x is on {device}, but the backends torch and inductor run on a CPU; use backend='triton' on a GPU"
            )
        if self.fused and precision.arithmetic.rounds:
            raise ValueError(
                f"backend='inductor' with precision={precision.arithmetic.name!r}: Inductor drops the rounding of emulated "
                "bf16; use backend='torch'"
            )


@dataclass(frozen=True)
class _Brgemm:
    """Plain operands by the kernel in C++; below bf16, and at widths that it does not take, as `torch` and `inductor` do."""

    takes_masters = True

    def forward(self, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, beside=None):
        if not self._takes(w_down_EFD, precision):
            weights = map(precision.weight_operand, (w_up_EDG, w_down_EFD))
            return self._other(precision).forward(x_TD, *weights, expert_TK, weight_TK, activation, precision, key_4, beside)
        check_ids(expert_TK, w_up_EDG.shape[0])
        h_PG = x_TD.new_empty(self.saved_rows(expert_TK.numel(), w_up_EDG.shape[0]), w_up_EDG.shape[2])
        tensors = (t.contiguous() for t in (x_TD, w_up_EDG.float(), w_down_EFD.float(), expert_TK, weight_TK.float()))
        with stage("fused"):
            return calls.experts(*tensors, h_PG, precision.arithmetic.name), h_PG

    def backward(
        self, dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, h_PG, beside=None
    ):
        if not self._takes(w_down_EFD, precision):
            weights, dy_TD = map(precision.weight_operand, (w_up_EDG, w_down_EFD)), precision.arithmetic.operand(dy_TD)
            found = self._other(precision).backward(
                dy_TD, x_TD, *weights, expert_TK, weight_TK, activation, precision, key_4, h_PG, beside=beside
            )
            return tuple(t.float() for t in found)
        tensors = (dy_TD.float(), x_TD, w_up_EDG.float(), w_down_EFD.float(), expert_TK, weight_TK.float())
        with stage("fused"):
            return calls.experts_backward(*(t.contiguous() for t in tensors), h_PG, precision.arithmetic.name)

    def combine(self, row_SD, place_TK, w_down_EFD, precision):
        if not self._takes(w_down_EFD, precision):
            return self._other(precision).combine(row_SD, place_TK, w_down_EFD, precision)
        return _summed(row_SD, place_TK)

    def _takes(self, w_down_EFD: Tensor, precision: Precision) -> bool:
        return precision.quantization is None and calls.takes_experts(w_down_EFD.shape[2], w_down_EFD.shape[1])

    def _other(self, precision: Precision) -> "Backend":
        return OPERATORS["torch" if precision.arithmetic.rounds else "inductor"]

    def saved_rows(self, rows, experts):
        return slot_bound(rows, experts)

    def kept(self, tokens, top_k, experts):
        return ()

    def gradient_dtype(self, arithmetic):
        return torch.float32

    def check(self, device, precision):
        if device.type == "cuda":
            raise ValueError(f"x is on {device}, but backend='brgemm' runs on a CPU; use backend='triton' on a GPU")


class _OnGpu:
    takes_masters = False

    def forward(self, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, beside=None):
        """Leaves where each row lies to the backward too."""
        assert beside is None, "the Triton kernels take whole micro-batches below bf16"
        return _triton().forward(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4)

    def backward(
        self, dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4, h_PG, *kept, beside=None
    ):  # fmt: skip
        assert beside is None
        tensors = (dy_TD, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK)
        return _triton().backward(*tensors, activation, precision, key_4, h_PG, *kept)

    def combine(self, row_SD, place_TK, w_down_EFD, precision):
        return _summed(row_SD, place_TK)

    def saved_rows(self, rows, experts):
        return rows

    def kept(self, tokens, top_k, experts):
        return _triton().Order.shapes(tokens, top_k, experts)

    def gradient_dtype(self, arithmetic):
        return torch.float32

    def check(self, device, precision):
        if precision.arithmetic.rounds:
            raise ValueError(
                f"backend='triton' with precision={precision.arithmetic.name!r}: a GPU multiplies bf16 natively; use 'native'"
            )
        if device.type != "cuda" and not _triton().interpreted():
            raise ValueError(f"x is on {device}, but backend='triton' needs a CUDA device; use backend='torch' on a CPU")
        if precision.quantization and device.type == "cuda":
            found = torch.cuda.get_device_capability(device)
            if found < E4M3_CAPABILITY:
                needed, found = (".".join(map(str, version)) for version in (E4M3_CAPABILITY, found))
                raise ValueError(
                    f"backend='triton' in {precision.quantization.format} needs compute capability {needed}, from which on "
                    f"GPUs convert E4M3 numbers, but {device} has {found}; use bf16, or backend='reference'"
                )


def operands_of(
    it: Backend, known: Precision, masters: tuple[Tensor, Tensor], made: tuple[Tensor | None, Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Both weights as the backend takes them; `made`: as operands of the arithmetic already, where there are."""
    if it.takes_masters:
        return masters
    return made if made[0] is not None else tuple(map(known.weight_operand, masters))


def _summed(row_SD: Tensor, place_TK: Tensor) -> Tensor:
    """From zero on, as the kernels that hold a sum in registers begin."""
    out_TD = row_SD.new_zeros(len(place_TK), row_SD.shape[1], dtype=torch.float32)
    for place_T in place_TK.unbind(1):
        out_TD += row_SD.index_select(0, place_T)
    return out_TD


def _triton() -> ModuleType:
    import kernels.triton  # where it is asked for: a machine without a GPU need not have it

    return kernels.triton


OPERATORS: dict[str, Backend] = {
    "torch": _OnCpu(fused=False), "inductor": _OnCpu(fused=True), "brgemm": _Brgemm(), "triton": _OnGpu(),
}  # fmt: skip
