"""What an evaluation asks of a model, whoever made it: losses of given targets, not logits.

Letters: B batch, S sequence. A run's own model and one from the hub (`harness evaluate`) answer alike.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class LanguageModel(Protocol):
    context: int  # tokens in the longest sequence it reads
    vocab_size: int  # ids are in [0, vocab_size)
    packs: bool  # whether `score` takes positions and visibility

    def score(
        self, input_BS: Tensor, target_BS: Tensor, position_BS: Tensor | None = None, visible_BSS: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(nats_BS fp32, hit_BS bool): the cross-entropy of each target after its input, and whether the target is the argmax
        (the lowest id on ties). Inputs and targets int64 on the CPU or the model's device; results on the model's device.

        `position_BS` int64: the position of each input in its sequence, by default 0 .. S-1. `visible_BSS` bool: which inputs
        (last axis) each input may look at, by default itself and those before it. Together they let several continuations
        of one prefix share it in a single row, which may then be longer than `context`; no position ever is.
        """
        ...


def nats_and_hits(logits_TV: Tensor, target_T: Tensor) -> tuple[Tensor, Tensor]:
    """(nats_T, hit_T) of `LanguageModel.score` from the logits: of several largest ones the lowest id is the argmax."""
    best_T1 = logits_TV.amax(-1, keepdim=True)
    ids_V = torch.arange(logits_TV.shape[-1], device=logits_TV.device)
    lower_as_good_T = ((logits_TV == best_T1) & (ids_V < target_T[:, None])).any(-1)
    hit_T = (logits_TV.gather(1, target_T[:, None]) == best_T1)[:, 0] & ~lower_as_good_T
    return cross_entropy(logits_TV, target_T, reduction="none"), hit_T
