"""Parameters and FLOPs, counted from built modules, a model or a part of one (on any device, the meta device too).

FLOPs per token of a training step: 6 per active matrix parameter (2 forward, 4 backward), plus what each part says it computes
beside (causal attention: 12 * width * S / 2 a layer). Embedding look-ups and elementwise work are not counted.
"""

from dataclasses import dataclass

from harness.model.init import owned
from harness.model.part import Part

# Groups whose parameters are looked up or multiplied element by element; a part says what it computes with its scalars.
NO_PRODUCT = ("embedding", "norm", "scalar", "table")


@dataclass(frozen=True)
class Counts:
    params_total: int
    params_active: int  # what one token touches; of routed experts, top-k of E
    flops_per_token: int  # forward and backward


@dataclass(frozen=True)
class Beside:
    """What all parts together say of a token. `flops`: forward and backward beside matrix parameters; `cache_values`:
    numbers that decoding keeps."""

    flops: int
    cache_values: int


def count(model: Part) -> Counts:
    parameters = owned(model)
    total = sum(p.numel() for _, p, _, _ in parameters)
    touched = total - sum(part.idle() for part in _parts(model))
    matrices = touched - sum(p.numel() for _, p, _, own in parameters if own.group in NO_PRODUCT)
    return Counts(total, touched - sum(part.unread() for part in _parts(model)), 6 * matrices + beside(model).flops)


def beside(model: Part) -> Beside:
    parts = _parts(model)
    return Beside(sum(part.flops() for part in parts), sum(part.cache_values() for part in parts))


def _parts(model: Part) -> list[Part]:
    return [module for module in model.modules() if isinstance(module, Part)]
