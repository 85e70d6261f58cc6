"""Ways to interfere with routers, each undone when its block ends, to the bit.

Letters: T tokens, E experts, K top-k.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.data.draws import Draws
from harness.evaluate.inspect.seen import removed as hooks_removed
from harness.model.routing import Router, Routing, TopK
from harness.model.transformer import Transformer

Experts = Mapping[int, Sequence[int]]  # by layer


def router_of(model: Transformer, layer: int) -> Router:
    return model.blocks[layer].feedforward.router


@contextmanager
def with_routers(model: Transformer, states: Mapping[int, Mapping[str, Tensor]]) -> Iterator[None]:
    """These layers' routers have other weights and buffers."""
    own = {layer: {name: t.clone() for name, t in router_of(model, layer).state_dict().items()} for layer in states}
    try:
        for layer, state in states.items():
            router_of(model, layer).load_state_dict(state)
        yield
    finally:
        for layer, state in own.items():
            router_of(model, layer).load_state_dict(state)


def can_remove(model: Transformer, experts: Experts) -> bool:
    """Whether every token has as many experts left as it takes, of a router that ranks all of them."""
    left = model.shape.num_experts - max(map(len, experts.values()))
    return left >= model.shape.top_k and all(isinstance(router_of(model, layer), TopK) for layer in experts)


@contextmanager
def removed(model: Transformer, experts: Experts, seed: int = 0) -> Iterator[None]:
    """These experts are never chosen: the best of the others are."""
    routers = [router_of(model, layer) for layer in experts]
    for router, some in zip(routers, experts.values()):
        router.selection = _without(router.selection, some)
    try:
        yield
    finally:
        for router in routers:
            del router.selection


def _without(selection: Callable[[Tensor], Tensor], experts: Sequence[int]) -> Callable[[Tensor], Tensor]:
    def chosen(score_TE: Tensor) -> Tensor:
        return selection(score_TE).index_fill(1, torch.tensor(experts, device=score_TE.device), -torch.inf)

    return chosen


@contextmanager
def exchanged(model: Transformer, experts: Experts, seed: int) -> Iterator[None]:
    """Who would go to one of these experts goes to another one of them, by a cycle of its own seed; the router chooses as
    before, and its weights stay as they are. One expert alone has none to be exchanged with."""
    with ExitStack() as stack:
        for layer, some in experts.items():
            to_E = torch.arange(model.shape.num_experts, device=model.embedding.device)
            order = [some[at] for at in Draws(seed, "damage", "exchanged", layer).some(len(some), len(some))]
            to_E[order] = torch.tensor([*order[1:], *order[:1]], dtype=torch.int64, device=to_E.device)
            hook = router_of(model, layer).register_forward_hook(_sent(to_E))
            stack.enter_context(hooks_removed(hook))
        yield


def _sent(to_E: Tensor) -> Callable[[nn.Module, Any, Routing], Routing]:
    return lambda _, given, said: said._replace(expert_TK=to_E[said.expert_TK])


WAYS = {"removed": removed, "exchanged": exchanged}
