"""The scores that `evaluate` knows, as figures to print: each a function from what is scored."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from harness.data.tokenizer import Tokenizer
    from harness.evaluate.language_model import LanguageModel


@dataclass(frozen=True)
class Subject:
    """What is scored; `facts` (JSON data) say which model it was."""

    name: str
    model: "LanguageModel"
    tokenizer: "Tokenizer"
    facts: dict[str, Any]


class Scored(NamedTuple):
    """`figures`: metric -> value, the first the metric of the anchors beside it. `evidence` (JSON data): what they rest on."""

    protocol: str
    figures: dict[str, float]
    remark: str
    evidence: dict[str, Any]


def wikitext_score(subject: Subject, words: Namespace) -> Scored:
    from harness.evaluate.public import wikitext_result
    from harness.train.parallel import Ranks
    from harness.train.progress import Progress

    found = wikitext_result(subject.model, subject.tokenizer, Progress().count, Ranks(0, 1))
    figures = {name: found.pop(name) for name in ("bits_per_byte", "word_perplexity", "byte_perplexity")}
    remark = f"{found['tokens']:,} tokens, {found['bytes']:,} bytes, {len(found['pages'])} pages"
    return Scored(found.pop("protocol"), figures, remark, found)


def core_score(subject: Subject, words: Namespace) -> Scored:
    """CORE with baselines v1 (as published figures have it), v2 beside it; `words.max_per_task` makes it partial."""
    from harness.evaluate.public import core_result
    from harness.train.parallel import Ranks
    from harness.train.progress import Progress

    found = core_result(subject.model, subject.tokenizer, Progress().count, Ranks(0, 1), words.max_per_task)
    low, high = found["interval_v1"]
    remark = f"{found['examples']:,} examples of {len(found['tasks'])} tasks, 95% bootstrap interval {low:.4f} to {high:.4f}"
    if found["partial"]:
        remark += f"; {found['partial']}"
    return Scored(found.pop("protocol"), {"core": found["core_v1"], "core, baselines v2": found["core_v2"]}, remark, found)


SCORES: dict[str, Callable[[Subject, Namespace], Scored]] = {"wikitext": wikitext_score, "core": core_score}
