"""What the routers of a model were given and said, token by token, and what each expert then said.

Letters: N tokens of the probe, T of a forward pass, D width, E experts, K top-k, C candidates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from harness.evaluate.atlas.probe import Probe
from harness.evaluate.inspect.sample import FORWARD_TOKENS
from harness.evaluate.inspect.seen import removed
from harness.model.feedforward import Experts, activate
from harness.model.routing import Routing, top_k_lower_id
from harness.model.transformer import Transformer
from harness.model.where import Where


class Layer(NamedTuple):
    """A MoE layer with the tokens of a probe, in their order, on the CPU. `state`: the router's own weights and buffers."""

    x_ND: Tensor  # fp32, what the router was given
    expert_NC: Tensor  # int64 candidates, best first: K that were chosen and, where there are more, the next one
    score_NC: Tensor | None  # fp32, by which they were chosen; None of a router without scores
    said_NK: Tensor  # fp32 norms of what each chosen expert adds, with its weight
    state: dict[str, Tensor]
    router: nn.Module

    def chosen_by(self, x_ND: Tensor, token_N: Tensor, state: dict[str, Tensor]) -> Tensor:
        """expert_NK that this router would choose of another input, with other weights or buffers."""
        with torch.no_grad():
            return functional_call(self.router, self.state | state, (x_ND, token_N)).expert_TK

    @property
    def weights(self) -> dict[str, Tensor]:
        return {name: self.state[name] for name, _ in self.router.named_parameters()}

    @property
    def biases(self) -> dict[str, Tensor]:
        return {name: self.state[name] for name, _ in self.router.named_buffers()}


@torch.no_grad()
def seen(model: Transformer, probe: Probe) -> list[Layer]:
    """By MoE layer, in fp32. Nothing of it is the model's own memory."""
    parts: list[list[tuple[Tensor, ...]]] = [[] for _ in model.moe_layers]
    rows = max(1, FORWARD_TOKENS // probe.token_BS.shape[1])
    for first in range(0, len(probe.token_BS), rows):
        here = (probe.row_N >= first) & (probe.row_N < first + rows)
        flat_T = (probe.row_N[here] - first) * probe.token_BS.shape[1] + probe.place_N[here]
        given = _given(model, torch.from_numpy(probe.token_BS[first : first + rows]))
        for place, (layer, (x_TD, said)) in enumerate(zip(model.moe_layers, given)):
            parts[place].append(_of_tokens(model.blocks[layer].feedforward, x_TD, said, torch.from_numpy(flat_T)))
    found = []
    for layer, passes in zip(model.moe_layers, parts):
        x_ND, expert_NC, said_NK, *score = map(torch.cat, zip(*passes))
        router = model.blocks[layer].feedforward.router
        state = {name: tensor.detach().clone() for name, tensor in router.state_dict().items()}
        found.append(Layer(x_ND, expert_NC, score[0] if score else None, said_NK, state, router))
    return found


def _given(model: Transformer, token_BS: Tensor) -> list[tuple[Tensor, Routing]]:
    """What each MoE layer's router was given, and what it said."""
    found: list[tuple[Tensor, Routing]] = []
    routers = [model.blocks[layer].feedforward.router for layer in model.moe_layers]
    hooks = [router.register_forward_hook(lambda _, given, said: found.append((given[0], said))) for router in routers]
    with removed(*hooks), torch.compiler.set_stance("force_eager"):
        model.trunk(Where(token_BS.to(model.embedding.device)))
    return found


def _of_tokens(experts: Experts, x_TD: Tensor, said: Routing, wanted_N: Tensor) -> tuple[Tensor, ...]:
    """x, candidates, norms and, of a router that has any, scores, of the tokens that are wanted."""
    wanted_N = wanted_N.to(x_TD.device)
    x_ND, expert_NK, weight_NK = (x[wanted_N] for x in (x_TD.float(), said.expert_TK, said.weight_TK))
    norm_NK = norms(experts, x_ND, expert_NK, weight_NK)
    if said.score_TE is None:
        return x_ND.cpu(), expert_NK.cpu(), norm_NK.cpu()
    selection_NE = experts.router.selection(said.score_TE[wanted_N]).float()
    k = expert_NK.shape[1]
    expert_NC = top_k_lower_id(selection_NE, min(k + 1, experts.num_experts))
    assert torch.equal(expert_NC[:, :k], expert_NK), "a router chose others than its best"
    return x_ND.cpu(), expert_NC.cpu(), norm_NK.cpu(), selection_NE.gather(1, expert_NC).cpu()


def norms(experts: Experts, x_ND: Tensor, expert_NK: Tensor, weight_NK: Tensor) -> Tensor:
    """fp32 (N, K): the length of what each chosen expert adds to the stream."""
    found_NK = torch.zeros(expert_NK.shape, device=x_ND.device)
    for expert in range(experts.num_experts):
        token, place = torch.nonzero(expert_NK == expert, as_tuple=True)
        h = activate(x_ND[token] @ experts.up[expert].float(), experts.activation)
        found_NK[token, place] = (h @ experts.down[expert].float()).norm(dim=1)
    return found_NK * weight_NK.float() * abs(experts.output_gain)


def finite(layers: Sequence[Layer]) -> bool:
    return all(bool(x.isfinite().all()) for layer in layers for x in (layer.x_ND, layer.said_NK))
