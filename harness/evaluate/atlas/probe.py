"""The text that all receipts of a track are taken on: windows evenly spaced over its val, or test instances of its tasks.

Letters: B windows, S tokens of the longest, N tokens of all.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from harness.data.instances import NONE
from harness.evaluate.inspect.sample import CLASSES, Places, Sample, samples_of, text_of
from harness.plan.schema import Plan

INSTANCES, TOKENS = 384, 1 << 14  # of all tasks together; of text
LEAST_INSTANCES = 16  # of a task, or windows of text
PLACES = ("first", "second", "third", "later")  # of a token in its word


class Label(NamedTuple):
    """A name of each token, by number; NONE of a token without one."""

    states: tuple[str, ...]
    label_N: np.ndarray


class Probe(NamedTuple):
    """Tokens stand window by window, in order. `labels`: by what they are of."""

    token_BS: np.ndarray  # int64, 0 behind a window's end
    row_N: np.ndarray
    place_N: np.ndarray
    labels: dict[str, Label]

    @property
    def token_N(self) -> np.ndarray:
        return self.token_BS[self.row_N, self.place_N]

    @property
    def sha256(self) -> str:
        """It covers the tokens, each with its window."""
        return sha256_of(self.token_N, self.row_N)


def sha256_of(token_N: np.ndarray, row_N: np.ndarray) -> str:
    return hashlib.sha256(np.stack([token_N, row_N]).astype("<i8").tobytes()).hexdigest()


def probe_of(plan: Plan, tokenizers: dict[str, Callable[[], Any]], length: int = 0, part: int = 1) -> Probe:
    """`length`: tokens of a window of text at most, 0 for those of the model's sequences; `tokenizers` by the name that a track
    has; `part`: of so many parts of the text, windows for one.

    Raises:
        UserError: the data cannot be had, or an instance is longer than the model's sequences.
    """
    if length and not plan.data.tasks:
        plan = replace(plan, model=replace(plan.model, sequence_length=min(length, plan.model.sequence_length)))
    many = INSTANCES // len(plan.data.tasks) if plan.data.tasks else TOKENS // plan.model.sequence_length
    instances = max(LEAST_INSTANCES, many // part)
    samples = samples_of(plan, instances, tokenizers)
    longest = max(sample.token_BS.shape[1] for sample in samples)
    token_BS = np.concatenate([_wide(sample.token_BS, longest, 0) for sample in samples])
    inside = Places(*np.nonzero(np.concatenate([_wide(_inside(sample), longest, False) for sample in samples])))
    if plan.data.tasks:
        labels = _of_tasks(samples, longest, inside)
    else:
        (sample,) = samples
        labels = {
            "class": Label(CLASSES, inside.of(sample.latent_BS)),
            "place in word": Label(PLACES, inside.of(places_in_words(sample.token_BS, text_of(plan, tokenizers)))),
        }
    return Probe(token_BS, inside.row_N, inside.place_N, labels)


def places_in_words(token_BS: np.ndarray, said: Callable[[int], str]) -> np.ndarray:
    """(B, S): the index in PLACES of each token that is a part of a word, NONE of others. `said`: the text of a token; a word
    is made of tokens of letters and digits, and one that brings its own blank begins another."""
    ids, place = np.unique(token_BS, return_inverse=True)
    texts = [said(int(token)) for token in ids]
    is_part_V = np.array([text.strip().isalnum() for text in texts])
    begins_V = np.array([text != text.lstrip() for text in texts])
    part_BS, begins_BS = is_part_V[place].reshape(token_BS.shape), begins_V[place].reshape(token_BS.shape)
    found_BS = np.full(token_BS.shape, NONE, np.int64)
    before_B, known_B = np.full(len(token_BS), NONE), np.zeros(len(token_BS), bool)
    for at in range(token_BS.shape[1]):
        part_B, begins_B = part_BS[:, at], begins_BS[:, at]
        known_B = known_B | ~part_B | begins_B  # how far the word has come that a window begins in, nobody knows
        next_B = np.where(begins_B, 0, np.minimum(before_B + 1, len(PLACES) - 1))
        before_B = found_BS[:, at] = np.where(part_B & known_B, next_B, NONE)
    return found_BS


def _of_tasks(samples: list[Sample], longest: int, inside: Places) -> dict[str, Label]:
    """The task of each token, where there are several, and the latent state of those that have one."""
    labels, names = {}, tuple(sample.name for sample in samples)
    if len(names) > 1:
        task_BS = np.concatenate([np.full((len(each.token_BS), longest), at) for at, each in enumerate(samples)])
        labels["task"] = Label(names, inside.of(task_BS))
    for sample in samples:
        if sample.states:
            latents = [_wide(each.latent_BS if each is sample else np.full_like(each.latent_BS, NONE), longest, NONE)
                       for each in samples]  # fmt: skip
            labels[f"state of {sample.name}"] = Label(sample.states, inside.of(np.concatenate(latents)))
    return labels


def _inside(sample: Sample) -> np.ndarray:
    return np.arange(sample.token_BS.shape[1]) < sample.length_B[:, None]


def _wide(x_BS: np.ndarray, longest: int, padding: Any) -> np.ndarray:
    return np.pad(x_BS, [(0, 0), (0, longest - x_BS.shape[1])], constant_values=padding)
