"""What came before each token, in its row and its document, and with a cache before these tokens: ids of several tokens, which
tables of n-grams are looked up by, or anything of the one before.

Letters: B batch, S sequence.
"""

import torch
from torch import Tensor

from harness.model.short_conv import same_document
from harness.model.where import Where

NONE = -1  # where the row has no such token, or it is of another document


def earlier_tokens(where: Where, most: int, owner: object) -> list[Tensor]:
    """int64 (B, S) for 1 .. `most` places back. `owner`: in whose name a cache keeps the last tokens; NONE is kept as such."""
    token_BS = where.token_BS
    before = token_BS.new_full((len(token_BS), most), NONE)
    if where.cache is not None:
        kept = where.cache.get(owner)
        before = before if kept is None else kept[0]
        where.cache.put(owner, torch.cat((before, token_BS), 1)[:, -most:])
    whole = torch.cat((before, token_BS), 1)
    found = [whole[:, most - back : most - back + token_BS.shape[1]] for back in range(1, most + 1)]
    if where.document_BS is not None:
        found = [t.where(same_document(where.document_BS, back), NONE) for back, t in enumerate(found, 1)]
    return found


def one_before(x: Tensor, where: Where, owner: object) -> Tensor:
    """(B, S, ...) as `x`: what it is of the token before, 0 where there is none. `owner` as above."""
    kept = where.cache.get(owner) if where.cache is not None else None
    if where.cache is not None:
        where.cache.put(owner, x[:, -1:])
    before = torch.cat((torch.zeros_like(x[:, :1]) if kept is None else kept[0], x[:, :-1]), 1)
    if where.document_BS is not None:
        begins_BS = ~same_document(where.document_BS, 1)
        before = before.masked_fill(begins_BS.view(*begins_BS.shape, *[1] * (x.ndim - 2)), 0.0)
    return before
