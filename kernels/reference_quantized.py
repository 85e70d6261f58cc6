"""The oracle below bf16: the expert MLP written out over `quantize(...).dequantize()`, one expert at a time, in fp32
(or x's fp64).

Slow and plain on purpose. It shares with the backends what is compared elsewhere with references of its own: the
quantizer, the noise, the Hadamard matrix. Every row of every product is computed from dequantized operands, so a
backend's result differs from it by the order of its sums (and by what it stores in bf16)."""

from itertools import accumulate

import torch
from torch import Tensor

from kernels.activation import ACTIVATIONS
from kernels.hadamard import SIZE, matrix
from kernels.noise import dither, uniform, word
from kernels.precision import Precision
from kernels.quantize import quantize


def moe_mlp_quantized_reference(
    x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, expert_TK: Tensor, weight_TK: Tensor,
    activation: str, precision: Precision, key_4: Tensor,
) -> Tensor:  # fmt: skip
    """y_TD; shapes as `kernels.moe.moe_mlp`. Differentiable once."""
    return _QuantizedMlp.apply(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4)


class _QuantizedMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, precision, key_4):
        plain = _Plain(precision, key_4, expert_TK, w_up_EDG.shape[0], torch.promote_types(x_TD.dtype, torch.float32))
        h_RG = plain.multiply(plain.rows_of_tokens(x_TD, "input"), plain.weights(w_up_EDG, 1, "weight_up"))
        h_RG = plain.stored(h_RG)
        a_RF = plain.operand(ACTIVATIONS[activation].forward(h_RG) * weight_TK.reshape(-1, 1))
        y_RD = plain.stored(plain.multiply(plain.rows(a_RF, "hidden"), plain.weights(w_down_EFD, 1, "weight_down")))
        ctx.save_for_backward(x_TD, w_up_EDG, w_down_EFD, weight_TK, h_RG)
        ctx.plain, ctx.activation = plain, activation
        return y_RD.view(*expert_TK.shape, x_TD.shape[1]).sum(1)

    @staticmethod
    def backward(ctx, dy_TD):
        x_TD, w_up_EDG, w_down_EFD, weight_TK, h_RG = ctx.saved_tensors
        plain, token_R, weight_R1 = ctx.plain, ctx.plain.token_R, weight_TK.reshape(-1, 1)
        dy_TD = plain.operand(dy_TD.to(plain.dtype))
        row_R = torch.arange(len(token_R), dtype=torch.int32, device=dy_TD.device)
        dy_RD = plain.rows_of_tokens(dy_TD, "gradient", "gradient")
        da_RF = plain.stored(plain.multiply(dy_RD, plain.weights(w_down_EFD, 2, "weight_down").mT))
        a_RF, dh_RG = ACTIVATIONS[ctx.activation].backward(h_RG, da_RF)
        dweight_TK = (da_RF * a_RF).sum(-1).view_as(weight_TK)
        a_RF, dh_RG = plain.operand(a_RF * weight_R1), plain.operand(dh_RG * weight_R1)
        dh_quantized_RG = plain.rows(dh_RG, "gradient", "hidden_gradient", row_R)
        dx_RD = plain.stored(plain.multiply(dh_quantized_RG, plain.weights(w_up_EDG, 2, "weight_up").mT))
        dx_TD = dx_RD.view(*weight_TK.shape, x_TD.shape[1]).sum(1)
        x_RD = plain.operand(x_TD.to(plain.dtype))[token_R]
        dw_up = plain.weight_gradient(x_RD, dh_RG, "wgrad_hidden_gradient", w_up_EDG)
        dw_down = plain.weight_gradient(a_RF, dy_TD[token_R], "wgrad_gradient", w_down_EFD)
        like = ((dx_TD, x_TD), (dw_up, w_up_EDG), (dw_down, w_down_EFD), (dweight_TK, weight_TK))
        dx_TD, dw_up, dw_down, dweight_TK = (g.to(t.dtype) for g, t in like)
        return dx_TD, dw_up, dw_down, None, dweight_TK, None, None, None


