"""What a run's model writes after a prompt, token by token.

Letters: S the model's sequence length, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from harness.model.transformer import Transformer
from harness.model.where import Cache


def written(
    model: Transformer, prompt: Sequence[int], draws: Iterable[float], temperature: float, vocab_size: int
) -> Iterator[int]:
    """A token below `vocab_size` for each draw, given the last S tokens; temperature 0 takes the likeliest, the lowest id on
    ties. `draws`: in [0, 1)."""
    tokens, cache = list(prompt), Cache() if model.decodes else None
    for draw in draws:
        logits = _next(model, tokens, cache)[:vocab_size].double()
        if temperature == 0:
            tokens.append(int(logits.argmax()))
        else:
            cumulative = torch.softmax(logits / temperature, -1).cumsum(0)
            tokens.append(min(int(torch.searchsorted(cumulative, draw)), len(cumulative) - 1))
        yield tokens[-1]


@torch.no_grad()
def _next(model: Transformer, tokens: list[int], cache: Cache | None) -> Tensor:
    """fp32 (V,) on the CPU: the logits of what follows. Beyond the model's length its window is read anew, since all positions
    in it have moved."""
    length, device = model.shape.sequence_length, model.embedding.device
    if cache is None or len(tokens) > length:
        return model.logits(torch.tensor([tokens[-length:]], device=device))[0, -1].cpu()
    return model.logits(torch.tensor([tokens[cache.length :]], device=device), cache)[0, -1].cpu()
