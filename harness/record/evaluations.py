"""What a record holds of the scores at a run's end: public test sets, and the tasks of its track."""

from typing import Annotated

from pydantic import Field

from harness import values as v


class CoreTask(v.Model):
    """A row of CORE's `tasks`; the interval is that of `centered_v1`."""

    label: v.Filled
    type: v.Text = v.absent()
    shots: v.Whole
    n: v.Count
    correct: v.Whole = v.absent()
    accuracy: v.Number = v.absent()
    baseline_v1: v.Number
    baseline_v2: v.Number = v.absent()
    centered_v1: v.Number
    centered_v2: v.Number = v.absent()
    interval: tuple[v.Number, v.Number]


class TaskScore(v.Model):
    """A task at one difficulty. An instance is right as a whole or not; nats, their error and what follows are per answer, that
    is per scored token, errors standard ones over instances."""

    task: v.Name
    difficulty: v.Whole
    trained: v.Flag  # whether training has this difficulty too
    n: v.Count  # instances
    questions: v.Count  # different ones among them
    right: v.Whole
    exact_match: v.Share
    interval: tuple[v.Share, v.Share]  # Wilson's, 95%
    answers: v.Count
    nats: v.Least0
    nats_error: v.Least0
    kl: v.Number = v.absent()  # this and below where exact distributions are known: from them to the model's
    kl_error: v.Least0 = v.absent()
    entropy: v.Least0 = v.absent()  # of the exact distributions: the fewest nats


class TaskLine(v.Model):
    """What is known of a task without a network: levels of one of a score's figures, by difficulty."""

    task: v.Name
    name: v.Filled
    measure: v.Name  # a field of TaskScore
    levels: dict[v.Index, v.Number]


class Evaluation(v.Model):
    """What a public test set or a track's tasks came to, or why it could not be scored. evaluations.json has every page and
    example besides; of that file only the hash is read."""

    failed: v.Filled = v.absent()
    protocol: v.Filled = v.absent()
    context: v.Count = v.absent()
    sha256: v.Hex = v.absent()
    file: v.Text = v.absent()  # from here WikiText, with the sums that its figures are ratios of
    bits_per_byte: v.Positive = v.absent()
    word_perplexity: v.Positive = v.absent()
    byte_perplexity: v.Positive = v.absent()
    nats: v.Positive = v.absent()
    tokens: v.Count = v.absent()
    bytes: v.Count = v.absent()
    words: v.Count = v.absent()
    examples: v.Count = v.absent()  # from here CORE
    core_v1: v.Number = v.absent()
    interval_v1: tuple[v.Number, v.Number] = v.absent()
    core_v2: v.Number = v.absent()
    interval_v2: tuple[v.Number, v.Number] = v.absent()
    partial: v.Text | None = None
    tasks: Annotated[list[CoreTask], Field(min_length=1)] = v.absent()
    scores: Annotated[list[TaskScore], Field(min_length=1)] = v.absent()  # from here the track's tasks
    task_lines: list[TaskLine] = v.absent()
    left_out: list[v.Filled] = v.absent()  # difficulties that the model cannot read


FIGURES = {
    "wikitext": ("protocol", "bits_per_byte"),
    "core": ("protocol", "core_v1", "interval_v1", "core_v2", "partial", "tasks"),
    "tasks": ("protocol", "sha256", "scores", "task_lines"),
}


def whole_or_failed(evaluations: dict[str, Evaluation]) -> dict[str, Evaluation]:
    """As they are; each has its figures, or says why not."""
    for name, found in evaluations.items():
        has = found.model_fields_set
        if "failed" not in has and (missing := [key for key in FIGURES.get(name, ()) if key not in has]):
            raise v.broken(f"{name}.{missing[0]} is missing")
    return evaluations
