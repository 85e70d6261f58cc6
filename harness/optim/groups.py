"""Parameter groups: dense, expert, router, embedding, head, norm. Every parameter is in the one that its part says."""

from dataclasses import fields

from torch import nn

from harness.errors import nearest
from harness.model.init import owned
from harness.model.transformer import Transformer
from harness.plan.schema import Multipliers


def group_parameters(model: Transformer) -> dict[str, dict[str, nn.Parameter]]:
    """{group: {parameter name: parameter}} in the model's order; groups without parameters are left out.

    Raises:
        ValueError: no part declares a parameter, or one declares a group that has no learning-rate multiplier.
    """
    known = [f.name for f in fields(Multipliers)]
    groups: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter, _, own in owned(model):
        if own.group not in known:
            raise ValueError(f"the parameter {name} is in the unknown group {own.group!r}: {nearest(own.group, known)}")
        groups.setdefault(own.group, {})[name] = parameter
    return groups
