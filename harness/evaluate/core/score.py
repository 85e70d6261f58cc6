"""CORE against a `LanguageModel`, the fast way: shared prefixes, batches of like lengths, spread over ranks.

Examples are cut into chunks of `CHUNK`, in published order; a chunk is scored by one rank, and its batches depend on nothing
outside it. So an answer has the same bits whatever the number of ranks, and every example is scored exactly once.
`plain.py` does the same one option at a time and is the oracle.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch

from harness.data.tokenizer import Tokenizer
from harness.errors import UserError
from harness.evaluate.core.ahead import ahead
from harness.evaluate.core.packing import Batch, Row, batches, rows
from harness.evaluate.core.prompts import choice, item
from harness.evaluate.core.tasks import Task
from harness.evaluate.language_model import LanguageModel

CHUNK = 128  # examples: enough of like length to fill batches, few enough to spread over ranks
TOKEN_BUDGET = 16_384  # per batch: 16 full rows of 1,024; their visibility is 16 MiB


@dataclass(frozen=True)
class Chunk:
    """Examples [start, stop) of task number `task`."""

    task: int
    start: int
    stop: int


@dataclass(frozen=True)
class Answer:
    """What a model makes of one example. `means`: mean nats over the scored tokens of each option, None where there are none;
    `correct`: the option of lowest mean is the right one or, in language modeling, every scored token is the argmax."""

    index: int  # in published order
    means: tuple[float | None, ...]
    choice: int
    correct: bool


def assigned(tasks: Sequence[Task], max_per_task: int | None, rank: int, world: int) -> list[Chunk]:
    """The chunks of rank `rank` of `world`: a pure function; all ranks together have every example once."""
    chunks = []
    for number, task in enumerate(tasks):
        total = task.count(max_per_task)
        chunks += [Chunk(number, start, min(start + CHUNK, total)) for start in range(0, total, CHUNK)]
    return chunks[rank::world]


def evaluate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    *,
    max_per_task: int | None = None,
    rank: int = 0,
    world: int = 1,
    token_budget: int = TOKEN_BUDGET,
    progress: Callable[[Chunk], None] = lambda chunk: None,
    known: Mapping[Chunk, list[Answer]] | None = None,
    keep: Callable[[Chunk, list[Answer]], None] = lambda chunk, answers: None,
) -> dict[str, list[Answer]]:
    """This rank's answers by task label; `merge` puts those of all ranks together. `progress` is told each finished chunk.
    `known`: answers of these very weights that are not asked for again; `keep` is given the others.

    Raises: UserError when the model does not read these tokens, or an example cannot be scored.
    """
    if model.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"the model knows {model.vocab_size:,} token ids, CORE's tokenizer {tokenizer.vocab_size:,}",
            "CORE is for models of GPT-2 tokens; byte tracks have none",
        )
    found: dict[str, list[Answer]] = {task.label: [] for task in tasks}
    chunks, known = assigned(tasks, max_per_task, rank, world), known or {}
    unknown = [chunk for chunk in chunks if chunk not in known]
    prepared = ahead(lambda chunk: _packed(model, tokenizer, tasks[chunk.task], range(chunk.start, chunk.stop)), unknown)
    with closing(prepared):
        for chunk in chunks:
            task = tasks[chunk.task]
            if chunk in known:
                answers = known[chunk]
            else:
                answers = _scored(
                    model, task, range(chunk.start, chunk.stop), next(prepared), tokenizer.end_of_text, token_budget
                )
                keep(chunk, answers)
            found[task.label] += answers
            progress(chunk)
    return found


def merge(
    parts: Iterable[dict[str, list[Answer]]], tasks: Sequence[Task], max_per_task: int | None = None
) -> dict[str, list[Answer]]:
    """All ranks' answers, each task's by index. Raises: UserError when an example is missing or there twice."""
    parts, merged = list(parts), {}
    for task in tasks:
        answers = sorted((a for part in parts for a in part[task.label]), key=lambda answer: answer.index)
        if [answer.index for answer in answers] != list(range(task.count(max_per_task))):
            raise UserError(
                f"{task.label}: {len(answers)} answers for {task.count(max_per_task)} examples, or one of them twice",
                "every rank must score the same tasks with the same max_per_task",
            )
        merged[task.label] = answers
    return merged


def score(
    model: LanguageModel, tokenizer: Tokenizer, task: Task, indices: Sequence[int], token_budget: int = TOKEN_BUDGET
) -> list[Answer]:
    """Answers to these examples, in order. The batches depend on these indices, so the last bits of the means do too."""
    return _scored(model, task, indices, _packed(model, tokenizer, task, indices), tokenizer.end_of_text, token_budget)


def _packed(model: LanguageModel, tokenizer: Tokenizer, task: Task, indices: Sequence[int]) -> list[Row]:
    return [row for index in indices for row in rows(index, item(task, index, tokenizer), model.context, model.packs)]


def _scored(
    model: LanguageModel, task: Task, indices: Sequence[int], packed: list[Row], padding: int, token_budget: int
) -> list[Answer]:
    sums: dict[int, dict[int, tuple[float, int, bool]]] = {index: {} for index in indices}
    for batch in batches(packed, token_budget, padding):
        for example, option, found in _spans(model, batch):
            sums[example][option] = found
    return [answer(task, index, [sums[index][i] for i in range(len(sums[index]))]) for index in indices]


def _spans(model: LanguageModel, batch: Batch) -> Iterable[tuple[int, int, tuple[float, int, bool]]]:
    """(example, option, (sum of nats in fp64, tokens, every one a hit)) of each option of a batch."""
    nats_BS, hit_BS = model.score(batch.input_BS, batch.target_BS, batch.position_BS, batch.visible_BSS)
    nats_BS, hit_BS = nats_BS.to("cpu", torch.float64), hit_BS.cpu()
    for row, nats_S, hit_S in zip(batch.rows, nats_BS, hit_BS):
        for option, first, stop in row.spans:
            yield row.example, option, (float(nats_S[first:stop].sum()), stop - first, bool(hit_S[first:stop].all()))


def answer(task: Task, index: int, options: Sequence[tuple[float, int, bool]]) -> Answer:
    """From each option's (sum of nats, tokens, every one a hit). Raises: UserError for nats that are not finite."""
    means = tuple(nats / tokens if tokens else None for nats, tokens, _ in options)
    if any(mean is not None and not abs(mean) < float("inf") for mean in means):
        raise UserError(f"{task.label}, example {index}: the model's nats are {means}", "a failed example is no zero: no CORE")
    chosen = choice(means)
    correct = options[0][2] if task.type == "language_modeling" else chosen == task.examples[index].gold
    return Answer(index, means, chosen, correct)
