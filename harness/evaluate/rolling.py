"""Nats of whole texts under a model with a finite context, as lm-evaluation-harness's rolling log-likelihood counts them.

Letters: B batch, S sequence, C the model's context, N texts. Every token of a text is scored exactly once. Windows of C targets
follow one another; the first begins with end-of-text, each later one with the last token of the window before it. The last
window of a long text is short in targets, not in input: it reaches back until its input holds C tokens. Windows are scored in
batches, each by one rank, and added up in order: the sums have the same bits whatever the number of ranks. Source:
`get_rolling_token_windows` and `make_disjoint_window` in lm_eval 0.4.13, with a context of one token.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from harness.errors import UserError
from harness.evaluate.language_model import LanguageModel

BATCH_TOKENS = 4096  # inputs a forward pass; sums of a run depend on it only through the model's own batch variance


class Window(NamedTuple):
    text: int  # which text it belongs to
    tokens: list[int]  # inputs and, one further on, targets: up to C + 1 tokens
    scored: int  # how many targets count, from the end


def windows(text: int, tokens: Sequence[int], context: int, end_of_text: int) -> Iterator[Window]:
    """The windows of one text, in order; none for an empty one."""
    return windows_after(text, [end_of_text], tokens, context)


def windows_after(text: int, before: Sequence[int], tokens: Sequence[int], context: int) -> Iterator[Window]:
    """The same where a text follows others, of which each window sees as much as its input holds. `before`: one or more."""
    stream, last = [*before, *tokens], len(before) - 1
    for start in range(0, len(tokens), context):
        stop = min(start + context, len(tokens))
        yield Window(text, stream[max(0, last + stop - context) : last + stop + 1], stop - start)


Scored = dict[int, list[tuple[int, float]]]  # number of a batch -> (text, nats in fp64) of each of its windows


def share(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    end_of_text: int,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int, int], None] = lambda done, total: None,
    rank: int = 0,
    world: int = 1,
) -> Scored:
    """Every `world`-th batch from number `rank` on. `progress(done, total)` counts the windows of this rank."""
    todo = [window for i, tokens in enumerate(texts) for window in windows(i, tokens, model.context, end_of_text)]
    rows = max(1, batch_tokens // model.context)
    batches = dict(list(enumerate(todo[first : first + rows] for first in range(0, len(todo), rows)))[rank::world])
    found: Scored = {}
    done, mine = 0, sum(map(len, batches.values()))
    for number, batch in batches.items():
        sums = _sums(model, batch, end_of_text)
        found[number] = [(window.text, nats) for window, nats in zip(batch, sums, strict=True)]
        done += len(batch)
        progress(done, mine)
    return found


def total(shares: Sequence[Scored], texts: int) -> np.ndarray:
    """fp64 (N,) from all ranks' shares. Raises: UserError when a sum is not finite (the fault of the model, not the text)."""
    scored = sorted(batch for found in shares for batch in found.items())
    assert [number for number, _ in scored] == list(range(len(scored))), "a batch is missing, or there twice"
    nats_N = np.zeros(texts)
    for _, batch in scored:
        for text, nats in batch:
            nats_N[text] += nats
    if not np.isfinite(nats_N).all():
        bad = int(np.flatnonzero(~np.isfinite(nats_N))[0])
        raise UserError(
            f"the model gives text {bad} {nats_N[bad]} nats", "its weights are damaged, or it overflows in this dtype"
        )
    return nats_N


def _sums(model: LanguageModel, batch: list[Window], filler: int) -> list[float]:
    """The scored nats of each window, added up in fp64. Shorter windows are filled at the end, where no input can see it."""
    length = max(len(window.tokens) for window in batch)
    token_BS = torch.tensor([window.tokens + [filler] * (length - len(window.tokens)) for window in batch])
    with torch.inference_mode():
        nats_BS, _ = model.score(token_BS[:, :-1], token_BS[:, 1:])
    nats_BS = nats_BS.cpu().double().numpy()
    ends = [len(window.tokens) - 1 for window in batch]
    return [float(nats_BS[row, end - window.scored : end].sum()) for row, (window, end) in enumerate(zip(batch, ends))]
