"""Scores a finished run's model, or one from the hub, on val and public test sets, beside published figures of each protocol.

usage: python -m harness evaluate RUN | hf:OWNER/NAME | hf:FOLDER [--val [TRACK]] [--answers] [--wikitext] [--core]
                                  [tasks=NAME,...] [--max-per-task N] [--out FILE.json]
       make evaluate RUN=runs/wiki-dense/1-0123abcd [OUT=scores.json] [SET=--wikitext]
       make evaluate RUN=runs/wiki-dense/1-0123abcd SET="tasks=arc_easy,lambada_openai"
       make evaluate RUN=hf:openai-community/gpt2 SET="--val wiki"

--val       nats per token and bits per byte of all of val of the run's track (both per answer of a track of tasks), in the
            windows that training scores it in (as long as the model's context); of TRACK where one is named, which a model of
            the hub needs
--answers   the tasks of the run's own track, one of tasks: whole answers, nats per answer and KL from exact distributions, on
            the same test instances for every run; --max-per-task scores the first N of each difficulty
--wikitext  bits per byte of WikiText's raw test split, exactly as lm-evaluation-harness's task `wikitext` counts them
--core      CORE: 22 tasks, accuracy centered on random baselines (v1, as published; v2 beside it), with a bootstrap interval;
            --max-per-task scores the first N examples of each task and calls the result partial: each with the shots that
            it has in the whole, drawn among all examples of its task. nanochat's --max-per-task scores the same examples,
            but draws their shots among these N, so that partial figures of the two are not comparable; whole ones are
tasks=      tasks of lm-evaluation-harness on a run, by name or as YAML files, with --max-per-task for its limit. They need
            the package lm-eval, and most need the hub. From Python: harness/launch/lm_eval_model.py
Without any of these words val, answers, WikiText and CORE are scored as far as this model can have them: the last two are read
with GPT-2's tokenizer, so that a model of bytes has val alone. Each has a protocol of its own, and figures of two never share a
table. A model of the hub needs the package transformers and is read from safetensors only. --out writes the scores with what
they were made of (sums of every page, every example right or wrong, data hashes, versions), and the figure of CORE or of tasks
beside it.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from harness.errors import UserError
from harness.launch.options import PATH, SWITCH, TEXT, Names, Word, Words, several, whole
from harness.launch.scores import NAMED, SCORES, Scored, Subject, refusal

TASKS = several(TEXT, "names of tasks, each once, in one list: tasks=arc_easy,lambada_openai")
WORDS = Words(
    "evaluate", Word("val", TEXT, alone=""), Word("answers", SWITCH, False), Word("wikitext", SWITCH, False),
    Word("core", SWITCH, False), Word("tasks", TASKS),
    Word("max-per-task", whole(1), says="1 example of each task or more"), Word("out", PATH),
    names=Names("run or hf: model", TEXT, 1, 1),
)  # fmt: skip
SUMMARY = "scores of a run's or a hub model's on val and public test sets, beside published ones"


def main(arguments: list[str]) -> int:
    words = WORDS.read(arguments)
    (name,) = words.names
    from harness.train.determinism import set_torch

    set_torch()
    subject = _hub_subject(name) if name.startswith("hf:") else _run_subject(Path(name))
    size = f"{subject.facts['parameters'] / 1e6:,.2f} M parameters, context {subject.model.context:,}"
    print(f"{subject.name}   {size}, {subject.facts['dtype']} on {subject.facts['device']}")
    found = {}
    for name in _wanted(subject, words):
        found[name] = SCORES[name](subject, words)
        print("\n".join(["", *PRINTED.get(name, _table)(found[name])]))
        if name == "core":
            print("\n".join(["", *_tasks(found[name])]))
    if words.out:
        _write(words.out, subject, found)
        for name in found.keys() & DRAWN:
            print(f"figure: {DRAWN[name](subject, found[name], words.out.with_suffix('.png'))}")
    return 0


def _wanted(subject: Subject, words: SimpleNamespace) -> list[str]:
    """The scores asked for, else those that can be had; what is left out is said. Raises: UserError for one that cannot."""
    asked = [name for name in SCORES if getattr(words, name) not in (None, False)]
    wanted = asked or [name for name in SCORES if name not in NAMED]
    refused = {name: error for name in wanted if (error := refusal(name, subject, words))}
    for name, error in refused.items():
        if asked:
            raise error
        print(f"  left out: {name}, for {error.problem}")
    return [name for name in wanted if name not in refused]


def _hub_subject(word: str) -> Subject:
    import torch

    from harness.data.tokenizer import gpt2
    from harness.evaluate.hub_model import PREFIX, load_hub_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_hub_model(word.removeprefix(PREFIX), gpt2(), device)
    facts = {
        "parameters": model.parameters,
        "revision": model.revision,
        "weights": model.weights,
        "transformers": version("transformers"),
    }
    return Subject(word, model, gpt2(), {"device": device, "dtype": "float32", **facts})


def _run_subject(run: Path) -> Subject:
    import torch

    from harness.data.tokenizer import GPT2_VOCAB_SIZE, gpt2
    from harness.evaluate.own_model import OwnModel
    from harness.launch.run_model import load_run_model
    from harness.plan.stored import read_plan
    from harness.record.read import read_record

    record, plan = read_record(run), read_plan(run / "plan.yaml")
    tokenizer = gpt2() if plan.model.vocab_size >= GPT2_VOCAB_SIZE and not plan.track.of_tasks else None
    recorded = None if record.metrics.partial else record.metrics.val_bpb
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_run_model(run).to(device)
    facts = {"parameters": record.counts.params_total, "plan_hash": record.plan_hash, "seed": record.seed}
    facts["weights"] = {"weights.safetensors": record.artifacts["weights.safetensors"].sha256}
    return Subject(str(run), OwnModel(model), tokenizer, {"device": device, "dtype": "float32", **facts}, plan, recorded)


def _table(scored: Scored) -> list[str]:
    """The score and, below it, the anchors of its protocol; what an anchor does not state is '-'."""
    from harness.report.anchors import anchors_for, read_anchors, the_protocol

    metric = next(iter(scored.figures))
    heads = [scored.called.get(name, name.replace("_", " ")) for name in scored.figures]
    rows = [(scored.protocol, heads, "")]
    rows.append(("this model", [_number(value) for value in scored.figures.values()], scored.remark))
    if scored.protocol in read_anchors().protocols and (anchors := anchors_for(scored.protocol, metric)):
        assert the_protocol(anchors) == scored.protocol
        for anchor in sorted(anchors, key=lambda anchor: anchor.value):
            others = [getattr(anchor, name, None) for name in list(scored.figures)[1:]]
            cells = ["-" if value is None else _number(value) for value in (anchor.value, *others)]
            rows.append((anchor.id, cells, f"{anchor.kind}: {anchor.source}"))
    first = max(len(name) for name, _, _ in rows)
    widths = [max(len(cells[i]) for _, cells, _ in rows) for i in range(len(scored.figures))]
    lines = (f"  {name:<{first}}  {'  '.join(map(str.rjust, cells, widths))}   {note}" for name, cells, note in rows)
    return [line.rstrip() for line in lines]


def _figures(scored: Scored) -> list[str]:
    """A line for each figure, where they are of many kinds."""
    first = max(map(len, scored.figures), default=0)
    lines = [f"  {name:<{first}}  {_number(value)}" for name, value in scored.figures.items()]
    return [f"  {scored.protocol}   {scored.remark}", *lines]


def _tasks(scored: Scored) -> list[str]:
    """CORE task by task."""
    lines = [f"  {'task':<33}{'n':>7}{'right':>7}{'accuracy':>10}{'centered':>10}   95% interval   (baselines v1)"]
    for row in scored.evidence["tasks"]:
        low, high = row["interval"]
        counts = f"{row['n']:>7,}{row['correct']:>7,}{row['accuracy']:>10.4f}{row['centered_v1']:>10.4f}"
        lines.append(f"  {row['label']:<33}{counts}   {low:.3f} to {high:.3f}")
    return lines


def _answers(scored: Scored) -> list[str]:
    """Every task at every difficulty."""
    from harness.record.evaluations import Evaluation
    from harness.report.task_scores import table

    return [f"  {scored.protocol}   {scored.remark}", *table(Evaluation(**scored.evidence))]


def _core_figure(subject: Subject, scored: Scored, path: Path) -> Path:
    from harness.record.evaluations import Evaluation
    from harness.report.run.core import draw_core, published

    return draw_core([(subject.name, Evaluation(**scored.evidence))], published(), path)


def _answers_figure(subject: Subject, scored: Scored, path: Path) -> Path:
    from harness.record.evaluations import Evaluation
    from harness.report.run.tasks import draw_tasks

    return draw_tasks([(subject.name, Evaluation(**scored.evidence))], path)


PRINTED = {"tasks": _figures, "answers": _answers}  # others are tables with their anchors
DRAWN = {"core": _core_figure, "answers": _answers_figure}  # no model has both


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 1000 else f"{value:,.0f}" if value < 1e9 else f"{value:.3g}"


def _write(path: Path, subject: Subject, found: dict[str, Scored]) -> None:
    from harness.files import replace_atomically
    from harness.record.provenance import provenance

    scores = {}
    for name, one in found.items():
        figures = {metric: value if math.isfinite(value) else None for metric, value in one.figures.items()}
        scores[name] = {"protocol": one.protocol, **figures, **one.evidence}
    reads = subject.plan.track.tokens.tokenizer if subject.plan else ""
    tokenizer = subject.tokenizer.hash if subject.tokenizer else reads or "bytes"
    model = {"name": subject.name, "tokenizer": tokenizer, **subject.facts}
    content = json.dumps({"model": model, "scores": scores, "provenance": provenance(()).content()}, indent=1)
    try:
        replace_atomically(path, [content.encode(), b"\n"])
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}", "name another file with --out") from error
    print(f"\nwritten to {path}")
