"""The attentions, one a file, and what the model asks of each.

Letters: B batch, S sequence, D width.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from harness.model.part import Part
from harness.model.where import Where
from kernels import Arithmetic

if TYPE_CHECKING:
    from harness.model.memory import InBlock
    from harness.plan.schema import Model


class Attention(Part):
    """`keys`: the part's own, None of a part without."""

    backend = "torch"  # of `kernels.causal_attention`: the model sets it on its own
    memories: "tuple[InBlock, ...]" = ()  # of its block, which act on its heads: the model sets them

    def __init__(self, model: "Model", keys: Any, arithmetic: Arithmetic):
        super().__init__()

    clipped = False  # whether the model is to say how large scores are (`optim.qk_clip`): the model sets it

    @staticmethod
    def shared(model: "Model", keys: Any) -> nn.Module:
        """Called once a forward pass with `Where`: what all layers share, as tables of angles and masks."""
        return _Nothing()

    def forward(self, x_BSD: Tensor, where: Where) -> Tensor:
        """The contribution to the residual stream, in the arithmetic's dtype, of the normed stream in fp32."""
        raise NotImplementedError

    def peaks(self, x_BSD: Tensor, where: Where) -> Tensor:
        """fp32 (H,): the largest magnitude of each head's scores; of an attention with `QK_CLIP`."""
        raise NotImplementedError

    def weights(self, x_BSD: Tensor, where: Where) -> Tensor | None:
        """fp32 (B, H, S, S): what each query gives to each token, for those who look inside; None of an attention that has no
        such weights, or none to read."""
        return None

    def shrink(self, factor_H: Tensor) -> None:
        """Changes the weights of queries and keys so that each head's scores are these factors of what they were; likewise."""
        raise NotImplementedError


class _Nothing(nn.Module):
    def forward(self, where: Where) -> None:
        return None