class _Plain:
    """Rows R = T*K in the order of tokens; each row's expert, and its place among the rows of that expert."""

    def __init__(self, precision: Precision, key_4: Tensor, expert_TK: Tensor, experts: int, dtype: torch.dtype):
        self.arithmetic, self.dials, self.key_4, self.dtype = precision.arithmetic, precision.quantization, key_4, dtype
        self.expert_R = expert_TK.reshape(-1)
        self.token_R = torch.arange(self.expert_R.numel(), device=expert_TK.device) // expert_TK.shape[1]
        self.rows_of = [torch.nonzero(self.expert_R == e).view(-1) for e in range(experts)]

    def operand(self, x: Tensor) -> Tensor:
        """As the arithmetic multiplies it, and as it enters a quantizer."""
        return x if self.arithmetic.name == "full" else x.to(torch.bfloat16).to(self.dtype)

    def stored(self, sums: Tensor) -> Tensor:
        """As a product leaves it: native bf16 rounds its sums too."""
        return self.operand(sums) if self.arithmetic.name == "native" else sums

    def _decoded(
        self, x: Tensor, axis: int, of_experts: list, square: bool = False, noise: Tensor | None = None,
        jitter: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """`of_experts`: what of the first axis belongs to each expert, for tensor scales of their own; the rest is zero."""
        decoded = x.new_zeros(x.shape, dtype=self.dtype)
        for part in of_experts if self.dials.by_expert else [slice(None)]:
            if decoded[part].numel():
                drawn, added = (None if each is None else each[part] for each in (noise, jitter))
                found = quantize(
                    x[part], self.dials.format, axis, square=square, clip=self.dials.clip, noise=drawn, dither=added
                )
                decoded[part] = found.dequantize().to(self.dtype)
        return decoded

    def _noise(self, tensor: str, row: Tensor, width: int) -> Tensor | None:
        if not self.dials.stochastic_rounding:
            return None
        columns = torch.arange(width, dtype=torch.int32, device=row.device)
        return uniform(word(self.key_4, tensor), row.unsqueeze(-1), columns)

    def rows(self, x: Tensor, operand: str, tensor: str = "", row: Tensor | None = None) -> Tensor:
        """`x` by row, or by token where one tensor scale serves all experts."""
        x = self.operand(x.to(self.dtype))
        if not self.dials.quantizes(operand):
            return x
        return self._decoded(x, -1, self.rows_of, noise=None if row is None else self._noise(tensor, row, x.shape[1]))

    def rows_of_tokens(self, x_TD: Tensor, operand: str, tensor: str = "") -> Tensor:
        """(R, D): the token of every row, quantized by token or, under tensor scales of experts, by row."""
        token_T = torch.arange(len(x_TD), device=x_TD.device)
        before, after = (self.token_R, slice(None)) if self.dials.by_expert else (slice(None), self.token_R)
        return self.rows(x_TD[before], operand, tensor, token_T[before].int() if tensor else None)[after]

    def weights(self, w_EIO: Tensor, inner: int, tensor: str) -> Tensor:
        """`inner`: the axis that the product sums over."""
        if not self.dials.quantizes("weight"):
            return self.operand(w_EIO.to(self.dtype))
        experts = [slice(expert, expert + 1) for expert in range(len(w_EIO))]
        jitter = dither(self.key_4, tensor, w_EIO.shape, self.dials.dither) if self.dials.dither else None
        return self._decoded(w_EIO, inner, experts, self.dials.weight_blocks == "2d", jitter=jitter)

    def multiply(self, rows_RI: Tensor, w_EIO: Tensor) -> Tensor:
        out_RO = rows_RI.new_zeros(len(rows_RI), w_EIO.shape[2])
        for expert, of_expert in enumerate(self.rows_of):
            out_RO[of_expert] = rows_RI[of_expert] @ w_EIO[expert]
        return out_RO

    def weight_gradient(self, left_RI: Tensor, right_RO: Tensor, drawn: str, w_EIO: Tensor) -> Tensor:
        """Both factors as blocks of 16 (fp8: 128) rows of one expert, padded with zeros; `drawn`: the factor that is a
        gradient."""
        left, right = self._padded(left_RI), self._padded(right_RO)
        if self.dials.quantizes("weight_gradient"):
            if self.dials.hadamard:
                left, right = self._transformed(left), self._transformed(right)
            slot_P = torch.arange(len(left), dtype=torch.int32, device=left.device)
            left = self._decoded(left, 0, self._slots())
            right = self._decoded(right, 0, self._slots(), noise=self._noise(drawn, slot_P, right.shape[1]))
        dw_EIO = left.new_zeros(w_EIO.shape)
        for expert, slots in enumerate(self._slots()):
            dw_EIO[expert] = left[slots].mT @ right[slots]
        return dw_EIO

    def _slots(self) -> list[slice]:
        """Each expert's among the rows of `_padded`."""
        block = self.dials.block
        ends = list(accumulate(-(-len(of_expert) // block) * block for of_expert in self.rows_of))
        return [slice(start, end) for start, end in zip([0, *ends], ends)]

    def _padded(self, x_RI: Tensor) -> Tensor:
        blocks = [x_RI.new_zeros(0, x_RI.shape[1])]
        for of_expert in self.rows_of:
            padding = x_RI.new_zeros(-len(of_expert) % self.dials.block, x_RI.shape[1])
            blocks += [x_RI[of_expert], padding]
        return torch.cat(blocks)

    def _transformed(self, x_PI: Tensor) -> Tensor:
        h = matrix().to(device=x_PI.device, dtype=x_PI.dtype)
        return (h @ x_PI.view(-1, SIZE, x_PI.shape[1])).view(x_PI.shape)
