"""What a format below bf16 does to learning, measured on the steps that close a window.

Of every layer that quantizes: SNR, underflow and saturation of each quantized tensor (of the first micro-batch); the
share of weight codes that the step's update flipped; the router's gradient RMS beside the smallest step of the format,
which is the smallest magnitude that was told apart from 0 in the gradient that enters the layer's FFN. What
is smaller is rounded to 0 there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.model.feedforward import Dense, Experts
from harness.model.transformer import Transformer
from kernels import observe
from kernels.noise import dither


class Telemetry:
    """Watches a model; `measure()` around the forward and backward passes, `before()` and `after()` around the update."""

    def __init__(self, model: Transformer):
        self.low: dict[int, nn.Module] = {}
        self.routers: dict[int, nn.Parameter] = {}
        for layer, block in enumerate(model.blocks):
            part = block.feedforward
            if getattr(part, "key_4", None) is not None:
                self.low[layer] = part
                if isinstance(part, Experts) and hasattr(part.router, "weight"):
                    self.routers[layer] = part.router.weight
        self.found: observe.Found = {}

    @contextmanager
    def measure(self, wanted: bool) -> Iterator[None]:
        if not (wanted and self.low):
            yield
            return
        with observe.observed() as found:
            yield
        self.found = found

    def before(self) -> list[Tensor]:
        """Copies of the weights that are quantized, of some experts where there are many."""
        return [_some(w).clone() for part in self.low.values() for w in (part.up, part.down)]

    @torch.no_grad()
    def after(self, weights: list[Tensor]) -> dict[str, Any] | None:
        """The row's `precision`, keyed by layer as text; None for a model without a layer below bf16."""
        if not self.low:
            return None
        left = iter(weights)
        causes = {str(layer): _flipped(part, next(left), next(left)) for layer, part in self.low.items()}
        flips = {layer: {name: found["all"] for name, found in of_layer.items()} for layer, of_layer in causes.items()}
        tensors = {str(layer): found for layer, found in sorted(self.found.items())}
        smallest = {
            layer: found["gradient"]["smallest"]
            for layer, found in tensors.items()
            if "gradient" in found and int(layer) in self.routers
        }
        return {
            "tensors": tensors,
            "flips": flips,
            "flip_causes": {
                layer: {
                    f"{name}.{cause}": share
                    for name, found in of_layer.items()
                    for cause, share in found.items()
                    if cause != "all"
                }
                for layer, of_layer in causes.items()
            },
            "router_grad_rms": {str(layer): float(w.grad.square().mean().sqrt()) for layer, w in self.routers.items()},
            "smallest_step": smallest,
        }


def _flipped(part: Dense | Experts, up: Tensor, down: Tensor) -> dict[str, dict[str, float]]:
    dials = part.precision.quantization
    if dials is None or not dials.quantizes("weight"):
        return {}
    pairs = (("up", up, part.up), ("down", down, part.down))
    found = {}
    for name, was, now in pairs:
        jitter = None
        if dials.dither:
            experts, inputs, outputs = now.shape if now.ndim == 3 else (1, *now.shape)
            jitter = _some(dither(part.key_4, f"weight_{name}", (experts, inputs, outputs), dials.dither))
        found[name] = observe.causes(was, _some(now), dials, jitter)
    return found


def _some(w: Tensor) -> Tensor:
    """(E, I, O); a dense matrix as one expert."""
    return observe.some_experts(w.detach() if w.ndim == 3 else w.detach().unsqueeze(0))
