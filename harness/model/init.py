"""Initial weights, drawn by a counter-based generator keyed by (seed, parameter name), and of a stack of experts
by the expert's number too: the same on every device, and whichever experts a process holds.

Each part says how its parameters start (`harness/model/part.py`). Where `zero_output` is on, every block starts as the identity
(arXiv 2203.03466 appendix D.2).
"""

import math
from collections import Counter
from collections.abc import Iterator

import torch

from harness.keyed import generator
from harness.model.part import STARTS, Own, Part
from harness.plan.schema import Init


@torch.no_grad()
def initialize(model: Part, init: Init, seed: int) -> None:
    for name, parameter, part, own in owned(model):
        if own.start == "one":
            parameter.fill_(1.0)
        elif own.start == "zero" or (own.start == "output" and init.zero_output):
            parameter.zero_()
        elif own.start == "tap":
            parameter.zero_()[-1] = 1.0
        elif own.start == "range":
            draws = generator(seed, "initial weights", name).random(parameter.shape, dtype="float32")
            parameter.copy_(torch.from_numpy(draws).mul_(own.high - own.low).add_(own.low))
        else:
            std = init.embedding_std if own.start == "embedding" else init.matrix_gain / math.sqrt(parameter.shape[-2])
            for purpose, matrix in _drawn(name, parameter, part, own):
                draws = generator(seed, "initial weights", *purpose).standard_normal(matrix.shape, dtype="float32")
                matrix.copy_(torch.from_numpy(draws).mul_(std))
    seen: Counter[type] = Counter()
    for module in model.modules():
        if isinstance(module, Part):
            module.draw(seed, seen[type(module)])
            seen[type(module)] += 1


def _drawn(name: str, parameter: torch.Tensor, part: Part, own: Own) -> Iterator[tuple[tuple[str | int, ...], torch.Tensor]]:
    """(what it is drawn for, what is filled): a stack of experts one by one, so that a process draws those that it holds alone,
    and at no time more than one."""
    if own.by_expert:
        yield from (((name, expert), matrix) for expert, matrix in zip(part.held, parameter, strict=True))
    else:
        yield (name,), parameter


def owned(model: Part) -> list[tuple[str, torch.nn.Parameter, Part, Own]]:
    """(name, parameter, its part, what the part declares) of every parameter, in the model's order.

    Raises:
        ValueError: no part declares a parameter, or one says a start that it cannot have. None is started, counted or updated
            by default.
    """
    found = []
    for place, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name, declared = f"{place}.{leaf}".lstrip("."), module.OWN if isinstance(module, Part) else {}
            if leaf not in declared:
                raise ValueError(
                    f"no part declares the parameter {name} {tuple(parameter.shape)}: {type(module).__name__} is a Part of "
                    "harness/model/part.py and names its group and its start in OWN"
                )
            own = declared[leaf]
            if own.start not in STARTS or (parameter.ndim < 2 and own.start not in ("zero", "one", "range")):
                raise ValueError(
                    f"the parameter {name} {tuple(parameter.shape)} cannot start as {own.start!r}: {', '.join(STARTS)}"
                )
            found.append((name, parameter, module, own))
    return found
