"""How a sublayer meets the residual stream: the schemes, one a file, and what the model asks of each.

Letters: B batch, S sequence, D width. A stream is what the scheme says: fp32 (B, S, D), or several of these.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.model.part import Part

if TYPE_CHECKING:
    from harness.plan.schema import Model


class Residual(Part):
    """One of each sublayer, two a block. `keys`: the part's own, None of a part without."""

    def __init__(self, model: "Model", keys: Any):
        super().__init__()

    @staticmethod
    def enter(x_BSD: Tensor) -> Tensor:
        """The stream that begins with the embeddings."""
        return x_BSD

    @staticmethod
    def leave(stream: Tensor) -> Tensor:
        """What the head reads, fp32 (B, S, D)."""
        return stream

    def read(self, stream: Tensor) -> Tensor:
        """What the sublayer's norm reads, fp32 (B, S, D)."""
        return stream

    def write(self, stream: Tensor, y_BSD: Tensor) -> Tensor:
        """The stream after the sublayer has said `y_BSD`."""
        raise NotImplementedError
