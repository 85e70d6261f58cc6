"""Answers to single requests about text, as lm-evaluation-harness makes them of a model: how likely a continuation or a whole
text is, and what the model writes.

Every request is scored by itself, in windows of the model's context, so that an answer has the same bits whatever else is
asked, how much and in which order. Windows are those of `rolling.py`: where a context and its continuation are longer than the
model reads, what is furthest back is left out, as the package does.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch

from harness.data.tokenizer import TOKENIZERS
from harness.errors import UserError
from harness.evaluate import rolling
from harness.evaluate.language_model import LanguageModel
from harness.evaluate.writing import written
from harness.keyed import generator
from harness.model.transformer import Transformer

NEWLINE = 10
MOST_TOKENS = 256  # that are written where a task does not say, as in the package
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # a task's words for it, the first wins
ONLY_SAMPLING = ("top_p", "top_k", "min_p")  # say nothing where the likeliest token is taken


@dataclass(frozen=True)
class Coding:
    """`first`: the token that a text without a context follows. `last`: the one that ends a text, None where there is none."""

    name: str
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    vocab_size: int
    first: int
    last: int | None


def coding(tokenizer: str) -> Coding:
    """How texts of a track are written in tokens. `tokenizer`: the track's, "" of bytes, whose texts follow a newline as the
    documents of such tracks do."""
    if not tokenizer:
        return Coding(
            "bytes", lambda text: list(text.encode()), lambda ids: bytes(ids).decode(errors="replace"), 256, NEWLINE, None
        )
    known = TOKENIZERS[tokenizer]()
    return Coding(
        tokenizer, known.encode, lambda ids: known.decode(list(ids)), known.vocab_size, known.end_of_text, known.end_of_text
    )


def continuation(model: LanguageModel, before: Sequence[int], tokens: Sequence[int]) -> tuple[float, bool]:
    """(natural logarithm of the probability of `tokens` after `before`, whether each is the likeliest). `before`: one token or
    more.

    Raises:
        UserError: it is not finite.
    """
    nats, likeliest = 0.0, True
    for window in rolling.windows_after(0, before, tokens, model.context):
        token_1S = torch.tensor([window.tokens])
        with torch.inference_mode():
            nats_1S, hit_1S = model.score(token_1S[:, :-1], token_1S[:, 1:])
        nats += float(nats_1S[0, -window.scored :].cpu().double().sum())
        likeliest &= bool(hit_1S[0, -window.scored :].all())
    if not math.isfinite(nats):
        raise UserError(f"the model gives a continuation {nats} nats", "its weights are damaged, or it overflows in this dtype")
    return -nats, likeliest


def whole_text(model: LanguageModel, tokens: Sequence[int], first: int) -> float:
    """Natural logarithm of the probability of a text: the nats of `rolling`, of this text alone. Raises: UserError as there."""
    return -float(rolling.total([rolling.share(model, [tokens], first)], 1)[0])


def writes(model: Transformer, code: Coding, asked: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """What the model writes after each context, up to a stop sequence (which is cut off), the end of the text or the most
    tokens. Sampled answers are drawn by the context and by how often it was there before, and by nothing else.

    Raises:
        UserError: a task asks for another way of writing than taking the likeliest token or drawing one at a temperature.
    """
    seen: Counter[str] = Counter()
    for context, words in asked:
        temperature, most, stops = _how(words)
        draws: Iterable[float] = repeat(0.0, most)
        if temperature:
            draws = generator(1, "lm_eval", context, seen[context]).random(most)
        seen[context] += 1
        yield _until(model, code, context, draws, temperature, stops)


def _until(model: Transformer, code: Coding, context: str, draws: Iterable[float], temperature: float, stops: list[str]) -> str:
    prompt, tokens, text = code.encode(context) or [code.first], [], ""
    for token in written(model, prompt, draws, temperature, code.vocab_size):
        if token == code.last:
            break
        tokens.append(token)
        text = code.decode(tokens)
        if places := [place for stop in stops if (place := text.find(stop)) >= 0]:
            return text[: min(places)]
    return text


def _how(words: dict[str, Any]) -> tuple[float, int, list[str]]:
    """(temperature, most tokens, stop sequences) of what a task says."""
    words = dict(words)
    lengths = [value for name in LENGTHS if (value := words.pop(name, None)) is not None]
    until, sample, temperature = words.pop("until", None), words.pop("do_sample", None), words.pop("temperature", None)
    if sample is None:
        sample = bool(temperature)
    plain = {"num_beams": 1, "repetition_penalty": 1.0, "num_return_sequences": 1}
    odd = [name for name, value in words.items() if plain.get(name) != value and (sample or name not in ONLY_SAMPLING)]
    if odd:
        raise UserError(
            f"a task wants text written with {odd[0]}={words[odd[0]]!r}, which is not known here",
            "give simple_evaluate gen_kwargs without it: do_sample=False takes the likeliest token",
        )
    stops = [until] if isinstance(until, str) else list(until or [])
    heat = (1.0 if temperature is None else float(temperature)) if sample else 0.0
    return heat, int(lengths[0]) if lengths else MOST_TOKENS, [stop for stop in stops if stop]
