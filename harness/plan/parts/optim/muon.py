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
    # gram: the iteration on X X^T alone of matrices that are wide enough for it to take fewer FLOPs; in bf16 with restarts
    form: str = free("direct", among=("direct", "gram"), later=True)
    # neurons: the update's second moment, one of each output or input neuron, evens out their sizes (NorMuon, arXiv 2510.05491)
    neurons: str = free("off", among=("off", "outputs", "inputs"), later=True)
    beta2: float = free(0.95, least=0, most=0.9999, later=True)  # of that second moment
    cautious: bool = free(False, later=True)  # weight decay of those entries alone that the update shrinks too
    start_momentum: float = free(0.0, least=0, most=0.9999, later=True)  # rises to `momentum` over start_steps; 0: no rise
    start_steps: int = free(100, least=1, later=True)
    # a matrix without a gradient, as that of an expert without tokens: rests, or moves on by its momentum at full speed
    idle: str = free("rests", among=("rests", "moves"), later=True)


EXPRESS_STEPS = 5  # polynomials of polar-express
# Iterations of the Gram form before the matrix is looked at again, by whether products are rounded to bf16. Measured on 128 x
# 256 with singular values that fall from 1 to 0.001, as the cosine of five iterations in bf16 with five direct ones in fp64:
# 0.53 without a second look, 0.990 by two and three, 0.9988 by two, two and one; 0.998 of the direct form. Eight by two and
# then three pass what bf16 can hold.
SEGMENT = {True: 2, False: 5}


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


def direct_flops(rows: int, columns: int, steps: int) -> int:
    """What one matrix takes, no higher than wide: at each iteration two products of (rows, rows, columns) and one of (rows,
    rows, rows)."""
    return 2 * steps * (2 * rows**2 * columns + rows**3)


def gram_flops(rows: int, columns: int, lengths: list[int]) -> int:
    """The same in segments of these lengths, each with two products of (rows, rows, columns). An iteration has four of
    (rows, rows, rows), but for the first one's of Q, which starts as I, and the last one's two of R, which nothing reads."""
    return 2 * sum(2 * rows**2 * columns + (4 * length - 3) * rows**3 for length in lengths)


def gram_segments(rows: int, columns: int, steps: int, rounded: bool) -> list[int]:
    """The lengths that add up to `steps`; none where the Gram form takes no fewer FLOPs than the direct one."""
    whole, rest = divmod(steps, SEGMENT[rounded])
    lengths = [SEGMENT[rounded]] * whole + [rest] * (rest > 0)
    return lengths if gram_flops(rows, columns, lengths) < direct_flops(rows, columns, steps) else []


def flops_per_step(plan: "Plan", parameters: int) -> float:
    """What the iteration takes of so many weights: of a MoE model as if all were experts', of a dense one as of matrices that
    are twice as wide as high. The Gram form with bf16's restarts."""
    m, k = plan.model, plan.optim.muon
    shapes, steps = [(m.width, 2 * m.width)], k.newton_schulz_steps
    if m.num_experts:
        gate = 2 if m.activation == "swiglu" else 1
        shapes, steps = [(m.width, gate * m.expert_width), (m.expert_width, m.width)], k.expert_steps or steps
    flops = 0
    for rows, columns in map(sorted, shapes):
        lengths = gram_segments(rows, columns, steps, True) if k.form == "gram" else []
        flops += gram_flops(rows, columns, lengths) if lengths else direct_flops(rows, columns, steps)
    return flops / sum(rows * columns for rows, columns in shapes) * parameters
