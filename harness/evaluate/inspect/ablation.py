"""What each expert is worth to each task: what it says counts as zero, the router chooses as before, and the answers cost more.

The control of an expert is the mean over the other experts that were silenced in its layer: what losing any of them costs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from harness.evaluate.inspect.intervals import by_instance, mean
from harness.evaluate.inspect.sample import Sample
from harness.evaluate.inspect.seen import Seen, again, answers_of, nats_and_ranks, run, silenced
from harness.model.transformer import Transformer

TOKENS = 6144  # of all tasks together, that every silenced expert is tried on
LEAST_INSTANCES = 8
MOST_SILENCED = 128  # of all layers together


def to_silence(model: Transformer, seen: Sequence[Seen]) -> dict[int, list[int]]:
    """Experts by layer: all of them, or where they are too many those of each layer that are chosen most."""
    layers, experts = model.moe_layers, model.shape.num_experts
    each = max(2, min(experts, MOST_SILENCED // len(layers)))
    found = {}
    for place, layer in enumerate(layers):
        count_E = sum(np.bincount(one.chosen_LBSK[place].ravel(), minlength=experts) for one in seen)
        found[layer] = sorted(np.argsort(-count_E, kind="stable")[:each].tolist())
    return found


def ablation(model: Transformer, samples: Sequence[Sample], wanted: dict[int, list[int]]) -> list[dict[str, Any]]:
    """A row an expert and task: nats more per answer without it, of the first instances of each sample."""
    among, rows = len(samples) * sum(map(len, wanted.values())), []
    for sample in samples:
        each = TOKENS // len(samples) // max(1, int(sample.length_B.mean()))
        sample = sample.of_first(max(LEAST_INSTANCES, each))
        if len(sample.before_answers.row_N):
            rows += _of_sample(model, sample, wanted, among)
    return rows


def _of_sample(model: Transformer, sample: Sample, wanted: dict[int, list[int]], among: int) -> list[dict[str, Any]]:
    asked, answer_A, instances = sample.before_answers, answers_of(model, sample), len(sample.token_BS)
    count_B = np.bincount(asked.row_N, minlength=instances)
    before = run(model, sample.token_BS)
    with torch.no_grad():
        nats_A, _ = nats_and_ranks(model, asked.of(before.last_BSW), answer_A)
    rows = []
    for layer, experts in wanted.items():
        more = []
        for expert in experts:
            with silenced(model.blocks[layer].feedforward.router, expert):
                without_A, _ = nats_and_ranks(model, asked.of(again(model, before, layer)), answer_A)
            more.append(by_instance(asked.row_N, without_A - nats_A, instances))
        more_BE, count_BE = np.stack(more, 1), np.broadcast_to(count_B[:, None], (instances, len(experts)))
        others_BE = (more_BE.sum(1, keepdims=True) - more_BE) / max(len(experts) - 1, 1)
        found, beside = mean(more_BE, count_BE, among), mean(others_BE, count_BE, among)
        for place, expert in enumerate(experts):
            one, control = found.at(place), beside.at(place)
            rows.append({
                "task": sample.name, "layer": layer, "expert": expert, "instances": instances, "nats": one.value,
                "interval": [one.low, one.high], "control": [*control], "above": one.above(control),
            })  # fmt: skip
    return rows
