"""Bits per byte of a byte model: sum of nats over scored targets / (ln 2 * number of them).

Letters: N bytes, S sequence length, L MoE layers, E experts. Every byte but the very first is a target. Targets are cut into
disjoint windows of S, each starting from the byte before it; the last one is short. Full batches run the very graph that
training compiled (with gradients on, though none is taken: another mode would be another compilation); what is left over, and
the shuffled control, run outside the compiler. Sums are in fp64 and divided once.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.keyed import generator
from harness.model.transformer import Transformer

NATS_PER_BIT = math.log(2)


@dataclass
class Score:
    """nats_N: fp64, nats of each byte but the first, at index byte - 1. Routing of all scored tokens beside it."""

    nats_N: np.ndarray
    count_LE: Tensor
    margin_L: Tensor

    def bpb(self, length: int | None = None) -> float:
        """Bits per byte of the first `length` bytes (all of them by default)."""
        nats = self.nats_N if length is None else self.nats_N[: length - 1]
        return float(nats.sum()) / (NATS_PER_BIT * len(nats))

    def bpb_where(self, mask_N: np.ndarray) -> float | None:
        """Bits per byte of the scored bytes that `mask_N` (bool, one per byte) keeps; None when it keeps none."""
        nats = self.nats_N[mask_N[1 : len(self.nats_N) + 1]]
        return float(nats.sum()) / (NATS_PER_BIT * len(nats)) if len(nats) else None


def score(model: Transformer, text_N: np.ndarray, batch_tokens: int, shuffle_seed: int | None = None) -> Score:
    """Scores `text_N` (uint8). `shuffle_seed`: gives every token of a batch the routing of another one, as a control."""
    assert len(text_N) > 1, "nothing to score"
    device, length = model.embedding.device, model.shape.sequence_length
    tokens = torch.from_numpy(text_N.astype(np.int64))
    windows = (len(tokens) - 1) // length
    per_batch = max(1, batch_tokens // length)
    nats: list[Tensor] = []
    counts: list[Tensor] = []
    margins: list[Tensor] = []

    def run(start: int, sequences: int, size: int) -> None:
        stop = start + sequences * size
        inputs, targets = (tokens[start + i : stop + i].view(sequences, size).to(device) for i in (0, 1))
        count, order = sequences * size, None
        if shuffle_seed is not None:
            order = torch.from_numpy(generator(shuffle_seed, "shuffled routing", start).permutation(count)).to(device)
        output = model(inputs, targets, order)
        nats.append(output.nats_BS.detach().double().flatten())
        counts.append(output.count_LE)
        margins.append(output.margin_L * count)

    full = windows // per_batch * per_batch
    with torch.enable_grad(), torch.compiler.set_stance("default" if shuffle_seed is None else "force_eager"):
        for first in range(0, full, per_batch):
            run(first * length, per_batch, length)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        if windows > full:
            run(full * length, windows - full, length)
        if rest := len(tokens) - 1 - windows * length:
            run(windows * length, 1, rest)
    return Score(
        torch.cat(nats).cpu().numpy(),
        torch.stack(counts).sum(0).cpu(),
        torch.stack(margins).sum(0).cpu() / (len(tokens) - 1),
    )
