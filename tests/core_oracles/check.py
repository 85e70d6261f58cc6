"""Compares the fast way with the plain one, example by example, on every task."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.data.tokenizer import Tokenizer
from harness.evaluate.core import score
from harness.evaluate.core.prompts import item
from harness.evaluate.core.score import CHUNK, Answer
from harness.evaluate.core.tasks import Task
from harness.evaluate.language_model import LanguageModel
from harness.evaluate.own_model import OwnModel
from harness.model.init import initialize
from harness.model.transformer import Transformer
from harness.plan.schema import Init, Model
from kernels import Arithmetic
from tests.core_oracles import plain
from tests.core_oracles.exact import ExactModel

# Mean nats of fp32 models: about 11, whose spacing is 1e-6; attention and products sum in another order when packed.
TOLERANCE = 2e-5


@dataclass
class Agreement:
    """`wrong`: examples whose answer differs though no two options lie within twice the tolerance; `tied`: those that do."""

    label: str
    n: int
    cropped: int
    correct: int
    largest: float  # difference of a mean
    wrong: list[int]
    tied: list[int]
    fast_s: float
    plain_s: float


def small_model(kind: str, context: int, vocab_size: int = 50_304, seed: int = 1) -> LanguageModel:
    """`exact`, or our own transformer of width 64 and 2 layers with random weights: `dense`, or `moe` with 8 experts, top-2."""
    if kind == "exact":
        return ExactModel(context, vocab_size)
    shape = Model(width=64, layers=2, heads=2, sequence_length=context, vocab_size=vocab_size, ffn_width=256)
    if kind == "moe":
        shape.num_experts, shape.expert_width, shape.top_k = 8, 64, 2
    model = Transformer(shape, Arithmetic.of("full"), "torch")
    initialize(model, Init(zero_output=False), seed)
    with torch.no_grad():  # a head that repeats what it reads: some tokens are hits, and options differ
        model.head.weight.copy_(model.embedding.T / 8)
    return OwnModel(model.eval())


def compare(model: LanguageModel, tokenizer: Tokenizer, task: Task, n: int) -> Agreement:
    """The first `n` examples of `task` both ways. An exact model must agree to the bit: its means are compared as they are."""
    indices = range(n)
    start = time.perf_counter()
    fast = [a for first in range(0, n, CHUNK) for a in score.score(model, tokenizer, task, indices[first : first + CHUNK])]
    middle = time.perf_counter()
    slow = plain.score(model, tokenizer, task, indices)
    end = time.perf_counter()
    differing = [a.index for a, b in zip(fast, slow) if (a.choice, a.correct) != (b.choice, b.correct)]
    tied = [i for i in differing if not isinstance(model, ExactModel) and _close(slow[i])]
    return Agreement(
        task.label, n, sum(any(len(o) > model.context for o in item(task, i, tokenizer).options) for i in indices),
        sum(a.correct for a in fast), _largest(fast, slow), [i for i in differing if i not in tied], tied,
        middle - start, end - middle,
    )  # fmt: skip


def _largest(fast: Sequence[Answer], slow: Sequence[Answer]) -> float:
    pairs = [pair for a, b in zip(fast, slow) for pair in zip(a.means, b.means, strict=True)]
    assert all((x is None) == (y is None) for x, y in pairs), "an option has scored tokens one way only"
    return max((abs(x - y) for x, y in pairs if x is not None), default=0.0)


def _close(answer: Answer) -> bool:
    """Whether the two lowest means are too near to call."""
    means = sorted(mean for mean in answer.means if mean is not None)
    return len(means) > 1 and means[1] - means[0] <= 2 * TOLERANCE
