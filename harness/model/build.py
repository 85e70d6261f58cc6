"""The planned model, built and counted."""

import torch

from harness.errors import UserError
from harness.model.auxiliary import wanted
from harness.model.counts import Beside, Counts, beside, count
from harness.model.precision import Precisions
from harness.model.transformer import Transformer
from harness.plan import parts
from harness.plan.schema import Plan
from harness.ranks import ALONE, Ranks
from kernels import Arithmetic


def build_model(
    plan: Plan, arithmetic: str, backend: str = "torch", attention: str = "torch", ranks: Ranks = ALONE
) -> Transformer:
    """Uninitialized, on the current default device (`with torch.device("meta")` for counting). `backend`: of the experts;
    `attention`: the backend of attention; `ranks`: those that the experts are spread over, alone all of it is here. It
    multiplies as a model of the plan is scored after the last step, until `Transformer.quantize` says otherwise.

    Raises:
        UserError: the plan asks a part for what it cannot.
    """
    for kind, name in parts.chosen(plan) if plan.data.document_mask else ():
        if kind in ("attention", "memory") and "document masks" in parts.part(kind, name).CANNOT:
            key = parts.KINDS[kind].chosen_by[kind == "attention" and bool(plan.model.attention_pattern)]
            raise UserError(
                f"data.document_mask=true with {key}={name}, which sees no documents",
                f"leave data.document_mask=false, or use another {kind}",
            )
    model = Transformer(
        plan.model, Precisions(Arithmetic.of(arithmetic), plan.precision), backend,
        plan.parallel.activation_checkpointing, plan.kernels.debug, plan.gains, wanted(plan.balance), plan, attention, ranks,
    )  # fmt: skip
    model.quantize(plan.below_bf16 == plan.steps)
    return model


def spread_over(plan: Plan, ranks: Ranks) -> Ranks:
    """Those that the experts of the plan are spread over when `ranks` train it; in name only where one process plays them."""
    if parts.in_one_process(plan.parallel):
        return Ranks(0, plan.parallel.ep)
    return ranks if plan.parallel.ep > 1 else ALONE


def count_plan(plan: Plan) -> Counts:
    with torch.device("meta"):
        return count(build_model(plan, "full"))


def count_beside(plan: Plan) -> Beside:
    with torch.device("meta"):
        return beside(build_model(plan, "full"))
