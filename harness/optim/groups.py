"""Parameter groups: dense, expert, router, embedding, head, norm. Every parameter is in exactly one, because one claims it."""

from torch import nn

from harness.model.attention import Attention
from harness.model.feedforward import Dense, Experts
from harness.model.norm import Norm
from harness.model.router import Hash
from harness.model.transformer import Transformer

MATRICES = ("dense", "expert")  # the groups that Muon can update


def group_parameters(model: Transformer) -> dict[str, dict[str, nn.Parameter]]:
    """{group: {parameter name: parameter}} in the model's order; groups without parameters are left out.

    Raises:
        ValueError: no group claims a parameter. A new part says here which group its own are in: none is updated by default.
    """
    claimed = _claims(model)
    groups: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if id(parameter) not in claimed:
            raise ValueError(
                f"no group claims the parameter {name} {tuple(parameter.shape)}: it belongs to one of dense, expert, router, "
                "embedding, head, norm in harness/optim/groups.py"
            )
        groups.setdefault(claimed[id(parameter)], {})[name] = parameter
    return groups


def _claims(model: Transformer) -> dict[int, str]:
    """The group of each known parameter, by its identity."""
    claimed = {id(model.embedding): "embedding", id(model.head.weight): "head"}
    for module in model.modules():
        if isinstance(module, Attention):
            claimed |= {id(getattr(module, matrix)): "dense" for matrix in Attention.MATRICES}
        elif isinstance(module, Dense):
            claimed |= {id(module.up): "dense", id(module.down): "dense"}
        elif isinstance(module, Experts):
            claimed |= {id(module.up): "expert", id(module.down): "expert"}
            if not isinstance(module.router, Hash):  # which has nothing to learn
                claimed[id(module.router.weight)] = "router"
        elif isinstance(module, Norm) and module.weight is not None:
            claimed[id(module.weight)] = "norm"
    return claimed
