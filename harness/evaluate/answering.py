"""How a model answers instances of tasks: each answer given the true tokens before it, or all of them written greedily.

A batch is of one task and one length, so that nothing is padded. Letters: B batch, N tokens of an instance, P of a prompt, T
answers of all instances of a batch, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.data.instances import Instance
from harness.evaluate.language_model import nats_and_hits
from harness.model.where import Cache

BATCH_TOKENS = 8192  # inputs a forward pass


class Answering(Protocol):
    """What is asked of a model; `harness.evaluate.own_model.OwnModel` has it."""

    context: int
    decodes: bool  # whether `logits` takes a cache

    def logits(self, token_BS: Tensor, cache: Cache | None = None) -> Tensor:
        """fp32 (B, S, V) of what follows each token, given those before it; with a cache those that it has, too."""
        ...


class Reading(NamedTuple):
    """One instance, its answers given the true tokens before them. `hits`: whether each is the argmax, the lowest id on ties;
    `nats`, `kl` (of the model's distribution from the exact one) and `entropy` (of the exact one) are sums over answers."""

    hits: bool
    nats: float
    kl: float | None
    entropy: float | None


def batches(lengths: Sequence[Hashable], tokens: Callable[[Hashable], int]) -> list[list[int]]:
    """Places of what has the same `lengths` entry, in order, as many together as BATCH_TOKENS hold; `tokens` of one."""
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        alike[length].append(place)
    found = []
    for length, places in alike.items():
        size = max(1, BATCH_TOKENS // tokens(length))
        found += [places[at : at + size] for at in range(0, len(places), size)]
    return found


def read(model: Answering, instances: Sequence[Instance], exact: Callable[[Instance], np.ndarray | None]) -> list[Reading]:
    """`instances` of one length; `exact`: as of their task."""
    token_BN = torch.from_numpy(np.stack([it.token_N for it in instances]).astype(np.int64))
    answer_BN = torch.from_numpy(np.stack([it.answer_N for it in instances]))
    asked, logits = answer_BN[:, 1:], model.logits(token_BN[:, :-1]).cpu()
    logits_TV = logits[asked].double()
    nats_T, hit_T = nats_and_hits(logits_TV, token_BN[:, 1:][asked])
    ends = asked.sum(1).cumsum(0).tolist()[:-1]
    nats, hits = (np.split(t.numpy(), ends) for t in (nats_T, hit_T))
    known = [exact(it) for it in instances]
    if known[0] is None:
        return [Reading(bool(hit.all()), float(nat.sum()), None, None) for nat, hit in zip(nats, hits)]
    exact_TV = torch.from_numpy(np.concatenate([share[it.answer_N] for share, it in zip(known, instances)]))
    entropy_T = -torch.xlogy(exact_TV, exact_TV).sum(-1)
    crossed_T = -(exact_TV * logits_TV.log_softmax(-1)[:, : exact_TV.shape[1]]).sum(-1)
    divergences, entropies = (np.split(t.numpy(), ends) for t in (crossed_T - entropy_T, entropy_T))
    sums = ([float(part.sum()) for part in parts] for parts in (nats, divergences, entropies))
    return [Reading(bool(hit.all()), *of_one) for hit, *of_one in zip(hits, *sums)]


def write(model: Answering, prompt_BP: np.ndarray, most_B: Sequence[int], end: int) -> list[np.ndarray]:
    """int64: what the model writes after each prompt, the likeliest token each time: up to `end`, which is the last one, or as
    many as `most_B` says. With a cache where the model has one, else every token is read anew."""
    token_BS = torch.from_numpy(prompt_BP.astype(np.int64))
    cache = Cache() if model.decodes else None
    new_BS, written_BW = token_BS, token_BS[:, :0]
    while True:
        next_B1 = model.logits(new_BS, cache)[:, -1].cpu().argmax(-1, keepdim=True)
        written_BW = torch.cat((written_BW, next_B1), 1)
        if (written_BW == end).any(1).all() or written_BW.shape[1] == max(most_B):
            return [_ended(row[:most], end) for row, most in zip(written_BW.numpy(), most_B)]
        new_BS = next_B1 if cache else torch.cat((token_BS, written_BW), 1)


def _ended(token_W: np.ndarray, end: int) -> np.ndarray:
    """Up to the first `end`."""
    (places,) = np.nonzero(token_W == end)
    return token_W[: places[0] + 1] if len(places) else token_W
