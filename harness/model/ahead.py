"""Targets further ahead than the next token: the same logits are scored against the 2nd, 3rd, ... next token too.

Letters: K distances, B batch, S sequence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.targets import IGNORED


def targets_ahead(target_BS: Tensor, distances: Sequence[int], document_BS: Tensor | None) -> Tensor:
    """int64 (K, B, S): the targets `distances` tokens after each input, each at least 2 and below S; IGNORED where a row ends
    before them, or the input's document does. `target_BS`: the next tokens. `document_BS`: of inputs. What ends a document, the
    end-of-text that begins the next one, is a target of it, as it is the next token of its last one."""
    found = []
    for distance in distances:
        further = distance - 1
        ahead_BS = torch.full_like(target_BS, IGNORED)
        ahead_BS[:, :-further] = target_BS[:, further:]
        if document_BS is not None:
            ahead_BS[:, :-further].masked_fill_(document_BS[:, further:] != document_BS[:, :-further], IGNORED)
        found.append(ahead_BS)
    return torch.stack(found)
