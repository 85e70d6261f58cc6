"""The flow of the expert MLP on a CPU, forward and backward, for every precision, compiled or not.

Letters as in `kernels.routing`; S slots that are worked on at once. What differs between the ways to run is in `make`, a
`Quantizer`: which operands are quantized, whether torch.compile fuses what lies between the products, and how many segments
are worked on at once.

- Unfused bf16 takes one expert's rows through all products while they are still in cache.
- Fused, one pass over all slots replaces one over each segment, and what lies between the products is written to memory once.
- Quantized, scales of a tensor look at all slots at once. Activations and gradients enter a quantizer rounded to bf16, as
  the bf16 lane multiplies them; weights enter as the masters.

The routing weight scales the activation, not the output: it is the same sum, on rows of F instead of D, and its gradient falls
out of the down-projection's. Saved for the backward are x and the pre-activation alone, as in the GPU kernels.
"""

import torch
from torch import Tensor

from kernels.activation import Activation, between_products
from kernels.cpu.operands import Quantizer
from kernels.cpu.products import combine, empty_gradient, product, weight_gradient
from kernels.routing import Segments
from kernels.stages import stage


def forward(
    x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, weight_TK: Tensor, segments: Segments, activation: Activation,
    make: Quantizer, h_PG: Tensor,
) -> Tensor:  # fmt: skip
    """Fills `h_PG` with the pre-activations; returns y_TD in fp32. `x_TD` and weights that are not quantized are operands of
    the arithmetic already."""
    activate, _ = between_products(activation)
    weight_P1 = slot_weights(weight_TK, segments)
    y_PD = torch.empty(len(h_PG), x_TD.shape[1], dtype=h_PG.dtype)
    for part in segments.parts(make.apart):
        h_SG = h_PG[part.slots]
        with stage("gather"):
            x = make.rows_of_tokens(x_TD, "input", "input", part)
        with stage("up"):
            product(make, x, make.weights(w_up_EDG, "weight_up", 1), part, h_SG)
        with stage("activation"):
            a_SF = make.operand(make.run(activate, h_SG, weight_P1[part.slots]))
            a = make.rows(a_SF, "hidden", "hidden")
        with stage("down"):
            product(make, a, make.weights(w_down_EFD, "weight_down", 1), part, y_PD[part.slots])
    with stage("combine"):
        return combine(make, y_PD, segments.slot_TK)


def backward(
    dy_TD: Tensor, x_TD: Tensor, w_up_EDG: Tensor, w_down_EFD: Tensor, weight_TK: Tensor, segments: Segments,
    activation: Activation, make: Quantizer, h_PG: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Returns dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK; of the weights in the dtype of h_PG, else fp32. One writer per output
    tile, no atomics. `dy_TD`, `x_TD` and weights that are not quantized are operands already."""
    _, activate_backward = between_products(activation)
    weight_P1 = slot_weights(weight_TK, segments)
    dw_up_EDG, dw_down_EFD = (empty_gradient(w, segments, h_PG.dtype) for w in (w_up_EDG, w_down_EFD))
    dx_PD = torch.empty(len(h_PG), x_TD.shape[1], dtype=h_PG.dtype)
    dweights = [torch.empty(0)]
    for part in segments.parts(make.apart):
        h_SG = h_PG[part.slots]
        da_SF = torch.empty(h_SG.shape[0], w_down_EFD.shape[1], dtype=h_PG.dtype)
        with stage("gather"):
            dy = make.rows_of_tokens(dy_TD, "gradient", "gradient", part, drawn=True)
            x_SD, dy_SD = make.factor_of_tokens(x_TD, part), make.factor_of_tokens(dy_TD, part, dy)
        with stage("dH"):
            product(make, dy, make.weights(w_down_EFD, "weight_down", 2), part, da_SF)
        with stage("activation"):
            dweight_S, a_SF, dh_SG = make.run(activate_backward, h_SG, da_SF, weight_P1[part.slots])
            a_SF, dh_SG = make.operand(a_SF), make.operand(dh_SG)
            dweights.append(dweight_S)
        with stage("dX"):
            dh = make.rows(dh_SG, "gradient", "hidden_gradient", make.numbers(part))
            product(make, dh, make.weights(w_up_EDG, "weight_up", 2), part, dx_PD[part.slots])
        with stage("dW"):
            x, dh = make.columns(x_SD, "wgrad_input"), make.columns(dh_SG, "wgrad_hidden_gradient", drawn=True)
            weight_gradient(make, x, dh, part, dw_up_EDG)
            a, dy = make.columns(a_SF, "wgrad_hidden"), make.columns(dy_SD, "wgrad_gradient", drawn=True)
            weight_gradient(make, a, dy, part, dw_down_EFD)
    with stage("combine"):
        dx_TD = combine(make, dx_PD, segments.slot_TK)
    dweight_TK = torch.cat(dweights).index_select(0, segments.slot_TK.view(-1)).view_as(segments.slot_TK)
    return dx_TD, dw_up_EDG, dw_down_EFD, dweight_TK


def slot_weights(weight_TK: Tensor, segments: Segments) -> Tensor:
    """fp32 (P, 1): the routing weight of each slot, exactly 0 in padding slots."""
    padded_R1 = torch.cat([weight_TK.reshape(-1).float(), torch.zeros(1)])
    return padded_R1.index_select(0, segments.row_P).unsqueeze(-1)
