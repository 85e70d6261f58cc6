"""All optimizers of a run behind one step, and the telemetry of what they do."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.model.transformer import Transformer
from harness.optim.groups import group_parameters
from harness.optim.norms import PLAIN, Squares
from harness.optim.optimizers import Update
from harness.plan import parts
from harness.plan.schema import Optim


class Optimizer:
    def __init__(self, model: Transformer, plan: Optim, product_dtype: torch.dtype = torch.float32, backend: str = "torch"):
        """`product_dtype`: of the matrix products inside an update, and `backend` of it; state and weights stay fp32."""
        self.plan, self.groups = plan, group_parameters(model)
        self.parameters = {name: p for group in self.groups.values() for name, p in group.items()}
        multipliers = {name: float(getattr(plan.multipliers, g)) for g, group in self.groups.items() for name in group}
        by_part: dict[str, dict[str, nn.Parameter]] = {}
        for g, group in self.groups.items():
            by_part.setdefault(plan.matrices if g in parts.MATRICES else plan.others, {}).update(group)
        self.parts: list[Update] = [
            parts.part("optim", name)(by_part[name], multipliers, getattr(plan, name, None), product_dtype)
            for name in dict.fromkeys((plan.matrices, plan.others))
            if name in by_part
        ]
        for part in self.parts:
            part.backend = backend

    @torch.no_grad()
    def gradient_norms(self) -> Tensor:
        """fp32 (parameters,) on the device: the norm of each gradient, in the order of `parameters`."""
        return torch.stack(torch._foreach_norm([p.grad for p in self.parameters.values()])).float()

    @torch.no_grad()
    def clip(self, norm: Tensor) -> None:
        """Scales all gradients so that their joint norm is at most `clip_norm`; 0 leaves them alone."""
        if self.plan.clip_norm:
            factor = (self.plan.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([p.grad for p in self.parameters.values()], factor)

    def step(self, scale: float) -> None:
        for part in self.parts:
            part.step(scale)

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Within it the weights are those that are scored and kept."""
        for part in self.parts:
            part.for_scoring()
        try:
            yield
        finally:
            for part in self.parts:
                part.for_training()

    def clear_gradients(self) -> None:
        for p in self.parameters.values():
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """The live state tensors by name; copying into them restores the optimizer."""
        return {key: tensor for part in self.parts for key, tensor in part.state().items()}

    @torch.no_grad()
    def step_measured(self, scale: float, over: Squares = PLAIN) -> dict[str, dict[str, float]]:
        """A step that also returns, per group, the RMS of gradient, update and parameter. It takes a copy of the parameters of
        one optimizer at a time. `over`: how squares are summed over all of a parameter."""
        found: dict[str, dict[str, Tensor]] = {"grad_rms": {}, "update_rms": {}, "param_rms": {}}
        for name, p in self.parameters.items():
            found["grad_rms"][name], found["param_rms"][name] = over.here(name, p.grad), over.here(name, p)
        for part in self.parts:
            before = {name: p.clone() for name, p in part.parameters.items()}
            part.step(scale)
            for name, p in part.parameters.items():
                found["update_rms"][name] = over.here(name, before.pop(name).sub_(p))
        found = {kind: over.whole(by_name) for kind, by_name in found.items()}
        return {group: self._rms(names, found, over) for group, names in self.groups.items()}

    def _rms(self, names: Iterable[str], found: dict[str, dict[str, Tensor]], over: Squares) -> dict[str, float]:
        """The RMS of each kind over a group. `found`: sums of squares, by kind and parameter."""
        numbers = sum(over.numbers(name, self.parameters[name]) for name in names)
        return {kind: float((sum(of[name] for name in names) / numbers).sqrt()) for kind, of in found.items()}
