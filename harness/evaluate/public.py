"""Public test sets, and a track's tasks, as JSON results with their evidence: what `evaluate` prints, and what a run scores
once, at its end."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from harness.data.tokenizer import Tokenizer
from harness.errors import UserError
from harness.evaluate import tasks as task_scores
from harness.evaluate import wikitext
from harness.evaluate.core import bundle, result, score, tasks
from harness.evaluate.core.kept import kept as kept_of_core
from harness.evaluate.kept import Kept
from harness.evaluate.language_model import LanguageModel
from harness.evaluate.lockstep import AnotherFailed, InStep, Lockstep
from harness.evaluate.own_model import OwnModel
from harness.evaluate.task_lines import counted_lines, task_lines
from harness.plan.schema import Plan
from harness.ranks import Ranks

Count = Callable[[str, int, int], None]  # (what, done, total)
# What is cut off goes on; WikiText, a few hundred windows, begins anew.
KEPT: dict[str, Callable[[Path, str], Kept]] = {"core": kept_of_core, "tasks": task_scores.kept}


def fetch_all(plan: Plan, names: Sequence[str]) -> None:
    """Has the files of these sets here and checked, and what is counted of the plan's tasks, so that nothing is missing at the
    run's end. Raises: UserError."""
    if "wikitext" in names:
        wikitext.raw_text()
    if "core" in names:
        tasks.load()
    if "tasks" in names:
        counted_lines(plan)


def together(ranks: Ranks, work: Callable[[], Any], model: LanguageModel) -> list[Any]:
    """What `work` returns on each rank, on the first one; an empty list on the others. `model`: whose passes the work is.

    Raises: on the first rank the UserError of any; the others go on to what comes next, so that nobody waits for nobody.
    """
    try:
        with model.until_all_rest() if isinstance(model, InStep) else nullcontext():
            mine = work()
    except (UserError, AnotherFailed) as error:
        mine = error
    parts = ranks.gather(mine)
    for part in parts:
        if isinstance(part, UserError):
            raise part
    return parts


def wikitext_result(model: LanguageModel, tokenizer: Tokenizer, count: Count, ranks: Ranks) -> dict[str, Any]:
    """Figures of protocol `wikitext-lmeval`, their sums, and every page's; {} on other ranks than the first."""

    def share() -> wikitext.Share:
        return wikitext.share(
            model, tokenizer, wikitext.raw_text(), rank=ranks.rank, world=ranks.world,
            progress=lambda done, total: count("windows of WikiText", done, total),
        )  # fmt: skip

    parts = together(ranks, share, model)
    if not parts:
        return {}
    found = wikitext.merge(parts, model.context)
    pages = [
        {"nats": float(nats), "tokens": int(tokens), "bytes": int(size), "words": int(words)}
        for nats, tokens, size, words in zip(found.nats_P, found.tokens_P, found.bytes_P, found.words_P)
    ]
    figures = {name: getattr(found, name) for name in ("bits_per_byte", "word_perplexity", "byte_perplexity")}
    totals = {key: sum(page[key] for page in pages) for key in ("nats", "tokens", "bytes", "words")}
    facts = {"protocol": wikitext.PROTOCOL, "context": found.context, "file": wikitext.NAME, "sha256": wikitext.SHA256}
    return {**facts, **figures, **totals, "pages": pages}


def core_result(
    model: LanguageModel, tokenizer: Tokenizer, count: Count, ranks: Ranks, max_per_task: int | None = None,
    kept: Kept | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`harness.evaluate.core.result.result`, with protocol, data hash and context; {} on other ranks than the first."""
    everything: list[tasks.Task] = []

    def share() -> dict[str, list[score.Answer]]:
        everything.extend(tasks.load())
        return _answers(model, tokenizer, everything, count, ranks, max_per_task, kept)

    parts = together(ranks, share, model)
    if not parts:
        return {}
    answers = score.merge(parts, everything, max_per_task)
    facts = {"protocol": "core-v1", "context": model.context, "sha256": bundle.SHA256}
    facts["examples"] = sum(map(len, answers.values()))
    return {**facts, **result.result(everything, answers, max_per_task)}


def _answers(
    model: LanguageModel, tokenizer: Tokenizer, everything: list[tasks.Task], count: Count, ranks: Ranks,
    max_per_task: int | None, kept: Kept | None,
) -> dict[str, list[score.Answer]]:  # fmt: skip
    """This rank's, counted among them as they are found."""
    chunks = score.assigned(everything, max_per_task, ranks.rank, ranks.world)
    done, total = 0, sum(chunk.stop - chunk.start for chunk in chunks)

    def counted(chunk: score.Chunk) -> None:
        nonlocal done
        done += chunk.stop - chunk.start
        count("examples of CORE", done, total)

    return score.evaluate(
        model,
        tokenizer,
        everything,
        max_per_task=max_per_task,
        rank=ranks.rank,
        world=ranks.world,
        progress=counted,
        **_going_on(kept),
    )


def _going_on(kept: Kept | None) -> dict[str, Any]:
    return {"known": kept.found, "keep": kept.keep} if kept else {}


def tasks_result(
    model: OwnModel | InStep, plan: Plan, count: Count, ranks: Ranks, instances: int | None = None, kept: Kept | None = None
) -> dict[str, Any]:
    """`harness.evaluate.tasks.merge`, of all or so many instances of each difficulty, and beside it what `task_lines.py` has;
    {} on other ranks than the first."""
    test = task_scores.Test(task_scores.tasks_of(plan), model.context, instances or task_scores.INSTANCES)

    def share() -> task_scores.Answers:
        def counted(done: int, total: int) -> None:
            count("instances of tasks", done, total)

        return task_scores.share(model, test, counted, ranks.rank, ranks.world, **_going_on(kept))

    parts = together(ranks, share, model)
    if not parts:
        return {}
    known = counted_lines(plan)
    return task_scores.merge(parts, test) | {"task_lines": task_lines(known), "counted": known}


def score_all(
    names: Sequence[str], plan: Plan, model: OwnModel, tokenizer: Tokenizer | None, count: Count, ranks: Ranks,
    kept: Mapping[str, Kept] | None = None, lockstep: Lockstep | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """{name: result} of these sets of the plan's track, wikitext first; {"failed": why} for one that a rank cannot score, so
    that a run which has trained for hours still gets its record. Every rank scores its share, of equal weights; the first has
    the results, each with the bits of one rank alone, the others have {}. `tokenizer`: None on a track of no text. `kept`:
    where this rank's answers are kept meanwhile, by set. `lockstep`: in which ranks make their passes, None where each of them
    has all of the model."""
    kept, model = kept or {}, InStep(model, lockstep) if lockstep else model
    found: dict[str, dict[str, Any]] = {}
    for name, scored in (
        ("wikitext", partial(wikitext_result, model, tokenizer)),
        ("core", partial(core_result, model, tokenizer, kept=kept.get("core"))),
        ("tasks", partial(tasks_result, model, plan, kept=kept.get("tasks"))),
    ):
        if name in names:
            try:
                found[name] = scored(count, ranks)
            except UserError as error:
                found[name] = {"failed": error.problem}
    return found if ranks.rank == 0 else {}
