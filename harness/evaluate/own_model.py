"""A run's own `Transformer` as a `LanguageModel`.

Letters: B batch, S sequence, T = B*S tokens, D width, V vocabulary.
"""

import torch
from torch import Tensor

from harness.evaluate.language_model import nats_and_hits
from harness.model.transformer import Transformer
from harness.model.where import Cache, Where

HEAD_TOKENS = 1024  # whose fp32 logits exist at a time: 206 MB at V = 50,304


class OwnModel:
    """Blocks run outside the compiler: an evaluation's many shapes would each be a compilation."""

    def __init__(self, model: Transformer):
        self.model = model
        self.context, self.vocab_size = model.shape.sequence_length, model.shape.vocab_size
        self.packs, self.decodes = model.can("packed rows"), model.decodes

    @torch.no_grad()
    def logits(self, token_BS: Tensor, cache: Cache | None = None) -> Tensor:
        """As `Transformer.logits`, of tokens on any device."""
        with torch.compiler.set_stance("force_eager"):
            return self.model.logits(token_BS.to(self.model.embedding.device), cache)

    @torch.no_grad()
    def score(
        self, input_BS: Tensor, target_BS: Tensor, position_BS: Tensor | None = None, visible_BSS: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `LanguageModel.score`."""
        longest = input_BS.shape[1] if position_BS is None else int(position_BS.max()) + 1
        assert longest <= self.context, f"a sequence of {longest} tokens, the model reads {self.context}"
        device = self.model.embedding.device
        moved = [None if t is None else t.to(device) for t in (input_BS, position_BS, visible_BSS)]
        with torch.compiler.set_stance("force_eager"):
            x_BSD = self.model.trunk(Where(moved[0], position_BS=moved[1], visible_BSS=moved[2]))[0]
        parts = [
            nats_and_hits(self.model.head.logits(x_TD), target_T)
            for x_TD, target_T in zip(x_BSD.flatten(0, 1).split(HEAD_TOKENS), target_BS.to(device).flatten().split(HEAD_TOKENS))
        ]
        nats_BS, hit_BS = (torch.cat(part).view_as(target_BS) for part in zip(*parts))
        return nats_BS, hit_BS
