"""Bits per byte on WikiText's raw test split, as lm-evaluation-harness's task `wikitext` (version 2) counts them.

The text is cut into pages at top-level headings; each page is detokenized, encoded and scored in rolling windows of the model's
context, and the nats are divided by the bytes (or words) of the page *before* it was detokenized. Sources: lm_eval 0.4.13 for
rules, counts and metrics (`make referee` compares them with that package), the loading script of the task's data set,
EleutherAI/wikitext_document_level, for pages.

The 62 pages are 60 articles: two lines of a formula in "Constant k filter" look like top-level headings, and count as such.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.artifact import fetch
from harness.data.tokenizer import Tokenizer
from harness.errors import UserError
from harness.evaluate import rolling
from harness.evaluate.language_model import LanguageModel
from harness.evaluate.rolling import BATCH_TOKENS

PROTOCOL = "wikitext-lmeval"
NAME = "text/wiki.test.raw"
SHA256 = "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08"

_TOP_HEADING = re.compile(r"\s*= (?!=).*(?<!=) =\s*")  # one equals sign on each side, set apart by a space: " = Du Fu = "
_SPACES = re.compile(r"\s+")
_DEGREE = chr(176)
# The published rules, in their order, which matters. The first pattern has slashes that its authors meant as delimiters: it
# changes nothing in this text, and is here because the task has it.
_RULES: tuple[tuple[str | re.Pattern, str], ...] = (
    ("s '", "s'"),
    (re.compile(r"/' [0-9]/"), "/'[0-9]/"),
    *((f" @{sign}@ ", sign) for sign in "-,."),
    *((f" {sign} ", f"{sign} ") for sign in ":;.!?,"),
    *(
        (re.compile(rf"{re.escape(a)}\s*([^{re.escape(b)}]*?)\s*{re.escape(b)}"), rf"{a}\1{b}")
        for a, b in ("()", "[]", "{}", '""', "''")
    ),
    *((" ".join("=" * n), "=" * n) for n in (4, 3, 2)),
    (f" {_DEGREE} ", _DEGREE),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


@dataclass(frozen=True)
class WikiText:
    """What a model scored, P pages: nats fp64 (P,), and int64 (P,) tokens scored, bytes and words of the raw page."""

    nats_P: np.ndarray
    tokens_P: np.ndarray
    bytes_P: np.ndarray
    words_P: np.ndarray
    context: int

    @property
    def bits_per_byte(self) -> float:
        return self._nats_per(self.bytes_P) / math.log(2)

    @property
    def byte_perplexity(self) -> float:
        return math.exp(self._nats_per(self.bytes_P))

    @property
    def word_perplexity(self) -> float:
        """inf where a float cannot hold it: a model that knows nothing gives e**57."""
        nats = self._nats_per(self.words_P)
        return math.exp(nats) if nats < 709 else math.inf

    def _nats_per(self, unit_P: np.ndarray) -> float:
        return float(self.nats_P.sum()) / int(unit_P.sum())


@dataclass(frozen=True)
class Share:
    """What one rank scored, and what every rank counts alike."""

    scored: rolling.Scored
    tokens_P: np.ndarray
    bytes_P: np.ndarray
    words_P: np.ndarray


def raw_text() -> str:
    """Raises: UserError, naming SPEEDRUN_MIRROR, when the file is nowhere or has another hash."""
    try:
        return fetch(NAME, SHA256).read_bytes().decode()
    except UserError as error:
        raise UserError(f"WikiText's test split is not here: {error.problem}", error.remedy) from error


def pages(text: str) -> list[str]:
    """The text from each top-level heading to the line before the next. What stands before the first is dropped if blank.

    The newline between two pages belongs to neither.
    """
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if _TOP_HEADING.fullmatch(line):
            found.append([])
        found[-1].append(line)
    joined = ["\n".join(lines) for lines in found]
    return [*(page for page in joined[:-1] if page.strip()), joined[-1]]


def detokenize(page: str) -> str:
    """The page as a person would type it: WikiText's spaces around punctuation, and its @-@, taken back."""
    for pattern, replacement in _RULES:
        if isinstance(pattern, str):
            page = page.replace(pattern, replacement)
        else:
            page = pattern.sub(replacement, page)
    return page


def count_words(page: str) -> int:
    """Pieces between white space; the empty ones at either end count too, as they do in the task."""
    return len(_SPACES.split(page))


def share(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int, int], None] = lambda done, total: None,
    rank: int = 0,
    world: int = 1,
) -> Share:
    """This rank's part of the windows of `text`, which is `raw_text()` or a part of it; `merge` puts all parts together, with
    the bits of one rank."""
    raw = pages(text)
    tokens = [tokenizer.encode(detokenize(page)) for page in raw]
    return Share(
        rolling.share(model, tokens, tokenizer.end_of_text, batch_tokens, progress, rank, world),
        tokens_P=np.array([len(page) for page in tokens]),
        bytes_P=np.array([len(page.encode()) for page in raw]),
        words_P=np.array([count_words(page) for page in raw]),
    )


def merge(shares: Sequence[Share], context: int) -> WikiText:
    """Raises: UserError when the model's nats are not finite."""
    one = shares[0]
    nats_P = rolling.total([part.scored for part in shares], len(one.tokens_P))
    return WikiText(nats_P, one.tokens_P, one.bytes_P, one.words_P, context)
