"""Parameter groups: dense, expert, router, embedding, head, norm. Every parameter is in exactly one."""

from torch import nn

from harness.model.feedforward import Experts
from harness.model.transformer import Transformer

MATRICES = ("dense", "expert")  # the groups that Muon can update


def group_parameters(model: Transformer) -> dict[str, dict[str, nn.Parameter]]:
    """{group: {parameter name: parameter}} in the model's order; groups without parameters are left out."""
    expert = {id(p) for m in model.modules() if isinstance(m, Experts) for p in (m.up, m.down)}

    def group_of(name: str, parameter: nn.Parameter) -> str:
        if name == "embedding":
            return "embedding"
        if name == "head.weight":
            return "head"
        if name.endswith("norm.weight"):
            return "norm"
        if name.endswith("router.weight"):
            return "router"
        return "expert" if id(parameter) in expert else "dense"

    groups: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(group_of(name, parameter), {})[name] = parameter
    return groups
