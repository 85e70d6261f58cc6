"""One forward pass with hooks on the modules of the model: what blocks, attentions and routers were given and what they said.

Letters: B instances, S sequence, D depths, L layers, N and M tokens, A answers, W width, H heads, K top-k, T = B*S.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.evaluate.inspect.sample import Sample
from harness.evaluate.own_model import HEAD_TOKENS
from harness.model.routing import Routing
from harness.model.transformer import Transformer
from harness.model.where import Where


class Pass(NamedTuple):
    """`called`: of each block the residual stream and the `Where` that it was called with; `heard`: likewise of each attention
    the normed stream; `chosen`: of each MoE layer the experts (T, K); `last_BSW`: what the head reads."""

    called: list[tuple[Any, Where]]
    heard: list[tuple[Tensor, Where]]
    chosen: list[Tensor]
    last_BSW: Tensor

    def depths(self, model: Transformer) -> list[Tensor]:
        """x_BSW at each depth: what the head would read there."""
        return [*(model.residual.leave(stream) for stream, _ in self.called), self.last_BSW]


class Seen(NamedTuple):
    """What a model did with a sample. Numpy, on the CPU."""

    probed_DNW: np.ndarray  # fp32 stream of the tokens of `Sample.probed`
    spread_DMW: np.ndarray  # and of M of all tokens, evenly taken
    nats_DA: np.ndarray  # of each answer, by the stream at each depth through the head
    rank_DA: np.ndarray  # int64: 1 where no token has a larger logit than the answer
    looked: list[np.ndarray | None]  # by layer (A', H): the weight from before an answer to its source (`before_sourced`)
    chosen_LBSK: np.ndarray  # int16, of MoE layers


@torch.no_grad()
def run(model: Transformer, token_BS: np.ndarray) -> Pass:
    called: list[tuple[Any, Where]] = []
    heard: list[tuple[Tensor, Where]] = []
    chosen: list[Tensor] = []
    with ExitStack() as stack:
        for block in model.blocks:
            stack.enter_context(removed(block.register_forward_pre_hook(lambda _, given: called.append(given))))
            stack.enter_context(removed(block.attention.register_forward_pre_hook(lambda _, given: heard.append(given))))
        for layer in model.moe_layers:
            router = model.blocks[layer].feedforward.router
            hook = router.register_forward_hook(lambda _, given, said: chosen.append(said.expert_TK))
            stack.enter_context(removed(hook))
        with torch.compiler.set_stance("force_eager"):
            last_BSW = model.trunk(Where(torch.from_numpy(token_BS).to(model.embedding.device)))[0]
    return Pass(called, heard, chosen, last_BSW)


@contextmanager
def removed(*hooks: Any) -> Iterator[None]:
    """They are gone afterwards."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def silenced(router: nn.Module, expert: int) -> Iterator[None]:
    """What the expert says counts as zero. The router chooses as before, and the other weights stay as they are."""

    def without(_: nn.Module, given: Any, said: Routing) -> Routing:
        return said._replace(weight_TK=said.weight_TK.masked_fill(said.expert_TK == expert, 0.0))

    with removed(router.register_forward_hook(without)):
        yield


@torch.no_grad()
def again(model: Transformer, before: Pass, layer: int) -> Tensor:
    """`last_BSW` when blocks from `layer` on compute again."""
    stream = before.called[layer][0]
    with torch.compiler.set_stance("force_eager"):
        for block, (_, where) in zip(model.blocks[layer:], before.called[layer:]):
            stream = block(stream, where)[0]
    return model.residual.leave(stream)


@torch.no_grad()
def nats_and_ranks(model: Transformer, x_AW: Tensor, answer_A: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(fp64 nats, int64 ranks) of answers, of the stream through the model's head."""
    nats, ranks = [], []
    for x_TW, answer_T in zip(x_AW.split(HEAD_TOKENS), answer_A.split(HEAD_TOKENS)):
        logits_TV = model.head.logits(x_TW)
        nats.append(cross_entropy(logits_TV, answer_T, reduction="none").double())
        ranks.append(1 + (logits_TV > logits_TV.gather(1, answer_T[:, None])).sum(1))
    return torch.cat(nats).cpu().numpy(), torch.cat(ranks).cpu().numpy()


def answers_of(model: Transformer, sample: Sample) -> Tensor:
    return torch.from_numpy(sample.before_answers.after(1).of(sample.token_BS)).to(model.embedding.device)


@torch.no_grad()
def look(model: Transformer, sample: Sample, spread: int) -> Seen:
    """`spread`: how many tokens M."""
    probed, several, nats, ranks, looked, chosen = [], [], [], [], [], []
    answer_A, asked = answers_of(model, sample), sample.before_answers
    wanted = (probed, sample.probed), (several, sample.inside.evenly(spread))
    done = 0
    for first, last in sample.batches():
        found = run(model, sample.token_BS[first:last])
        depths, here = found.depths(model), asked.between(first, last)
        for kept, places in wanted:
            these = places.between(first, last)
            kept.append(np.stack([these.of(x_BSW).float().cpu().numpy() for x_BSW in depths]))
        answer = answer_A[done : done + len(here.row_N)]
        done += len(here.row_N)
        nats_DA, ranks_DA = zip(*(nats_and_ranks(model, here.of(x_BSW), answer) for x_BSW in depths))
        nats.append(np.stack(nats_DA))
        ranks.append(np.stack(ranks_DA))
        looked.append(_looked(model, found, sample, first, last))
        shape = (last - first, sample.token_BS.shape[1], -1)
        chosen.append(np.stack([e.view(shape).cpu().numpy().astype(np.int16) for e in found.chosen]) if found.chosen else None)
    return Seen(
        np.concatenate(probed, 1), np.concatenate(several, 1), np.concatenate(nats, 1), np.concatenate(ranks, 1),
        [None if parts[0] is None else np.concatenate(parts) for parts in zip(*looked)],
        np.concatenate(chosen, 1) if chosen[0] is not None else np.zeros((0, 0, 0, 0), np.int16),
    )  # fmt: skip


def _looked(model: Transformer, found: Pass, sample: Sample, first: int, last: int) -> list[np.ndarray | None]:
    """By layer (A', H): the weight of the source for the token before each answer that has one; None where there are none."""
    everywhere = sample.before_sourced
    asking = everywhere.between(first, last)
    source_A = asking.after(1).of(sample.source_BS[first:last])
    looked: list[np.ndarray | None] = []
    for block, (x_BSW, where) in zip(model.blocks, found.heard):
        weight_BHSS = block.attention.weights(x_BSW, where) if len(everywhere.row_N) else None
        looked.append(None if weight_BHSS is None else weight_BHSS[asking.row_N, :, asking.place_N, source_A].cpu().numpy())
    return looked
