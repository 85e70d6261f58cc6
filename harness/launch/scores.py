"""The scores that `evaluate` knows, as figures to print: each a function from what is scored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError
from harness.plan.lanes import read_track
from harness.plan.schema import Plan
from harness.plan.track import TASKS

if TYPE_CHECKING:
    from harness.data.corpora import Wanted
    from harness.data.tokenizer import Tokenizer
    from harness.evaluate.language_model import LanguageModel


@dataclass(frozen=True)
class Subject:
    """What is scored; `facts` (JSON data) say which model it was. `tokenizer`: GPT-2's, or None for a model of bytes. Of a run:
    its `plan`, and `recorded`, the val_bpb of its record where that is of all of val."""

    name: str
    model: "LanguageModel"
    tokenizer: "Tokenizer | None"
    facts: dict[str, Any]
    plan: Plan | None = None
    recorded: float | None = None


class Scored(NamedTuple):
    """`figures`: metric -> value, the first the metric of the anchors beside it. `evidence` (JSON data): what they rest on."""

    protocol: str
    figures: dict[str, float]
    remark: str
    evidence: dict[str, Any]
    called: Mapping[str, str] = MappingProxyType({})  # figures that people know by another name than the metric's


def val_score(subject: Subject, words: SimpleNamespace) -> Scored:
    """Val of the run's own track, or of the one that `words.val` names."""
    from harness.data.corpora import load_val
    from harness.evaluate.val import val_result
    from harness.progress import Progress

    wanted, line = _wanted(subject, words.val), Progress()
    track = wanted.track
    val = load_val(wanted, line.say)
    said = f"{track.unit} of val"
    found = val_result(subject.model, track, wanted.data, val, lambda done, total: line.count(said, done, total))
    figures = {name: found.pop(name) for name in list(found) if name in ("val_bpb", "val_loss")}
    amount = "answers, one counts as a byte" if track.of_tasks else f"{found['bytes']:,} bytes"
    remark = f"{found['targets']:,} targets of track {track.name}, {amount}, context {found['context']:,}"
    if subject.recorded is not None and track is subject.plan.track:
        found["recorded_val_bpb"] = subject.recorded
        remark += f"; its record says {subject.recorded:.4f} {track.shortly} ({subject.plan.precision.format})"
    return Scored(found.pop("protocol"), figures, remark, found, {"val_bpb": f"val {track.shortly}"})


def _wanted(subject: Subject, named: str | None) -> "Wanted":
    """The named track, else the subject's own with the files or tasks that its plan names. Raises: UserError where it cannot be
    read."""
    from harness.data.corpora import Wanted, wanted_by

    plan = subject.plan
    if plan and named in (None, "", plan.track.name):
        return wanted_by(plan)
    if not named:
        raise UserError(f"{subject.name} has no track whose val could be scored", "name one: --val wiki")
    track, reads = read_track(named), plan.track.tokens.tokenizer if plan else "gpt2"
    if track.tokens.tokenizer != reads:
        raise UserError(
            f"track {named} is of {_kind(track.tokens.tokenizer)}, {subject.name} reads {_kind(reads)}",
            "name a track of the same kind with --val",
        )
    if track.of_tasks:
        raise UserError(
            f"{subject.name} is of another track of tasks, {plan.track.name}", "--val alone scores it on its own tasks"
        )
    return Wanted(track)


def _kind(tokenizer: str) -> str:
    return {"": "bytes", TASKS: "tasks"}.get(tokenizer, f"tokens of {tokenizer}")


def refusal(name: str, subject: Subject, words: SimpleNamespace) -> UserError | None:
    """Why this score cannot be had of this subject, whatever data are here; None where it can."""
    if name == "tasks":
        return _no_tasks(subject)
    if name == "answers":
        return _no_answers(subject)
    if name != "val":
        return None if subject.tokenizer else _of_bytes(subject)
    try:
        _wanted(subject, words.val)
    except UserError as error:
        return error
    return None


def _of_bytes(subject: Subject) -> UserError:
    from harness.data.tokenizer import GPT2_VOCAB_SIZE

    return UserError(
        f"{subject.name} has a vocabulary of {subject.model.vocab_size:,} (track {subject.plan.track.name}); this score is "
        f"read with GPT-2's tokenizer, whose vocabulary is {GPT2_VOCAB_SIZE:,}",
        "name a run of a track with GPT-2's tokens; --val scores this one on its own track",
    )


