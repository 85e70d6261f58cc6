"""A receipt: the arrays of every checkpoint by name, and the figures that rest on them.

Arrays, `STEP/LAYER/WHAT` of each checkpoint and MoE layer, step 0 the untrained model:

    expert    int16 (N, C)   candidates, best first: the K chosen, then the next one
    score     fp32  (N, C)   by which they were chosen, biases in it; of a router with scores
    said      fp32  (E,)     mean length of what the expert adds to the stream, over the tokens that chose it; 0 of none
    load      int32 (E,)     tokens that chose it
    together  int32 (E, E)   tokens that chose both; up to MOST_TOGETHER experts

and `probe/token`, `probe/window` and `probe/place` (N,). Margins are score[:, K-1] - score[:, K].

Letters: N tokens, E experts, K top-k, C candidates.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.evaluate.atlas import drift, settled
from harness.evaluate.atlas.probe import Probe
from harness.evaluate.atlas.seen import Layer, finite, seen
from harness.model.transformer import Transformer

MOST_TOGETHER = 512
SETTLED, TOLD, PAIRED, MOVED = 2, 2, 2, 8  # columns of a table that have an interval


def receipt(
    models: Iterable[Transformer], steps: list[int], probe: Probe, say: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, np.ndarray], dict[str, list[dict[str, Any]]]]:
    """(arrays, figures). `models`: one a step, in their order, which may be one object with other weights each time; the first
    is untrained.

    Raises:
        UserError: a model's numbers are not finite.
    """
    arrays = {
        "probe/token": probe.token_N.astype(np.int32), "probe/window": probe.row_N.astype(np.int32),
        "probe/place": probe.place_N.astype(np.int32),
    }  # fmt: skip
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in ("settled", "told", "beside", "behind", "drift")}
    first: tuple[int, list[Layer]] | None = None
    before: tuple[int, list[Layer]] | None = None
    for step, model in zip(steps, models, strict=True):
        say(f"step {step:,}: reading {len(probe.row_N):,} tokens")
        found = seen(model, probe)
        if not finite(found):
            raise UserError(f"the model's numbers at step {step:,} are not finite", "its weights are damaged: train it again")
        shape = model.shape
        for layer, one in zip(model.moe_layers, found):
            arrays |= {f"{step:06d}/{layer}/{name}": array for name, array in kept_of(one, shape.num_experts).items()}
        ends = step == steps[-1]
        _ask(figures, step, model, found, probe, len(steps), full=ends or step == 0)
        if before is not None and before[0]:
            _compare(figures, before, (step, found), model, probe, len(steps))
        if first is not None and ends and before is not None and first[0] != before[0]:
            _compare(figures, first, (step, found), model, probe, len(steps))
        if step and first is None:
            first = step, found
        before = step, found
    return arrays, figures


def kept_of(layer: Layer, experts: int) -> dict[str, np.ndarray]:
    """What a receipt keeps of a layer, by name."""
    k = layer.said_NK.shape[1]
    expert_NC, expert_NK = layer.expert_NC, layer.expert_NC[:, :k]
    load_E = torch.bincount(expert_NK.flatten(), minlength=experts)
    said_E = torch.zeros(experts, dtype=torch.float64)
    said_E.index_add_(0, expert_NK.flatten(), layer.said_NK.flatten().double())
    kept = {
        "expert": expert_NC.numpy().astype(np.int16), "load": load_E.numpy().astype(np.int32),
        "said": (said_E / load_E.clamp(min=1)).float().numpy(),
    }  # fmt: skip
    if layer.score_NC is not None:
        kept["score"] = layer.score_NC.float().numpy()
    if experts <= MOST_TOGETHER:
        has_NE = torch.zeros(len(expert_NK), experts).scatter_(1, expert_NK, 1.0)
        kept["together"] = (has_NE.T @ has_NE).numpy().astype(np.int32)
    return kept


def _ask(
    figures: dict[str, list[dict[str, Any]]], step: int, model: Transformer, found: list[Layer], probe: Probe, steps: int,
    full: bool,
) -> None:  # fmt: skip
    """`full`: also what the pairs and the labels are, which the ends of a run are asked alone."""
    experts, row_N, layers = model.shape.num_experts, probe.row_N, len(found)
    ends = 2 * layers  # rows of what the ends alone are asked
    for layer, one in zip(model.moe_layers, found):
        k = one.said_NK.shape[1]
        expert_NC, score_NC = one.expert_NC.numpy(), None if one.score_NC is None else one.score_NC.numpy()
        expert_NK, where = expert_NC[:, :k], {"step": step, "layer": layer}
        figures["settled"].append(
            where
            | {"margin": settled.margins(score_NC, row_N, k, SETTLED * steps * layers)}
            | settled.occupancy(expert_NK, row_N, experts, SETTLED * steps * layers)
        )
        if not full:
            continue
        figures["told"] += [
            where | row
            for row in settled.tells(
                expert_NK, probe.token_N, row_N, probe.place_N, probe.labels, experts, (step, layer),
                TOLD * ends * len(probe.labels), model.shape.vocab_size,
            )
        ]  # fmt: skip
        figures["beside"] += [where | row for row in settled.beside(expert_NK, row_N, experts, PAIRED * ends)]
        figures["behind"] += [where | row for row in settled.behind(expert_NC, row_N, experts, k, PAIRED * ends)]


def _compare(
    figures: dict[str, list[dict[str, Any]]], before: tuple[int, list[Layer]], after: tuple[int, list[Layer]],
    model: Transformer, probe: Probe, steps: int,
) -> None:  # fmt: skip
    token_N, row_N = torch.from_numpy(probe.token_N), probe.row_N
    for layer, was, now in zip(model.moe_layers, before[1], after[1]):
        k, among = was.said_NK.shape[1], MOVED * steps * len(model.moe_layers)
        sets = drift.turnover(was.expert_NC[:, :k].numpy(), now.expert_NC[:, :k].numpy(), row_N, among)
        figures["drift"].append(
            {"step": before[0], "to": after[0], "layer": layer, **sets}
            | {"channels": drift.channels(was, now, token_N, row_N, among)}
            | {"boundary": drift.at_the_boundary(was, now, row_N, k, model.shape.num_experts, among)}
        )
