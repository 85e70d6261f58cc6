"""Memories: what tells a layer of a few tokens before, or of the token itself, beside the attention. One a file; a plan names
any number of them, and what the model asks of each is here.

A memory is a part of the whole model, where tables are looked up before the blocks (outside of what is compiled, as the
embedding is). In the blocks that it chooses it has a part of its own, with a method for each place where a memory may act.

Letters: B batch, S sequence, D width, H heads, G heads of keys and values, A head width, T = B*S, U units of a feed-forward's
hidden layer.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.model.part import Part
from harness.model.where import Where

if TYPE_CHECKING:
    from torch import nn

    from harness.model.attention import Attention
    from harness.plan.schema import Model


class InBlock(Part):
    """What a memory does at the places of one block; each leaves alone what it is given unless a memory says otherwise."""

    def says(self, x_BSD: Tensor, where: Where) -> Tensor | None:
        """What is added to the stream before the block, fp32 (B, S, D), of the stream as the head would read it."""
        return None

    def attention_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        """What the attention reads in place of the normed stream, fp32."""
        return x_BSD

    def heads(self, q: Tensor, k: Tensor, v: Tensor, x_BSD: Tensor, where: Where) -> tuple[Tensor, Tensor, Tensor]:
        """What stands in place of q_BSHA, k_BSGA and v_BSGA before norms and rotation, and what they were made of; where the
        attention has such (`GIVES_HEADS`)."""
        return q, k, v

    def feedforward_input(self, x_BSD: Tensor, where: Where) -> Tensor:
        """What the feed-forward reads in place of the normed stream, fp32; a router reads it too."""
        return x_BSD

    def hidden(self, h_TU: Tensor, where: Where) -> Tensor:
        """What a dense or shared feed-forward is before its activation. Rows of routed experts have no neighbours."""
        return h_TU


class Memory(Part):
    """`keys`: the part's own, None of a part without."""

    def __init__(self, model: "Model", keys: Any):
        super().__init__()
        self.keys, self.shape = keys, model

    def in_block(self, layer: int, attention: "Attention", feedforward: "nn.Module") -> InBlock | None:
        """Its part in a block with these, counted from 0; None where the memory does nothing there."""
        return None

    def forward(self, x_BSD: Tensor, where: Where) -> tuple[Tensor, Any]:
        """Called once a forward pass with the embeddings: what the stream begins with, and what was found."""
        return x_BSD, None

    def of_layer(self, found: Any, layer: int) -> Any:
        """What a block gets of it, as `where.recalled` by the memory's name."""
        return None
