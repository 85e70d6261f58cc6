"""The scorer's own check: a model that knows nothing must score log2(V), 8 bits per byte for bytes.

It runs the scoring code of training and of the record (full batches, the last short window, the slice, the masked part), with
a model whose output projection is zero. A wrong count of bytes, a wrong logarithm, a skipped window all move it.
"""

import math

import numpy as np
import torch

from harness.evaluate.bpb import score
from harness.model.transformer import Transformer


def uniform_scores(
    model: Transformer, text_N: np.ndarray, batch_tokens: int, token_bytes_V: np.ndarray | None = None,
    answer_N: np.ndarray | None = None,
) -> dict[str, float]:  # fmt: skip
    """Bits per byte of a uniform model by each way of scoring. Zeroes the model's head: its weights are lost.

    Of a text of tokens (with their bytes), bits per token with bytes, so that every part has the same expected figure; of one
    of tasks bits per answer.
    """
    with torch.no_grad():
        model.head.weight.zero_()
    length = model.shape.sequence_length
    text_N = text_N[: batch_tokens + length + length // 2 + 1]  # a full batch, a window left over, half a window
    found = score(model, text_N, batch_tokens, token_bytes_V=token_bytes_V, answer_N=answer_N)
    if found.bytes_N is not None:
        found.bytes_N = (found.bytes_N > 0).astype(np.int64)
    mask_N = np.arange(len(text_N)) % 3 > 0
    masked = found.bpb_where(mask_N)
    assert masked is not None, "two thirds of the text are kept"
    return {"all": found.bpb(), "slice": found.bpb(2 * length), "masked": masked, "targets": float(len(found.nats_N)),
            "expected": math.log2(model.shape.vocab_size), "expected_targets": float(len(text_N) - 1)}  # fmt: skip
