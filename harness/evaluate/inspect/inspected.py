"""All that `inspect` finds, as JSON data: flat rows, a list a question.

Letters: B instances, S tokens, L MoE layers, K top-k, D depths, N tokens, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import NONE
from harness.errors import UserError
from harness.evaluate.inspect.ablation import MOST_SILENCED, ablation, to_silence
from harness.evaluate.inspect.cka import TOKENS, cka
from harness.evaluate.inspect.lens import lens
from harness.evaluate.inspect.looks import looks
from harness.evaluate.inspect.probes import probes
from harness.evaluate.inspect.routes import choices, told
from harness.evaluate.inspect.sample import Sample
from harness.evaluate.inspect.seen import Seen, look
from harness.evaluate.inspect.specialists import specialists, told_of_each
from harness.model.build import build_model
from harness.model.init import initialize
from harness.model.transformer import Transformer
from harness.plan.schema import Plan

TASK_OF_A_TOKEN = "task-of-a-token"  # what is told of the task beyond what the token's id tells
DENSE = "the run is dense: it has no experts to ask about"


def untrained(plan: Plan) -> Transformer:
    """A model of the plan with the first weights of its seed, on the CPU; outputs that would start at zero are drawn, so that
    it mixes tokens as any model does."""
    model = build_model(plan, "full")
    initialize(model, replace(plan.init, zero_output=False), plan.seed)
    return model.eval()


def inspected(
    model: Transformer, blank: Transformer, samples: Sequence[Sample], against: Transformer | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """`blank`: the untrained model of the same plan; `against`: another one that reads the same tokens.

    Raises:
        UserError: a model's streams or losses are not finite.
    """
    say("reading the streams")
    spread = max(8, TOKENS // len(samples))
    seen = [_finite(look(model, sample, spread), sample) for sample in samples]
    depths, heads, layers = len(model.blocks) + 1, model.shape.heads, len(model.blocks)
    found: dict[str, Any] = {
        "model": {
            "layers": layers, "width": model.shape.width, "vocabulary": model.shape.vocab_size,
            "attentions": model.shape.attentions, "moe_layers": model.moe_layers, "experts": model.shape.num_experts,
            "top_k": model.shape.top_k,
        },
        "tasks": [_facts(sample) for sample in samples],
        "lens": [row for one, what in zip(samples, seen) for row in lens(one, what, depths * len(samples))],
        "looks": [row for one, what in zip(samples, seen) for row in looks(one, what, heads * layers * len(samples))],
        "no_weights_to_read": _unread(model, samples, seen),
    }  # fmt: skip
    say("fitting probes")
    asked = [sample for sample in samples if sample.states]
    found["probes"] = [
        row
        for sample, what in zip(samples, seen)
        if sample.states
        for row in probes(sample, what, look(blank, sample, 0), depths * len(asked))
    ]
    own = _together(seen)
    found["cka"] = {"tokens": len(own[0]), "own": cka(own, own), "against": None}
    if against is not None:
        other = [_finite(look(against, sample, spread), sample) for sample in samples]
        found["cka"]["against"] = cka(own, _together(other))
    if not model.moe_layers:
        none = dict.fromkeys(("routing", "choices", "task_routing", "specialists", "ablation"))
        return found | none | {"why_no_routing": DENSE}
    say("counting routes")
    found |= _routing(model, samples, seen) | _of_tasks(model, samples, seen) | {"why_no_routing": None}
    say("silencing experts")
    wanted = to_silence(model, seen)
    found["ablation"] = {
        "rows": ablation(model, samples, wanted),
        "left_out": "" if all(len(experts) == model.shape.num_experts for experts in wanted.values())
        else f"of each layer the experts that are chosen most: {MOST_SILENCED} of all at most",
    }  # fmt: skip
    return found


def _finite(seen: Seen, sample: Sample) -> Seen:
    if not (np.isfinite(seen.nats_DA).all() and np.isfinite(seen.spread_DMW).all()):
        raise UserError(f"the model's numbers for {sample.name} are not finite", "its weights are damaged: train it again")
    return seen


def _facts(sample: Sample) -> dict[str, Any]:
    return {
        "task": sample.name, "instances": len(sample.token_BS), "tokens": int(sample.length_B.sum()),
        "answers": int(sample.answer_BS.sum()), "sourced": len(sample.before_sourced.row_N), "states": list(sample.states),
    }  # fmt: skip


def _unread(model: Transformer, samples: Sequence[Sample], seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """Layers whose attention has no weights to read."""
    asked = next((what for one, what in zip(samples, seen) if len(one.before_sourced.row_N)), None)
    if asked is None:
        return []
    return [
        {"layer": layer, "attention": name}
        for layer, (name, weight) in enumerate(zip(model.shape.attentions, asked.looked))
        if weight is None
    ]


def _together(seen: Sequence[Seen]) -> list[np.ndarray]:
    """By depth (N, W): tokens of all samples."""
    return [np.concatenate(parts) for parts in zip(*(one.spread_DMW for one in seen))]


def _routing(model: Transformer, samples: Sequence[Sample], seen: Sequence[Seen]) -> dict[str, Any]:
    """`routing`: information about the task, also where the token is known, and about the token, over all samples, and about
    the latent variable of each; `choices`: which expert for which state."""
    experts, layers = model.shape.num_experts, model.moe_layers
    having = [(sample, what) for sample, what in zip(samples, seen) if sample.states]
    token_BS = _padded([np.where(_everywhere(s, 0) == NONE, NONE, s.token_BS) for s in samples], NONE)
    whole: dict[str, tuple[np.ndarray, np.ndarray | None]] = {"token": (token_BS, None)}
    if len(samples) > 1:
        whole |= {"task": (_tasks(samples), None), TASK_OF_A_TOKEN: (_tasks(samples), token_BS)}
    among = len(layers) * (len(whole) + len(having))
    routing, chosen = [], []
    for place, layer in enumerate(layers):
        every_BSK = _padded([what.chosen_LBSK[place] for what in seen], 0)
        asked = [(of, None, every_BSK, *labels) for of, labels in whole.items()]
        asked += [("latent", sample.name, what.chosen_LBSK[place], sample.latent_BS, None) for sample, what in having]
        for of, task, expert_BSK, label_BS, given_BS in asked:
            draws = Draws(0, "inspect", "routing", of, task or "", layer)
            row = told(expert_BSK, label_BS, experts, draws, among, given_BS)
            if row is not None:
                routing.append({"of": of, "task": task, "layer": layer} | row)
        for sample, what in having:
            found = choices(what.chosen_LBSK[place], sample.latent_BS, experts, len(sample.states), len(layers) * len(having))
            chosen += [{"task": sample.name, "layer": layer} | row for row in found]
    return {"routing": routing, "choices": chosen}


def _of_tasks(model: Transformer, samples: Sequence[Sample], seen: Sequence[Seen]) -> dict[str, Any]:
    """`task_routing`: what the experts of each layer tell of each task; `specialists`: of each expert the task that it is for.
    Both None of a run that has one task."""
    if len(samples) < 2:
        return {"task_routing": None, "specialists": None}
    names, task_BS, layers = [sample.name for sample in samples], _tasks(samples), model.moe_layers
    told, experts = [], []
    for place, layer in enumerate(layers):
        asked = _padded([what.chosen_LBSK[place] for what in seen], 0), task_BS, model.shape.num_experts, names
        draws = Draws(0, "inspect", "tasks", layer)
        told += [{"layer": layer} | row for row in told_of_each(*asked, draws, len(layers) * len(names))]
        experts += [{"layer": layer} | row for row in specialists(*asked, len(layers))]
    return {"task_routing": told, "specialists": experts}


def _tasks(samples: Sequence[Sample]) -> np.ndarray:
    """(B, S) of all samples together: the number of its task at each token."""
    return _padded([_everywhere(sample, number) for number, sample in enumerate(samples)], NONE)


def _everywhere(sample: Sample, label: int) -> np.ndarray:
    """(B, S): the label at each token, NONE behind an instance's end."""
    return np.where(np.arange(sample.token_BS.shape[1]) < sample.length_B[:, None], label, NONE)


def _padded(parts: Sequence[np.ndarray], padding: int) -> np.ndarray:
    """(B, S, ...) of all samples together."""
    longest = max(part.shape[1] for part in parts)
    widths = [[(0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)] for part in parts]
    return np.concatenate([np.pad(part, width, constant_values=padding) for part, width in zip(parts, widths)])
