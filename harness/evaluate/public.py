"""Public test sets as JSON results with their evidence: what `evaluate` prints, and what a run scores once, at its end."""

from collections.abc import Callable
from typing import Any

from harness.data.tokenizer import Tokenizer
from harness.errors import UserError
from harness.evaluate import wikitext
from harness.evaluate.core import bundle, result, score, tasks
from harness.evaluate.language_model import LanguageModel

Count = Callable[[str, int, int], None]  # (what, done, total)


def fetch_all(names: list[str]) -> None:
    """Has the files of these sets here and checked, so that none is missing at a run's end. Errors: UserError."""
    if "wikitext" in names:
        wikitext.raw_text()
    if "core" in names:
        tasks.load()


def wikitext_result(model: LanguageModel, tokenizer: Tokenizer, count: Count) -> dict[str, Any]:
    """Figures of protocol `wikitext-lmeval`, their sums, and every page's."""
    found = wikitext.score_wikitext(
        model, tokenizer, wikitext.raw_text(), progress=lambda done, total: count("windows of WikiText", done, total)
    )
    pages = [
        {"nats": float(nats), "tokens": int(tokens), "bytes": int(size), "words": int(words)}
        for nats, tokens, size, words in zip(found.nats_P, found.tokens_P, found.bytes_P, found.words_P)
    ]
    figures = {name: getattr(found, name) for name in ("bits_per_byte", "word_perplexity", "byte_perplexity")}
    totals = {key: sum(page[key] for page in pages) for key in ("nats", "tokens", "bytes", "words")}
    facts = {"protocol": wikitext.PROTOCOL, "context": found.context, "file": wikitext.NAME, "sha256": wikitext.SHA256}
    return {**facts, **figures, **totals, "pages": pages}


def core_result(model: LanguageModel, tokenizer: Tokenizer, count: Count, max_per_task: int | None = None) -> dict[str, Any]:
    """`harness.evaluate.core.result.result`, with protocol, data hash and context."""
    everything = tasks.load()
    total = sum(task.count(max_per_task) for task in everything)
    done = 0

    def counted(chunk: score.Chunk) -> None:
        nonlocal done
        done += chunk.stop - chunk.start
        count("examples of CORE", done, total)

    answers = score.evaluate(model, tokenizer, everything, max_per_task=max_per_task, progress=counted)
    facts = {"protocol": "core-v1", "context": model.context, "sha256": bundle.SHA256, "examples": total}
    return {**facts, **result.result(everything, answers, max_per_task)}


def score_all(names: list[str], model: LanguageModel, tokenizer: Tokenizer, count: Count) -> dict[str, dict[str, Any]]:
    """{name: result} of the named sets, wikitext first; {"failed": why} for one that cannot be scored, so that a run which has
    trained for hours still gets its record."""
    found: dict[str, dict[str, Any]] = {}
    for name, scored in (("wikitext", wikitext_result), ("core", core_result)):
        if name in names:
            try:
                found[name] = scored(model, tokenizer, count)
            except UserError as error:
                found[name] = {"failed": error.problem}
    return found
