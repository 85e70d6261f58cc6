"""The two feed-forward parts of a block: one dense MLP, or a router over expert MLPs (with shared experts beside them).

Letters: B batch, S sequence, T = B*S tokens, D width, F expert width, G pre-activation width, E experts, K top-k. Both take
(x_TD, where) and return (y_TD in fp32, Routed or None), so a block does not know which it holds.
Below bf16 a dense MLP is the expert MLP with one expert that every token goes to: quantized products are written once.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from harness.model.auxiliary import terms
from harness.model.capacity import drop
from harness.model.memory import InBlock
from harness.model.part import Own, Part
from harness.model.product import operand, product
from harness.model.routing import Router
from harness.model.transport import Transport
from harness.model.where import Where
from harness.plan.schema import Model
from kernels import Precision, moe_mlp
from kernels.activation import ACTIVATIONS


def _register_key(module: nn.Module, precision: Precision, layer: int) -> None:
    """`key_4` (see `kernels.noise`) of a module that quantizes, which `Transformer.at` moves on; None in others."""
    key_4 = torch.tensor([0, 0, 0, layer], dtype=torch.int64) if precision.quantization else None
    module.register_buffer("key_4", key_4, persistent=False)


class Routed(NamedTuple):
    """What leaves a MoE layer beside its output."""

    count_E: Tensor  # int64: rows routed to each expert, dropped ones among them
    margin: Tensor  # as in Routing
    dropped_E: Tensor | None  # int64: rows beyond the expert's capacity; None without a capacity
    terms: dict[str, Tensor]  # of the auxiliary losses that are on, see harness/model/auxiliary.py


def activate(h: Tensor, activation: str) -> Tensor:
    if activation == "relu2":
        return torch.relu(h).square()
    gate, value = h.chunk(2, dim=-1)
    return silu(gate) * value


class Dense(Part):
    OWN = {"up": Own("dense"), "down": Own("dense", "output")}
    memories: tuple[InBlock, ...] = ()  # of its block, which act on its hidden layer: the model sets them

    def __init__(self, model: Model, width: int, precision: Precision, layer: int, backend: str = "torch"):
        super().__init__()
        self.activation, self.precision, self.backend = model.activation, precision, backend
        self.planned = precision  # of steps that are not in bf16: `Transformer.quantize`
        _register_key(self, precision, layer)
        self.up = nn.Parameter(torch.empty(model.width, width * ACTIVATIONS[model.activation].fan))
        self.down = nn.Parameter(torch.empty(width, model.width))

    def forward(self, x_TD: Tensor, where: Where) -> tuple[Tensor, Routed | None]:
        if self.precision.quantization is None:
            h_TG = product(x_TD, self.up, self.precision.arithmetic)
            for memory in self.memories:
                h_TG = memory.hidden(h_TG, where)
            a_TF = activate(h_TG, self.activation)
            return product(a_TF, self.down, self.precision.arithmetic).float(), None
        expert_T1 = torch.zeros(x_TD.shape[0], 1, dtype=torch.int64, device=x_TD.device)
        y_TD = moe_mlp(
            x_TD, self.up.unsqueeze(0), self.down.unsqueeze(0), expert_T1, torch.ones_like(expert_T1, dtype=torch.float32),
            activation=self.activation, backend=self.backend, precision=self.precision, key_4=self.key_4,
        )  # fmt: skip
        return y_TD, None


class Experts(Part):
    OWN = {"up": Own("expert", by_expert=True), "down": Own("expert", "output", by_expert=True)}

    def __init__(
        self, model: Model, router: Router, transport: Transport, precision: Precision, shared_precision: Precision, layer: int,
        backend: str, output_gain: float = 1.0, debug: bool = False, auxiliary: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__()
        self.auxiliary, self.top_k, self.num_experts = auxiliary, model.top_k, model.num_experts
        self.activation, self.precision, self.backend = model.activation, precision, backend
        self.planned = precision  # of steps that are not in bf16: `Transformer.quantize`
        self.output_gain, self.debug = output_gain, debug
        _register_key(self, precision, layer)
        self.router, self.transport = router, transport
        self.held, width = transport.held, model.expert_width
        self.up = nn.Parameter(torch.empty(len(self.held), model.width, width * ACTIVATIONS[model.activation].fan))
        self.down = nn.Parameter(torch.empty(len(self.held), width, model.width))
        self.operands: tuple[Tensor, Tensor] | None = None
        self.versions = (-1, -1)
        shared_width = model.shared_experts * width
        self.shared = Dense(model, shared_width, shared_precision, layer, backend) if shared_width else None

    def hold_operands(self) -> None:
        """From now on both weights are kept in the arithmetic's dtype too, so that a step casts them once: 2 bytes a weight."""
        if self.precision.quantization is None:
            dtype = self.precision.arithmetic.dtype
            self.operands = torch.empty_like(self.up, dtype=dtype), torch.empty_like(self.down, dtype=dtype)
            self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Makes the operands those of the weights, if these were written since."""
        versions = self.up._version, self.down._version
        if self.operands is not None and versions != self.versions:
            for operand, w in zip(self.operands, (self.up, self.down)):
                operand.copy_(w)
            self.versions = versions

    def idle(self) -> int:
        routed = self.up.numel() + self.down.numel()
        return routed - routed * self.top_k // self.num_experts

    def forward(self, x_TD: Tensor, where: Where) -> tuple[Tensor, Routed | None]:
        routing = self.router(x_TD, where.token_BS.flatten())
        expert_TK, weight_TK, dropped_E = routing.expert_TK, routing.weight_TK, None
        if where.capacity:
            expert_TK, dropped_E = drop(expert_TK, weight_TK, routing.count_E, where.capacity)
        if where.shuffle_T is not None:
            expert_TK, weight_TK = expert_TK.index_select(0, where.shuffle_T), weight_TK.index_select(0, where.shuffle_T)
        y_TD = self.transport.experts(
            operand(x_TD, self.precision.arithmetic), self.up, self.down, expert_TK, weight_TK,
            activation=self.activation, backend=self.backend, precision=self.precision, key_4=self.key_4, debug=self.debug,
            operands=self.operands,
        )  # fmt: skip
        if self.output_gain != 1.0:
            y_TD = y_TD * self.output_gain
        if self.shared is not None:
            y_TD = y_TD + self.shared(x_TD, where)[0]
        routed = Routed(routing.count_E, routing.margin, dropped_E, terms(self.auxiliary, routing, where.token_BS.shape[1]))
        return y_TD, routed
