"""What a model is asked: test instances of a task, or windows of a text whose latent variable is the class of each token.

Letters: B instances, S tokens of the longest, N and A places.
"""

import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.data.corpora import Val, load_val, wanted_by
from harness.data.draws import Draws
from harness.data.instances import NONE, Instance, drawn
from harness.errors import UserError
from harness.plan import parts
from harness.plan.schema import Plan

FORWARD_TOKENS = 8192  # of a forward pass
PROBED_TOKENS = 4096  # of a sample, whose streams are kept for probes
TEXT_TOKENS = 32_768  # of windows of a text
CLASSES = ("letter", "space", "digit", "punctuation", "other")


class Places(NamedTuple):
    """Tokens of a sample, row by row, in order."""

    row_N: np.ndarray
    place_N: np.ndarray

    def between(self, first: int, last: int) -> "Places":
        """Those in rows [first, last), as places of these rows alone."""
        inside = (self.row_N >= first) & (self.row_N < last)
        return Places(self.row_N[inside] - first, self.place_N[inside])

    def of(self, x_BS: Any) -> Any:
        """x of each."""
        return x_BS[self.row_N, self.place_N]

    def after(self, tokens: int) -> "Places":
        return Places(self.row_N, self.place_N + tokens)

    def evenly(self, tokens: int) -> "Places":
        """At most so many of them."""
        some = np.linspace(0, len(self.row_N) - 1, min(len(self.row_N), tokens)).round().astype(np.int64)
        return Places(self.row_N[some], self.place_N[some])


class Sample(NamedTuple):
    """One instance a row, from the row's first place on: behind its end there are tokens 0 that nobody asks about, and no
    token sees what comes later. `latent_BS` and `source_BS` as an `Instance` has them. `states`: names of the states of the
    latent variable, none of a task without."""

    name: str
    states: tuple[str, ...]
    token_BS: np.ndarray  # int64
    length_B: np.ndarray
    answer_BS: np.ndarray  # bool
    latent_BS: np.ndarray  # int64
    source_BS: np.ndarray  # int64

    @property
    def inside(self) -> Places:
        return Places(*np.nonzero(np.arange(self.token_BS.shape[1]) < self.length_B[:, None]))

    @property
    def probed(self) -> Places:
        """Tokens with a latent state."""
        return Places(*np.nonzero(self.latent_BS != NONE)).evenly(PROBED_TOKENS)

    @property
    def before_answers(self) -> Places:
        return Places(*np.nonzero(self.answer_BS)).after(-1)

    @property
    def before_sourced(self) -> Places:
        """The tokens before answers that one earlier token decides."""
        source_BS = np.where(self.answer_BS, self.source_BS, NONE)
        seen_BS = (source_BS != NONE) & (source_BS < np.arange(source_BS.shape[1]))
        return Places(*np.nonzero(seen_BS)).after(-1)

    def batches(self) -> Iterator[tuple[int, int]]:
        """[first, last) rows of each forward pass."""
        each = max(1, FORWARD_TOKENS // self.token_BS.shape[1])
        for first in range(0, len(self.token_BS), each):
            yield first, min(first + each, len(self.token_BS))

    def of_first(self, rows: int) -> "Sample":
        """Its first instances alone."""
        longest = int(self.length_B[:rows].max())
        cut = {name: getattr(self, name)[:rows, :longest] for name in ("token_BS", "answer_BS", "latent_BS", "source_BS")}
        return self._replace(length_B=self.length_B[:rows], **cut)


def samples_of(plan: Plan, instances: int, tokenizers: dict[str, Callable[[], Any]]) -> list[Sample]:
    """One a task of the plan; of a track of text one of its val. `tokenizers`: by the name that a track has.

    Raises:
        UserError: the data cannot be had, or an instance is longer than the model's sequences.
    """
    if plan.data.tasks:
        return [_of_task(plan, name, instances) for name in plan.data.tasks]
    return [_of_text(load_val(wanted_by(plan)), text_of(plan, tokenizers), plan.model.sequence_length, instances)]


def text_of(plan: Plan, tokenizers: dict[str, Callable[[], Any]]) -> Callable[[int], str]:
    """What says of a token's id what its text is, of a track of text."""
    tokens = plan.track.tokens
    decode = tokenizers[tokens.tokenizer]().decode if tokens.tokenizer else _byte
    return lambda token: decode([token])


def _of_task(plan: Plan, name: str, instances: int) -> Sample:
    """Instances of training's mix of difficulties, which may ask more each than those of a score; none of them was trained."""
    task = parts.part("task", name)(parts.keys_of(plan, "task", name))
    found = [drawn(task, Draws(0, "inspect", "instance", name, number), None, True) for number in range(instances)]
    longest = max(len(instance.token_N) for instance in found)
    if longest > plan.model.sequence_length:
        raise UserError(
            f"an instance of {name} has {longest} tokens, the model's sequences have {plan.model.sequence_length}",
            "inspect a run whose sequences hold its tasks",
        )
    return of_instances(name, tuple(map(str, range(task.latents))), found)


def of_instances(name: str, states: tuple[str, ...], found: Sequence[Instance]) -> Sample:
    """Padded to the longest."""
    length_B = np.array([len(instance.token_N) for instance in found])

    def rows(field: str, kind: type, padding: int) -> np.ndarray:
        made = np.full((len(found), length_B.max()), padding, kind)
        for row, instance in zip(made, found):
            row[: len(instance.token_N)] = getattr(instance, field)
        return made

    return Sample(
        name, states, rows("token_N", np.int64, 0), length_B, rows("answer_N", bool, 0), rows("latent_N", np.int64, NONE),
        rows("source_N", np.int64, NONE),
    )  # fmt: skip


def _of_text(val: Val, said: Callable[[int], str], length: int, instances: int) -> Sample:
    """Windows evenly spaced over val. Every token but a window's first is an answer."""
    length = min(length, len(val.tokens) // 2)
    windows = min(instances, max(2, TEXT_TOKENS // length))
    starts_B = np.linspace(0, len(val.tokens) - length, windows).astype(np.int64)
    token_BS = val.tokens[starts_B[:, None] + np.arange(length)].astype(np.int64)
    ids, place = np.unique(token_BS, return_inverse=True)
    class_V = np.array([token_class(said(int(token))) for token in ids])
    answer_BS = np.broadcast_to(np.arange(length) > 0, token_BS.shape).copy()
    latent_BS = class_V[place].reshape(token_BS.shape)
    return Sample(
        "text", CLASSES, token_BS, np.full(windows, length), answer_BS, latent_BS, np.full_like(token_BS, NONE)
    )  # fmt: skip


def _byte(token: list[int]) -> str:
    return bytes(token).decode("ascii", errors="replace")


def token_class(text: str) -> int:
    """The index in CLASSES, by the first character that is no blank."""
    first = text.strip()[:1]
    if not first:
        return CLASSES.index("space" if text else "other")
    if first.isalpha():
        return CLASSES.index("letter")
    return CLASSES.index("digit" if first.isdigit() else "punctuation" if first in string.punctuation else "other")
