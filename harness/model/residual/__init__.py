"""How a sublayer meets the residual stream: the schemes, one a file, and what the model asks of each.

Letters: B batch, S sequence, D width. A stream is what the scheme says: fp32 (B, S, D), or several of these in one tensor or a
tuple.
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
    def enter(x_BSD: Tensor, model: "Model", keys: Any) -> Any:
        """The stream that begins with the embeddings."""
        return x_BSD

    @staticmethod
    def leave(stream: Any) -> Tensor:
        """What the head reads, fp32 (B, S, D)."""
        return stream

    @staticmethod
    def add(stream: Any, y_BSD: Tensor) -> Any:
        """The stream after a memory has said `y_BSD`, fp32: no sublayer, so nothing else happens to it."""
        return stream + y_BSD

    def read(self, stream: Any) -> tuple[Tensor, Any]:
        """What the sublayer's norm reads, fp32 (B, S, D); and what `write` is to know of it."""
        return stream, None

    def write(self, stream: Any, noted: Any, y_BSD: Tensor) -> Any:
        """The stream after the sublayer has said `y_BSD`; `noted`: what `read` said beside."""
        raise NotImplementedError