def _no_tasks(subject: Subject) -> UserError | None:
    if subject.plan is None:
        return UserError(
            f"{subject.name} is no run: lm-evaluation-harness reads models of the hub itself",
            "lm_eval --model hf --model_args pretrained=OWNER/NAME --tasks NAME",
        )
    try:
        from harness.launch.run_model import refuse_without_text

        refuse_without_text(subject.name, subject.plan)
        import harness.launch.lm_eval_model  # noqa: F401
    except UserError as error:
        return error
    return None


def _no_answers(subject: Subject) -> UserError | None:
    if subject.plan and subject.plan.track.of_tasks:
        return None
    why = f"is of track {subject.plan.track.name}, which has no tasks" if subject.plan else "is no run, and has no tasks"
    return UserError(f"{subject.name} {why}", "name a run of a track of tasks: `make lanes` lists them")


def wikitext_score(subject: Subject, words: SimpleNamespace) -> Scored:
    from harness.evaluate.public import wikitext_result
    from harness.progress import Progress
    from harness.ranks import Ranks

    found = wikitext_result(subject.model, subject.tokenizer, Progress().count, Ranks(0, 1))
    figures = {name: found.pop(name) for name in ("bits_per_byte", "word_perplexity", "byte_perplexity")}
    remark = f"{found['tokens']:,} tokens, {found['bytes']:,} bytes, {len(found['pages'])} pages"
    return Scored(found.pop("protocol"), figures, remark, found)


def core_score(subject: Subject, words: SimpleNamespace) -> Scored:
    """CORE with baselines v1 (as published figures have it), v2 beside it; `words.max_per_task` makes it partial."""
    from harness.evaluate.public import core_result
    from harness.progress import Progress
    from harness.ranks import Ranks

    found = core_result(subject.model, subject.tokenizer, Progress().count, Ranks(0, 1), words.max_per_task)
    low, high = found["interval_v1"]
    remark = f"{found['examples']:,} examples of {len(found['tasks'])} tasks, 95% bootstrap interval {low:.4f} to {high:.4f}"
    if found["partial"]:
        remark += f"; {found['partial']}"
    return Scored(found.pop("protocol"), {"core": found["core_v1"], "core, baselines v2": found["core_v2"]}, remark, found)


def answers_score(subject: Subject, words: SimpleNamespace) -> Scored:
    """The tasks of the run's own track, as at its end; `words.max_per_task` instances of each difficulty make it partial."""
    from harness.evaluate.public import tasks_result
    from harness.evaluate.tasks import INSTANCES
    from harness.progress import Progress
    from harness.ranks import Ranks
    from harness.record.evaluations import Evaluation
    from harness.report.task_scores import figures

    instances = words.max_per_task and min(words.max_per_task, INSTANCES)
    found = tasks_result(subject.model, subject.plan, Progress().count, Ranks(0, 1), instances)
    remark = f"{found['examples']:,} instances of {len(found['right'])} tasks, context {found['context']:,}"
    if found["partial"]:
        remark += f"; {found['partial']}"
    return Scored(found["protocol"], figures(Evaluation(**found)), remark, found)


def tasks_score(subject: Subject, words: SimpleNamespace) -> Scored:
    """Tasks of lm-evaluation-harness, by name or as YAML files; `words.max_per_task` is its limit, and makes them partial."""
    from harness.evaluate.requests import coding
    from harness.launch.lm_eval_model import RequestsLM, evaluated

    code = coding(subject.plan.track.tokens.tokenizer)
    found = evaluated(RequestsLM(subject.model, code, subject.facts), words.tasks, words.max_per_task)
    figures = {
        f"{task} {metric}": value
        for task, values in found["results"].items()
        for metric, value in values.items()
        if isinstance(value, float) and "_stderr" not in metric
    }
    limit = f", the first {words.max_per_task} examples of each" if words.max_per_task else ""
    return Scored(f"lm-eval-{found['version']}", figures, f"of lm-evaluation-harness{limit}", found)


SCORES: dict[str, Callable[[Subject, SimpleNamespace], Scored]] = {
    "val": val_score, "answers": answers_score, "wikitext": wikitext_score, "core": core_score, "tasks": tasks_score,
}  # fmt: skip
NAMED = ("tasks",)  # scored only where they are asked for
