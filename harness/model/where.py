"""Where the tokens of a forward pass are, and what they may see: one argument for trunk, block, attention and experts.

Letters: B batch, S sequence, T = B*S tokens.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Cache:
    """What the attentions of a model keep of the tokens that it has read, `length` of each row: of every token, of the last
    ones, or a state."""

    def __init__(self) -> None:
        self.length = 0
        self.kept: dict[int, tuple[Tensor, ...]] = {}

    def extend(self, layer: object, *new: Tensor, keep: int = 0) -> tuple[Tensor, ...]:
        """All that `layer` has kept, `new` included; each has its tokens in the last axis but one. `keep`: how many last ones
        stay; 0: all."""
        before = self.kept.get(id(layer))
        whole = new if before is None else tuple(torch.cat(pair, dim=-2) for pair in zip(before, new))
        self.kept[id(layer)] = tuple(t[..., -keep:, :] for t in whole) if keep else whole
        return whole

    def get(self, layer: object) -> tuple[Tensor, ...] | None:
        return self.kept.get(id(layer))

    def put(self, layer: object, *state: Tensor) -> None:
        """In place of what `layer` had kept."""
        self.kept[id(layer)] = state

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for kept in self.kept.values() for t in kept)


class Where(NamedTuple):
    token_BS: Tensor  # int64 ids
    position_BS: Tensor | None = None  # int64 below the model's sequence length; None: 0 .. S-1 in every row
    document_BS: Tensor | None = None  # int64: a token looks at its own document only; None: at all before it
    # bool (query, key), of rows that pack several sequences: it replaces causality and documents
    visible_BSS: Tensor | None = None
    shuffle_T: Tensor | None = None  # a permutation: every token gets another token's routing, a control of evaluation
    cache: Cache | None = None  # of decoding: what the tokens before these left behind; positions go on from there
    capacity: int = 0  # rows that an expert takes at most, in training alone; 0 is no limit
    shared: Any = None  # what the attention computes once for all layers (`Attention.shared`)
    recalled: Any = None  # what the memories found, by name: `Memory.of_layer`


def within_documents(document_BS: Tensor | None) -> Tensor | None:
    """visible_BSS: each input looks at itself and at those before it that have its number in `document_BS` (int64).

    Positions need no restart with it: rotary scores depend only on how far two inputs are apart, so where in the row a
    document begins changes nothing but rounding. The mask takes S*S bytes a sequence (4 MB at 2,048). With a mask torch's
    attention cannot be its flash kernel: on CUDA it is the memory-efficient one, which keeps the mask in the operands'
    dtype for the backward.
    """
    if document_BS is None:
        return None
    length = document_BS.shape[1]
    causal_SS = torch.ones(length, length, dtype=torch.bool, device=document_BS.device).tril()
    return (document_BS[:, :, None] == document_BS[:, None, :]) & causal_SS
