"""The loss of targets further ahead (harness/model/ahead.py): added to the cross-entropy of the next token for the gradient,
and reported beside it, never in it.

    objective = sum over tokens of [CE(logits_t, token_{t+1}) + sum_k w_k(t) CE(logits_t, token_{t+k})] / targets of the step

The weights fall linearly from those of the plan to 0 at `ahead.until` of the token budget. Once they are 0 the targets are no
longer looked at. A sum goes out of the compiled head for each distance and is weighed after it: as weights fall nothing is
compiled again. What is reported is each distance's sum over the targets of the step (of next tokens), without its weight.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.model.ahead import targets_ahead
from harness.plan.schema import Plan


class AheadLoss:
    def __init__(self, plan: Plan):
        self.steps, self.until = plan.by_step, plan.ahead.until
        self.first = {distance: weight for distance, weight in enumerate(plan.ahead.weights, 2) if weight}

    def weights(self, step: int) -> dict[int, float]:
        """By distance, those of a step counted from 0, taken in its middle; empty when they have reached 0."""
        left = 1 - self.steps.progress(step) / self.until if self.first else 0.0
        return {distance: weight * left for distance, weight in self.first.items()} if left > 0 else {}

    def kinds(self, step: int, other: Callable[[int], Any] = lambda index: None) -> list[int]:
        """The first step of each kind that is left from `step` on, itself first: each size, with targets ahead and without.
        `other`: what else tells steps apart."""
        found: dict[Any, int] = {}
        for index in range(step, self.steps.count):
            found.setdefault((self.steps.tokens(index), bool(self.weights(index)), other(index)), index)
        return list(found.values())

    def targets(self, step: int, target_BS: Tensor, document_BS: Tensor | None) -> Tensor | None:
        """ahead_KBS of `Transformer.forward`."""
        distances = tuple(self.weights(step))
        return targets_ahead(target_BS, distances, document_BS) if distances else None

    def shares(self, step: int, ahead_K: Tensor, scored: int) -> dict[str, Tensor]:
        """By name, fp32 scalars: what a micro-batch has of the losses of a step that has `scored` next tokens as targets."""
        return {f"ahead_{distance}": share for distance, share in zip(self.weights(step), ahead_K / scored, strict=True)}

    def objective(self, step: int, shares: dict[str, Tensor]) -> Tensor:
        """fp32 scalar: what the gradient is taken of beside the cross-entropy."""
        return torch.stack([weight * share for weight, share in zip(self.weights(step).values(), shares.values())]).sum()
