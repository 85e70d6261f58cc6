"""The scores that `evaluate` knows: WikiText and CORE, each a function from what is scored to figures and their evidence."""

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
    from harness.evaluate import wikitext
    from harness.train.progress import Progress

    progress = Progress()
    found = wikitext.score_wikitext(
        subject.model,
        subject.tokenizer,
        wikitext.raw_text(),
        progress=lambda done, total: progress.count("windows", done, total),
    )
    figures = {name: getattr(found, name) for name in ("bits_per_byte", "word_perplexity", "byte_perplexity")}
    pages = [
        {"nats": float(nats), "tokens": int(tokens), "bytes": int(size), "words": int(words)}
        for nats, tokens, size, words in zip(found.nats_P, found.tokens_P, found.bytes_P, found.words_P)
    ]
    totals = {key: sum(page[key] for page in pages) for key in ("nats", "tokens", "bytes", "words")}
    evidence = {"context": found.context, "file": wikitext.NAME, "sha256": wikitext.SHA256, **totals, "pages": pages}
    remark = f"{totals['tokens']:,} tokens, {totals['bytes']:,} bytes, {len(pages)} pages"
    return Scored(wikitext.PROTOCOL, figures, remark, evidence)


def core_score(subject: Subject, words: Namespace) -> Scored:
    """CORE with baselines v1 (as published figures have it), v2 beside it; `words.max_per_task` makes it partial."""
    from harness.evaluate.core import result, score, tasks
    from harness.evaluate.core.bundle import SHA256
    from harness.train.progress import Progress

    everything, progress = tasks.load(), Progress()
    total = sum(task.count(words.max_per_task) for task in everything)
    done = 0

    def count(chunk) -> None:
        nonlocal done
        done += chunk.stop - chunk.start
        progress.count("examples", done, total)

    answers = score.evaluate(subject.model, subject.tokenizer, everything, max_per_task=words.max_per_task, progress=count)
    found = result.result(everything, answers, words.max_per_task)
    low, high = found["interval_v1"]
    remark = f"{total:,} examples of {len(everything)} tasks, 95% bootstrap interval {low:.4f} to {high:.4f}"
    if found["partial"]:
        remark += f"; {found['partial']}"
    figures = {"core": found["core_v1"], "core, baselines v2": found["core_v2"]}
    return Scored("core-v1", figures, remark, found | {"sha256": SHA256, "context": subject.model.context})


SCORES: dict[str, Callable[[Subject, Namespace], Scored]] = {"wikitext": wikitext_score, "core": core_score}
