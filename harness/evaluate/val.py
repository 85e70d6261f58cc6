"""A track's val as anybody may score it afterwards: nats per token and bits per byte, in the windows of training's scoring.

A run's own model goes through that scoring itself (`bpb.py`), in fp32: where the run computed in bf16, its recorded figure is
met to rounding. Any other model is asked as a `LanguageModel` for the same windows, as long as its context. Letters: N tokens.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness.data.corpora import Val
from harness.errors import UserError
from harness.evaluate import bpb
from harness.evaluate.language_model import LanguageModel
from harness.evaluate.own_model import OwnModel
from harness.plan.schema import Data, Track

BATCH_TOKENS = 4096  # inputs a forward pass
# Names of `lanes/anchors.yaml` where it has figures of the protocol, and what they are figures of; others are TRACK-val.
PROTOCOLS = {"fineweb": "fineweb-gpt2-val10M", "tiny": "sotu-val"}
LOSSES = ("fineweb-gpt2-val10M",)


def protocol(track: Track, data: Data, val: Val) -> str:
    """Val that is not the track's own has an id of its own: nothing else is measured on it."""
    if track.of_tasks and val.sha256 != track.val_sha256:
        return f"{track.name}-{val.sha256[:12]}"
    return f"shards-{val.sha256[:12]}" if data.shards else PROTOCOLS.get(track.name, f"{track.name}-val")


def val_result(
    model: LanguageModel, track: Track, data: Data, val: Val, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """JSON data: the protocol, `val_bpb` and `val_loss` (nats per token), the one that its anchors state first, and their sums.
    `progress(done, total)` counts tokens.

    Raises: UserError when the model's nats are not finite.
    """
    found = score_val(model, val, progress)
    nats, size = found.sums()
    if not np.isfinite(found.nats_N).all():
        raise UserError(f"the model gives val {nats} nats", "its weights are damaged, or it overflows in this dtype")
    name = protocol(track, data, val)
    figures = {"val_bpb": found.bpb(), "val_loss": found.loss()}
    if name in LOSSES:
        figures = dict(reversed(figures.items()))
    facts = {"track": track.name, "context": model.context, "sha256": val.sha256}
    return {"protocol": name, **figures, **facts, "targets": found.targets, "nats": nats, "bytes": size}


def score_val(model: LanguageModel, val: Val, progress: Callable[[int, int], None] = lambda done, total: None) -> bpb.Score:
    if isinstance(model, OwnModel):
        return bpb.score(
            model.model, val.tokens, BATCH_TOKENS, token_bytes_V=val.token_bytes, progress=progress, answer_N=val.answer_N
        )
    tokens = torch.from_numpy(val.tokens.astype(np.int64))
    batches, left = bpb.cut(len(tokens), model.context, BATCH_TOKENS)
    nats = []
    for start, sequences, size in [*batches, *left]:
        stop = start + sequences * size
        inputs, targets = (tokens[start + i : stop + i].view(sequences, size) for i in (0, 1))
        nats.append(model.score(inputs, targets)[0].cpu().double().flatten())
        progress(stop, len(tokens) - 1)
    bytes_N = bpb.bytes_of(val.tokens, val.token_bytes, val.answer_N)
    none, answers = torch.zeros((0, 0), dtype=torch.int64), val.answer_N is not None
    return bpb.Score(torch.cat(nats).numpy(), none, torch.zeros(0), bytes_N, answers)
