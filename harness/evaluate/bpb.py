"""Bits per byte: sum of nats over scored targets / (ln 2 * sum of their bytes).

Letters: N tokens, S sequence length, L MoE layers, E experts, V vocabulary. Every token but the very first is a target. Targets
are cut into disjoint windows of S, each starting from the token before it; the last one is short. Full batches run the very
graph that training compiled (with gradients on, though none is taken: another mode would be another compilation); what is left
over, and the shuffled control, run outside the compiler. Sums are in fp64 and int64 and divided once.

Ranks take full batches in turns, and all of them score what is left over. Who scores a batch moves no bit, and every rank has
the whole score: all decide alike.

Of a track of bytes every token is a byte. Of a track of tokens, end-of-text has no bytes and is not scored; nats per token
(`loss`) are the mean over all targets, end-of-text among them, as published FineWeb figures are.

Of a track of tasks answers alone are targets, and each counts as one byte: `bpb` is bits per answer, `loss` nats per answer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.evaluate.lockstep import ALONE_IN_STEP, Lockstep
from harness.keyed import generator
from harness.model.transformer import Transformer
from harness.model.where import Where

NATS_PER_BIT = math.log(2)


@dataclass
class Score:
    """nats_N: fp64, nats of each token but the first, at index token - 1. Routing of all scored tokens beside it.
    bytes_N: int64, the bytes of each of these; None where each is one byte. answers: those with bytes are the only targets."""

    nats_N: np.ndarray
    count_LE: Tensor
    margin_L: Tensor
    bytes_N: np.ndarray | None = None
    answers: bool = False

    def bpb(self, length: int | None = None) -> float:
        """Bits per byte of the first `length` tokens (all of them by default)."""
        nats, size = self.sums(length)
        return nats / (NATS_PER_BIT * size)

    def loss(self, length: int | None = None) -> float:
        """Nats per token over the targets among the first `length` tokens."""
        if self.answers:
            nats, count = self.sums(length)
            return nats / count
        nats = self.nats_N[self._among(length)]
        return float(nats.sum()) / len(nats)

    @property
    def targets(self) -> int:
        return self.sums()[1] if self.answers else len(self.nats_N)

    def sums(self, length: int | None = None) -> tuple[float, int]:
        """(nats, bytes) of the targets among the first `length` tokens that have bytes."""
        return self._sums(self._among(length))

    def bpb_where(self, mask_N: np.ndarray) -> float | None:
        """Bits per byte of the scored tokens that `mask_N` (bool, one per token) keeps; None when it keeps none."""
        nats, size = self._sums(mask_N[1 : len(self.nats_N) + 1])
        return nats / (NATS_PER_BIT * size) if size else None

    def _among(self, length: int | None) -> slice:
        return slice(None if length is None else length - 1)

    def _sums(self, which: slice | np.ndarray) -> tuple[float, int]:
        if self.bytes_N is None:
            nats = self.nats_N[which]
            return float(nats.sum()), len(nats)
        bytes_N = self.bytes_N[which]
        return float(self.nats_N[which][bytes_N > 0].sum()), int(bytes_N.sum())


class Piece(NamedTuple):
    """A forward pass: `sequences` windows of `size` targets, one after the other; `start` is the first one's first input."""

    start: int
    sequences: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.sequences * self.size


def cut(tokens: int, length: int, batch_tokens: int) -> tuple[list[Piece], list[Piece]]:
    """(full batches, what is left over: whole windows, then the short last one) of a text of so many tokens."""
    windows, per_batch = (tokens - 1) // length, max(1, batch_tokens // length)
    full = windows // per_batch * per_batch
    left = [(full * length, windows - full, length), (windows * length, 1, tokens - 1 - windows * length)]
    return (
        [Piece(first * length, per_batch, length) for first in range(0, full, per_batch)],
        [Piece(*piece) for piece in left if piece[1] * piece[2] > 0],
    )


def score(
    model: Transformer, text_N: np.ndarray, batch_tokens: int, shuffle_seed: int | None = None,
    token_bytes_V: np.ndarray | None = None, progress: Callable[[int, int], None] = lambda done, total: None,
    answer_N: np.ndarray | None = None, lockstep: Lockstep = ALONE_IN_STEP,
) -> Score:  # fmt: skip
    """Scores `text_N` (uint8 bytes, or uint16 tokens with their bytes in `token_bytes_V`). `answer_N`: bool, of this text and
    maybe of what follows it, which tokens alone are scored. `shuffle_seed`: gives every token of a batch the routing of
    another one, as a control. `progress(done, total)` counts tokens. `lockstep`: of the ranks that share the work, all of which
    call this.

    Raises:
        NonFiniteOperand: a quantizer met what it cannot hold, on one rank or several; on all of them, the first batch's.
        Agreed: a signal was heard.
    """
    assert len(text_N) > 1, "nothing to score"
    device, ranks, layers = model.embedding.device, lockstep.ranks, len(model.moe_layers)
    tokens = torch.from_numpy(text_N.astype(np.int64))
    batches, left = cut(len(tokens), model.shape.sequence_length, batch_tokens)
    counts: list[Tensor] = []

    def run(piece: Piece, counts_here: bool) -> Tensor:
        """fp64 (targets + L): nats of its targets, then margins times their number, which are fp32."""
        start, stop = piece.start, piece.stop
        inputs, targets = (tokens[start + i : stop + i].view(piece.sequences, piece.size).to(device) for i in (0, 1))
        count, order = stop - start, None
        if shuffle_seed is not None:
            order = torch.from_numpy(generator(shuffle_seed, "shuffled routing", start).permutation(count)).to(device)
        with lockstep.round():
            output = model(Where(inputs, shuffle_T=order), targets)
        counts.append(output.count_LE if counts_here else torch.zeros_like(output.count_LE))
        return torch.cat((output.nats_BS.detach().double().flatten(), (output.margin_L * count).double()))

    rows: list[Tensor] = []
    with torch.enable_grad(), torch.compiler.set_stance("default" if shuffle_seed is None else "force_eager"):
        for first in range(0, len(batches), ranks.world):
            mine, last = first + ranks.rank, min(first + ranks.world, len(batches)) - 1
            rows.append(run(batches[min(mine, last)], mine <= last))  # one without a batch makes the pass all the same
            progress(batches[last].stop, len(tokens) - 1)
    parts = [*lockstep.in_order(torch.stack(rows), len(batches))] if rows else []
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for piece in left:
            parts.append(run(piece, ranks.is_first))
            progress(piece.stop, len(tokens) - 1)
    count_LE = torch.stack(counts).sum(0)
    ranks.sum_([count_LE])
    nats, margins = zip(*(part.split((len(part) - layers, layers)) for part in parts))
    return Score(
        torch.cat(nats).cpu().numpy(),
        count_LE.cpu(),
        torch.stack(margins).float().sum(0).cpu() / (len(tokens) - 1),
        bytes_of(text_N, token_bytes_V, answer_N),
        answer_N is not None,
    )


def bytes_of(text_N: np.ndarray, token_bytes_V: np.ndarray | None, answer_N: np.ndarray | None) -> np.ndarray | None:
    """`Score.bytes_N`."""
    if answer_N is not None:
        return answer_N[1 : len(text_N)].astype(np.int64)
    return None if token_bytes_V is None else token_bytes_V[text_N[1:]]
