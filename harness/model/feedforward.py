"""The two feed-forward parts of a block: one dense MLP, or a router over expert MLPs (with shared experts beside them).

Letters: T tokens, D width, F expert width, G pre-activation width, E experts, K top-k. Both take (x_TD, token_T, shuffle_T)
and return (y_TD in fp32, Routing or None), so a block does not know which it holds.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from harness.model.product import product
from harness.model.router import ROUTERS, Routing
from harness.plan.schema import Model
from kernels import Arithmetic, moe_mlp
from kernels.activation import ACTIVATIONS


def activate(h: Tensor, activation: str) -> Tensor:
    if activation == "relu2":
        return torch.relu(h).square()
    gate, value = h.chunk(2, dim=-1)
    return silu(gate) * value


class Dense(nn.Module):
    def __init__(self, model: Model, width: int, arithmetic: Arithmetic):
        super().__init__()
        self.activation, self.arithmetic = model.activation, arithmetic
        self.up = nn.Parameter(torch.empty(model.width, width * ACTIVATIONS[model.activation].fan))
        self.down = nn.Parameter(torch.empty(width, model.width))

    def forward(self, x_TD: Tensor, token_T: Tensor, shuffle_T: Tensor | None) -> tuple[Tensor, Routing | None]:
        a_TF = activate(product(x_TD, self.up, self.arithmetic), self.activation)
        return product(a_TF, self.down, self.arithmetic).float(), None


class Experts(nn.Module):
    def __init__(self, model: Model, arithmetic: Arithmetic, backend: str, debug: bool = False):
        super().__init__()
        self.activation, self.arithmetic, self.backend, self.debug = model.activation, arithmetic, backend, debug
        shape = (model.num_experts, model.width, model.expert_width)
        self.router = ROUTERS[model.router](model)
        self.up = nn.Parameter(torch.empty(*shape[:2], shape[2] * ACTIVATIONS[model.activation].fan))
        self.down = nn.Parameter(torch.empty(shape[0], shape[2], shape[1]))
        shared_width = model.shared_experts * model.expert_width
        self.shared = Dense(model, shared_width, arithmetic) if shared_width else None

    def forward(self, x_TD: Tensor, token_T: Tensor, shuffle_T: Tensor | None) -> tuple[Tensor, Routing | None]:
        """`shuffle_T`, a permutation of the tokens, gives every token another token's routing: a control of evaluation."""
        routing = self.router(x_TD, token_T)
        expert_TK, weight_TK = routing.expert_TK, routing.weight_TK
        if shuffle_T is not None:
            expert_TK, weight_TK = expert_TK.index_select(0, shuffle_T), weight_TK.index_select(0, shuffle_T)
        y_TD = moe_mlp(
            x_TD, self.up, self.down, expert_TK, weight_TK,
            activation=self.activation, backend=self.backend, precision=self.arithmetic.name, debug=self.debug,
        )  # fmt: skip
        if self.shared is not None:
            y_TD = y_TD + self.shared(x_TD, token_T, None)[0]
        return y_TD, routing
