"""What a model reads for an example, and which of its tokens are scored.

The published procedure (DCLM, as nanochat's `core_eval` runs it): shots are drawn by `random.Random(1234 + index)` among all
other examples of the task, joined with the item by blank lines, after one end-of-text token. Where only some examples are
scored (`max_per_task`) their shots stay what they are in the whole; nanochat's `base_eval` (at 92d63d4) shuffles as here,
cuts the list, and draws among what is left, which needs more examples than shots. What is scored:
- multiple_choice: what follows the longest token prefix that all options share;
- schema: the longest token suffix that all options share;
- language_modeling: what follows the tokens of the prompt without the continuation, stripped at both ends.
The spans are found in tokens, never in text, because tokens may reach over the seam.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

from harness.data.tokenizer import Tokenizer
from harness.errors import UserError
from harness.evaluate.core.tasks import Example, Task

SHOT_SEED = 1234
BLANK_LINE = "\n\n"


@dataclass(frozen=True)
class Item:
    """Token ids of every option from end-of-text on; `starts`: the first scored token of each, which is scored to its end."""

    options: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]


def shots(task: Task, index: int) -> list[Example]:
    """The solved examples before example `index`: drawn among all others, also when only some are evaluated."""
    drawn = random.Random(SHOT_SEED + index).sample(range(len(task.examples) - 1), task.shots)
    return [task.examples[i + (i >= index)] for i in drawn]  # the positions of a list that lacks `index`


def texts(task: Task, index: int) -> list[str]:
    """The prompt of each option, end-of-text not included."""
    solved = [_joined(task, *shot.options[shot.gold]) for shot in shots(task, index)]
    return [BLANK_LINE.join([*solved, _joined(task, *option)]) for option in task.examples[index].options]


def item(task: Task, index: int, tokenizer: Tokenizer) -> Item:
    """Raises: UserError when a language_modeling prompt does not begin with the tokens of its own start."""
    prompts = texts(task, index)
    options = tuple((tokenizer.end_of_text, *tokenizer.encode(prompt)) for prompt in prompts)
    if task.type == "schema":
        shared = len(commonprefix([option[::-1] for option in options]))
        return Item(options, tuple(len(option) - shared for option in options))
    if task.type == "multiple_choice":
        return Item(options, (len(commonprefix(options)),) * len(options))
    (option,), (prompt,) = options, prompts
    continuation = task.examples[index].options[0][1]
    before = (tokenizer.end_of_text, *tokenizer.encode(prompt[: len(prompt) - len(continuation)].strip()))
    if not len(before) < len(option) or option[: len(before)] != before:
        raise UserError(
            f"{task.label}, example {index}: the tokens of the prompt do not begin those of prompt and continuation",
            "it cannot be scored, so neither can CORE: check the tokenizer and the task file",
        )
    return Item(options, (len(before),))


def cropped(item: Item, context: int) -> Item:
    """Options longer than `context` keep their last `context` tokens. Raises: UserError when no token is left before a span."""
    cuts = [max(0, len(option) - context) for option in item.options]
    starts = tuple(start - cut for start, cut in zip(item.starts, cuts))
    if min(starts) < 1:
        raise UserError(
            f"{len(item.options[0]) - item.starts[0]} tokens are to be scored, and none of {context} is left before them",
            "take a model with a longer context",
        )
    return Item(tuple(option[cut:] for option, cut in zip(item.options, cuts)), starts)


def choice(means: Sequence[float | None]) -> int:
    """The option of lowest mean, the first on ties.

    A mean is None where nothing is scored, because the option's tokens begin every other option's. As published (where it is
    NaN, below which nothing is), such an option is chosen when it is the first one and never else.
    """
    best = 0
    for i, mean in enumerate(means):
        lowest = means[best]
        if mean is not None and lowest is not None and mean < lowest:
            best = i
    return best


def _joined(task: Task, context: str, continuation: str) -> str:
    return context + task.delimiter + continuation
