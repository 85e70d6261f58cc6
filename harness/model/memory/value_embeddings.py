"""Value embeddings (modded-nanogpt, nanochat): in some layers the values have a row of the token added, weighed by head.

    v_t <- v_t + 2 sigmoid(x_t[:channels] W) table[token_t]

Each such layer has a table of its own, which starts at 0; the gates start as 1. The token alone says what its row is.

Letters: B batch, S sequence, D width, G heads of keys and values, A head width, V vocabulary, N layers that have one.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from harness.model.memory import InBlock, Memory
from harness.model.part import Own
from harness.model.where import Where

if TYPE_CHECKING:
    from harness.model.attention import Attention
    from harness.plan.schema import Model


class Values(Memory):
    OWN: dict[str, Own] = {}

    def __init__(self, model: "Model", keys: Any):
        super().__init__(model, keys)
        self.layers = [layer for layer in range(model.layers) if (model.layers - 1 - layer) % keys.every == 0]

    def in_block(self, layer: int, attention: "Attention", feedforward: nn.Module) -> "ValuesInBlock | None":
        if layer not in self.layers:
            return None
        name, width = f"table_{layer}", attention.value.shape[1]
        self.register_parameter(name, nn.Parameter(torch.empty(self.shape.vocab_size, width)))
        self.OWN = self.OWN | {name: Own("table", "zero")}
        return ValuesInBlock(self.keys.channels, width * self.shape.heads // self.shape.width)

    def unread(self) -> int:
        return sum(table.numel() - table.shape[1] for table in self.parameters())

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, dict[int, Tensor]]:
        return x_BSD, {layer: embedding(where.token_BS, getattr(self, f"table_{layer}")) for layer in self.layers}

    def of_layer(self, found: dict[int, Tensor], layer: int) -> Tensor | None:
        return found.get(layer)


class ValuesInBlock(InBlock):
    OWN = {"gate": Own("scalar", "zero")}

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.gate = nn.Parameter(torch.empty(channels, heads))

    def flops(self) -> int:
        return 6 * self.gate.numel()

    def heads(self, q: Tensor, k: Tensor, v: Tensor, x_BSD: Tensor, where: Where) -> tuple[Tensor, Tensor, Tensor]:
        gate_BSG = 2 * torch.sigmoid(x_BSD.float()[..., : self.gate.shape[0]] @ self.gate)
        return q, k, v.float() + gate_BSG.unsqueeze(-1) * where.recalled["value_embeddings"].view(v.shape)


PART = Values
