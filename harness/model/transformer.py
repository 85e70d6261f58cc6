"""The decoder: embedding, pre-norm blocks of attention and feed-forward, norm, head.

Letters: B batch, S sequence, T = B*S tokens, D width, V vocabulary, L MoE layers, E experts. The residual stream is fp32;
products take their operands in the arithmetic's dtype. Forward is pure: routing counts and the terms of auxiliary losses come
back as values, never as changed state, so they are right under gradient accumulation and activation checkpointing.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding
from torch.utils.checkpoint import checkpoint

from harness.model.attention import Attention, rotary
from harness.model.feedforward import Dense, Experts, Routed
from harness.model.norm import Norm
from harness.model.precision import Precisions
from harness.model.product import product
from harness.plan.schema import Gains, Model
from kernels import Arithmetic

# fp32 logits that exist at a time: 512 MiB, with their gradient twice that. 32,768 tokens x 50,304 would be 6.6 GB.
LOGITS_AT_ONCE = 1 << 27


class Output(NamedTuple):
    nats_BS: Tensor  # fp32 cross-entropy of each target
    count_LE: Tensor  # int64 rows routed to each expert, MoE layers only
    margin_L: Tensor  # fp32 mean gap between the k-th and (k+1)-th selection score
    dropped_LE: Tensor  # int64 rows beyond each expert's capacity; (0, 0) without a capacity
    terms: dict[str, Tensor]  # by auxiliary loss that is on, of all MoE layers: see harness/model/auxiliary.py


class Block(nn.Module):
    def __init__(self, model: Model, feedforward: nn.Module, arithmetic: Arithmetic):
        super().__init__()
        self.attention_norm = Norm(model.width, model.norm_weight)
        self.attention = Attention(model, arithmetic)
        self.feedforward_norm = Norm(model.width, model.norm_weight)
        self.feedforward = feedforward

    def forward(self, x_BSD, token_BS, cos_SA, sin_SA, shuffle_T, visible_BSS=None, capacity=0) -> tuple[Tensor, Routed | None]:
        """Returns the new residual stream, and of a MoE block what its routing was."""
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), cos_SA, sin_SA, visible_BSS).float()
        normed_TD = self.feedforward_norm(x_BSD).flatten(0, 1)
        y_TD, routed = self.feedforward(normed_TD, token_BS, shuffle_T, capacity)
        return x_BSD + y_TD.view_as(x_BSD), routed


class Head(nn.Module):
    """Final norm, logits and their cross-entropy."""

    def __init__(self, model: Model, arithmetic: Arithmetic, gain: float):
        super().__init__()
        self.arithmetic, self.gain = arithmetic, gain
        self.norm = Norm(model.width, model.norm_weight)
        self.weight = nn.Parameter(torch.empty(model.width, model.vocab_size))

    def logits(self, x_BSD: Tensor) -> Tensor:
        logits = product(self.norm(x_BSD), self.weight, self.arithmetic).float()
        return logits if self.gain == 1.0 else logits * self.gain

    def forward(self, x_BSD: Tensor, target_BS: Tensor) -> Tensor:
        """nats_BS. Above LOGITS_AT_ONCE the tokens go in chunks, and the backward computes each chunk's logits again."""
        chunk = max(1, LOGITS_AT_ONCE // self.weight.shape[1])
        if target_BS.numel() <= chunk:
            return self._nats(x_BSD.flatten(0, 1), target_BS.flatten()).view_as(target_BS)
        parts = zip(x_BSD.flatten(0, 1).split(chunk), target_BS.flatten().split(chunk))
        nats = [checkpoint(self._nats, x_TD, target_T, use_reentrant=False) for x_TD, target_T in parts]
        return torch.cat(nats).view_as(target_BS)

    def _nats(self, x_TD: Tensor, target_T: Tensor) -> Tensor:
        return cross_entropy(self.logits(x_TD), target_T, reduction="none")


class Transformer(nn.Module):
    def __init__(
        self, model: Model, precision: Precisions | Arithmetic, backend: str, activation_checkpointing: bool = False,
        debug: bool = False, gains: Gains | None = None, auxiliary: tuple[str, ...] = (),
    ):  # fmt: skip
        """`precision`: an arithmetic alone quantizes nothing. `auxiliary`: the losses of `harness.model.auxiliary.TERMS` whose
        terms the output carries."""
        super().__init__()
        p = Precisions(precision) if isinstance(precision, Arithmetic) else precision
        self.gains = gains or Gains()
        self.shape, self.activation_checkpointing = model, activation_checkpointing
        self.embedding = nn.Parameter(torch.empty(model.vocab_size, model.width))
        self.blocks = nn.ModuleList()
        for layer in range(model.layers):
            if layer in model.moe_layers:
                of_experts, of_shared = p.of_layer(layer, routed=True), p.of_layer(layer, routed=False)
                feedforward: nn.Module = Experts(
                    model, of_experts, of_shared, layer, backend, self.gains.expert_output, debug, auxiliary
                )
            else:
                feedforward = Dense(model, model.ffn_width, p.of_layer(layer, routed=False), layer, backend)
            self.blocks.append(Block(model, feedforward, p.arithmetic))
        self.head = Head(model, p.arithmetic, self.gains.logits)
        self.quantizing = [m for m in self.blocks.modules() if getattr(m, "key_4", None) is not None]
        cos, sin = rotary(model.sequence_length, model.width // model.heads, model.rope_base)
        self.register_buffer("cos_SA", cos, persistent=False)
        self.register_buffer("sin_SA", sin, persistent=False)

    @property
    def moe_layers(self) -> list[int]:
        return [i for i, block in enumerate(self.blocks) if isinstance(block.feedforward, Experts)]

    @torch.no_grad()
    def at(self, seed: int, step: int, first_token: int) -> None:
        """Tells every module that quantizes where training is; `first_token` of the micro-batch within the step's
        global batch."""
        for key_4 in (module.key_4 for module in self.quantizing):
            for part, value in zip(key_4, (seed, step, first_token)):
                part.fill_(value)  # a number, so that a GPU need not be waited for

    def trunk(
        self,
        token_BS: Tensor,
        shuffle_T: Tensor | None = None,
        position_BS: Tensor | None = None,
        visible_BSS: Tensor | None = None,
        capacity: int = 0,
    ) -> tuple[Tensor, list[Routed]]:
        """The residual stream after the last block, and the routing of MoE layers.

        `position_BS` int64 below `sequence_length` (by default 0 .. S-1) and `visible_BSS` bool, which inputs (last
        axis) each input looks at (by default itself and those before), are for rows that pack several sequences."""
        x_BSD = embedding(token_BS, self.embedding)
        if self.gains.embedding != 1.0:
            x_BSD = x_BSD * self.gains.embedding
        angles = (self.cos_SA, self.sin_SA)
        if position_BS is not None:
            angles = (self.cos_SA[position_BS], self.sin_SA[position_BS])
        routed = []
        for block in self.blocks:
            arguments = (x_BSD, token_BS, *angles, shuffle_T, visible_BSS, capacity)
            if self.activation_checkpointing and torch.is_grad_enabled():
                x_BSD, of_layer = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x_BSD, of_layer = block(*arguments)
            if of_layer is not None:
                routed.append(of_layer)
        return x_BSD, routed

    def forward(
        self, token_BS: Tensor, target_BS: Tensor, shuffle_T: Tensor | None = None, position_BS: Tensor | None = None,
        visible_BSS: Tensor | None = None, capacity: int = 0,
    ) -> Output:  # fmt: skip
        """token_BS, target_BS int64 in [0, V); sequences of at most `sequence_length`. `capacity`: the rows that an expert
        takes at most, in training alone; 0 is no limit. The rest as `trunk`."""
        x_BSD, routed = self.trunk(token_BS, shuffle_T, position_BS, visible_BSS, capacity)
        nats_BS = self.head(x_BSD, target_BS)
        none = nats_BS.new_zeros((0, 0), dtype=torch.int64)
        if not routed:
            return Output(nats_BS, none, nats_BS.new_zeros(0), none, {})
        dropped_LE = torch.stack([layer.dropped_E for layer in routed]) if capacity else none
        terms = {name: torch.stack([layer.terms[name] for layer in routed]) for name in routed[0].terms}
        counts, margins = torch.stack([layer.count_E for layer in routed]), torch.stack([layer.margin for layer in routed])
        return Output(nats_BS, counts, margins.detach(), dropped_LE, terms)

    def logits(self, token_BS: Tensor) -> Tensor:
        return self.head.logits(self.trunk(token_BS)[0])
