"""What an evaluation asks of a model, whoever made it: losses of given targets, not logits.

Letters: B batch, S sequence. A run's own model and one from the hub (`harness evaluate`) answer alike.
"""

from typing import Protocol

from torch import Tensor


class LanguageModel(Protocol):
    context: int  # tokens in the longest sequence it reads
    vocab_size: int  # ids are in [0, vocab_size)

    def score(
        self,
        input_BS: Tensor,
        target_BS: Tensor,
        position_BS: Tensor | None = None,
        visible_BSS: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(nats_BS fp32, hit_BS bool): the cross-entropy of each target after its input, and whether the target is the argmax
        (the lowest id on ties). Inputs and targets int64 on the CPU or the model's device; results on the model's device.

        `position_BS` int64: the position of each input in its sequence, by default 0 .. S-1. `visible_BSS` bool: which inputs
        (last axis) each input may look at, by default itself and those before it. Together they let several continuations
        of one prefix share it in a single row.
        """
        ...
