"""Muon's keys and what its iteration costs; the mathematics: `harness/optim/optimizers/muon.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.marks import free

if TYPE_CHECKING:
    from harness.plan.schema import Plan

NUMBERS_PER_WEIGHT = 1  # the momentum; what the iteration takes beside is the update's (harness/train/memory.py)


@dataclass
class Keys:
    lr: float = free(0.02, least=0)
    momentum: float = free(0.95, least=0, most=0.9999)
    weight_decay: float = free(0.0, least=0)
    newton_schulz_steps: int = free(5, least=1)
    expert_steps: int = free(0, least=0, later=True)  # iterations of expert matrices; 0: as many as of the others
    # polar-express: the five polynomials of arXiv 2505.16932, of a spectral norm near 1
    iteration: str = free("quintic", among=("quintic", "polar-express"), later=True)
    # neurons: the update's second moment, one of each output or input neuron, evens out their sizes (NorMuon, arXiv 2510.05491)
    neurons: str = free("off", among=("off", "outputs", "inputs"), later=True)
    beta2: float = free(0.95, least=0, most=0.9999, later=True)  # of that second moment
    cautious: bool = free(False, later=True)  # weight decay of those entries alone that the update shrinks too
    start_momentum: float = free(0.0, least=0, most=0.9999, later=True)  # rises to `momentum` over start_steps; 0: no rise
    start_steps: int = free(100, least=1, later=True)
    # a matrix without a gradient, as that of an expert without tokens: rests, or moves on by its momentum at full speed
    idle: str = free("rests", among=("rests", "moves"), later=True)


EXPRESS_STEPS = 5  # polynomials of polar-express


def check(plan: "Plan") -> None:
    k = plan.optim.muon
    counts = {"newton_schulz_steps": k.newton_schulz_steps, "expert_steps": k.expert_steps or EXPRESS_STEPS}
    for key, steps in counts.items() if k.iteration == "polar-express" else ():
        if steps != EXPRESS_STEPS:
            raise UserError(
                f"optim.muon.{key}={steps} with optim.muon.iteration=polar-express, whose {EXPRESS_STEPS} polynomials belong "
                "together",
                f"use optim.muon.{key}={EXPRESS_STEPS}, or optim.muon.iteration=quintic",
            )
    if k.cautious and not k.weight_decay:
        raise UserError(
            "optim.muon.cautious=true with optim.muon.weight_decay=0: nothing decays", "set optim.muon.weight_decay"
        )
    if k.start_momentum > k.momentum:
        raise UserError(
            f"optim.muon.start_momentum={k.start_momentum} is above optim.muon.momentum={k.momentum}", "choose less, or 0"
        )
    if k.expert_steps and not plan.model.num_experts:
        raise UserError(
            f"optim.muon.expert_steps={k.expert_steps} with model.num_experts=0", "use optim.muon.newton_schulz_steps"
        )


def flops_per_step(plan: "Plan", parameters: int) -> float:
    """What the iteration takes: two products of (rows, rows, columns) and one of (rows, rows, rows) per step and matrix,
    which for matrices twice as wide as high is 5 x rows per parameter."""
    m, k = plan.model, plan.optim.muon
    rows = min(m.width, m.expert_width) if m.num_experts else m.width
    steps = k.expert_steps or k.newton_schulz_steps if m.num_experts else k.newton_schulz_steps
    return steps * 5 * rows * parameters
