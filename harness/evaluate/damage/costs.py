"""Costs: nats a token more on the probe, with intervals over windows. The same tokens are asked before and after.

Letters: B windows, S tokens of the longest, N tokens, E experts, K top-k.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from harness.data.draws import Draws
from harness.evaluate.atlas.drift import over
from harness.evaluate.atlas.probe import Probe
from harness.evaluate.atlas.seen import Layer, seen
from harness.evaluate.atlas.settled import span
from harness.evaluate.damage import foretold
from harness.evaluate.damage.foretold import Earlier
from harness.evaluate.damage.interfere import WAYS, can_remove, with_routers
from harness.evaluate.inspect.sample import FORWARD_TOKENS
from harness.model.transformer import Transformer
from harness.model.where import Where
from harness.targets import IGNORED

SHARES = (0.25, 0.5, 0.75)  # of a layer's experts
WHICH = ("coldest", "random", "busiest")
Say = Callable[[str], None]


@torch.no_grad()
def nats(model: Transformer, probe: Probe) -> np.ndarray:
    """float64 (N,): of each token of the probe the nats of the next one; 0 of a window's last."""
    target_BS = np.full_like(probe.token_BS, IGNORED)
    target_BS[probe.row_N, probe.place_N] = probe.token_N
    target_BS = np.concatenate([target_BS[:, 1:], np.full((len(target_BS), 1), IGNORED)], 1)
    rows, found = max(1, FORWARD_TOKENS // target_BS.shape[1]), []
    with torch.compiler.set_stance("force_eager"):
        for first in range(0, len(target_BS), rows):
            token, target = (
                torch.from_numpy(x[first : first + rows]).to(model.embedding.device) for x in (probe.token_BS, target_BS)
            )
            found.append(model(Where(token), target).nats_BS.double().cpu().numpy())
    return np.concatenate(found)[probe.row_N, probe.place_N]


class Costs:
    """What interfering with one model costs on a probe."""

    def __init__(self, model: Transformer, probe: Probe, seed: int, say: Say = lambda text: None):
        """`seed`: of which experts are a random share, and of whom they are exchanged with."""
        self.model, self.probe, self.seed, self.say = model, probe, seed, say
        self.now, self.before_N = seen(model, probe), nats(model, probe)
        self.layers, self.experts = model.moe_layers, model.shape.num_experts

    @property
    def nats(self) -> float:
        """A token that has a next one, before anything is interfered with."""
        return float(self.before_N.sum() / (len(self.before_N) - len(self.probe.token_BS)))

    def transplants(self, earlier: Sequence[Earlier], step: int) -> list[dict[str, Any]]:
        """A row for each earlier checkpoint and MoE layer, and one for all layers at once (null): the checkpoint's router,
        weights and biases, in the model of `step`. A hash router has none that could move."""
        token_N, rows = torch.from_numpy(self.probe.token_N), []
        if not all(now.weights for now in self.now):
            return rows
        for one in earlier:
            self.say(f"routers of step {one.step:,} in the model of step {step:,}")
            states = {layer: was.state for layer, was in zip(self.layers, one.layers)}
            said = {
                layer: foretold.of_checkpoints(one, was, now, token_N, self.experts, step - one.step)
                for layer, was, now in zip(self.layers, one.layers, self.now)
            }
            rows += [
                {"step": one.step} | self._row(layers, with_routers(self.model, {at: states[at] for at in layers}), said)
                for layers in self._places()
            ]
        return rows

    def interferences(self, each_layer: bool = True) -> list[dict[str, Any]]:
        """A row for each share of experts, which they are, what is done to them and where: in all MoE layers at once (null),
        and in each one alone where that is asked. `removed`: the next best are in their place; `exchanged`: see
        `interfere.exchanged`. A hash router's tokens have no next best."""
        rows = []
        for share in SHARES:
            for which in WHICH:
                self.say(f"{share:.0%} of the experts, {which}")
                chosen = {layer: self._some(layer, now, share, which) for layer, now in zip(self.layers, self.now)}
                said = {
                    layer: foretold.of_experts(self.model.blocks[layer].feedforward, now, chosen[layer])
                    for layer, now in zip(self.layers, self.now)
                }
                for what, way in WAYS.items():
                    if what == "removed" and not can_remove(self.model, chosen):
                        continue
                    rows += [
                        {"share": share, "which": which, "what": what}
                        | self._row(layers, way(self.model, {at: chosen[at] for at in layers}, self.seed), said)
                        for layers in (self._places() if each_layer else [self.layers])
                    ]
        return rows

    def loads(self) -> list[dict[str, Any]]:
        """How many tokens of the probe chose each expert, by MoE layer."""
        return [{"layer": layer, "chosen": _load(now, self.experts).tolist()} for layer, now in zip(self.layers, self.now)]

    def _places(self) -> Iterator[list[int]]:
        """Each MoE layer alone, then all of them."""
        yield from ([layer] for layer in self.layers)
        if len(self.layers) > 1:
            yield self.layers

    def _row(
        self, layers: Sequence[int], interfered: AbstractContextManager[None], said: Mapping[int, Mapping[str, float]]
    ) -> dict[str, Any]:
        """What was foretold of several layers is the mean over them."""
        with interfered:
            more_N = nats(self.model, self.probe) - self.before_N
        names = said[layers[0]]
        return {
            "layer": layers[0] if len(layers) == 1 else None,
            "nats": span(over(more_N, self.probe.row_N, 1)),
            "foretold": {name: float(np.mean([said[layer][name] for layer in layers])) for name in names},
        }

    def _some(self, layer: int, now: Layer, share: float, which: str) -> list[int]:
        many = round(share * self.experts)
        if which == "random":
            return sorted(Draws(self.seed, "damage", which, layer).some(self.experts, many))
        load_E = _load(now, self.experts)
        return sorted(np.argsort(load_E if which == "coldest" else -load_E, kind="stable")[:many].tolist())


def _load(layer: Layer, experts: int) -> np.ndarray:
    return np.bincount(layer.expert_NC[:, : layer.said_NK.shape[1]].numpy().ravel(), minlength=experts)
