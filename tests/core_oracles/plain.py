"""CORE one option at a time: no sharing, no packing, no batches. Slow, short, and what `score.py` must agree with."""

from collections.abc import Sequence

import torch

from harness.data.tokenizer import Tokenizer
from harness.evaluate.core.prompts import item
from harness.evaluate.core.score import Answer, answer
from harness.evaluate.core.tasks import Task
from harness.evaluate.language_model import LanguageModel


def score(model: LanguageModel, tokenizer: Tokenizer, task: Task, indices: Sequence[int]) -> list[Answer]:
    """Answers to these examples, in order."""
    found = []
    for index in indices:
        example = item(task, index, tokenizer)
        options = [_option(model, tokens, start) for tokens, start in zip(example.options, example.starts)]
        found.append(answer(task, index, options))
    return found


def _option(model: LanguageModel, tokens: Sequence[int], start: int) -> tuple[float, int, bool]:
    """(sum of nats, tokens, every one a hit) over the last len(tokens) - start tokens, given the last `context` tokens."""
    scored = len(tokens) - start
    kept = torch.tensor([tokens[-model.context :]])
    nats_BS, hit_BS = model.score(kept[:, :-1], kept[:, 1:])
    nats_S, hit_S = nats_BS[0].double().cpu(), hit_BS[0].cpu()
    assert scored < kept.shape[1], "cropping must not reach the scored tokens"
    return float(nats_S[len(nats_S) - scored :].sum()), scored, bool(hit_S[len(hit_S) - scored :].all())
