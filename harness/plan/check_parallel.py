"""How a step may be cut into micro-batches, and among how many ranks; every refusal names the values and what to type."""

import math

from harness.errors import UserError
from harness.plan import parts
from harness.plan.schema import Plan

RANKS = 8  # what a suggested unit should leave room for


def check_parallel(plan: Plan) -> None:
    """What can be told without knowing the ranks. Raises: UserError where a step is no whole number of units, or experts cannot
    be spread as planned."""
    unit = plan.parallel.micro_batch_tokens
    _check_spread(plan)
    if plan.parallel.sums != "units":
        return
    if not unit:
        raise UserError(
            "parallel.sums=units with parallel.micro_batch_tokens=0: the micro-batch is the unit that is summed over, so it "
            "cannot be the share of a rank",
            f"set parallel.micro_batch_tokens={_unit_for(plan, RANKS)}, or another of {_said(units_of(plan))}",
        )
    for tokens in plan.batch.sizes:
        if tokens % unit:
            raise UserError(
                f"parallel.sums=units with parallel.micro_batch_tokens={unit}, which does not divide a step of {tokens} tokens",
                f"set parallel.micro_batch_tokens={_nearest(unit, units_of(plan))}",
            )


def _check_spread(plan: Plan) -> None:
    p, experts = plan.parallel, plan.model.num_experts
    spread, played = parts.transport(p) != "local", parts.in_one_process(p)
    if p.ep == 1:
        if spread:
            raise UserError(
                f"parallel.transport={p.transport} with parallel.ep=1, where every rank has all experts",
                "set parallel.ep, or leave it",
            )
        return
    said = f"parallel.ep={p.ep}"
    if not experts:
        raise UserError(f"{said} in a model without experts", "leave it: ranks share the batch of a dense model as it is")
    if experts % p.ep:
        raise UserError(
            f"{said}: {experts} experts cannot be spread equally over {p.ep} ranks",
            f"set parallel.ep={_nearest(p.ep, _divisors(experts))}{'' if played else ' and start as many'}",
        )
    if p.sums != "units" and not played:  # one process has its bits whatever it plays
        raise UserError(
            f"{said} with parallel.sums={p.sums}, whose bits would depend on how many ranks there are",
            "set parallel.sums=units and parallel.micro_batch_tokens",
        )
    if not spread:
        raise UserError(
            f"{said} with parallel.transport=local, which carries no row to another rank", "leave parallel.transport"
        )
    if plan.kernels.backend == "reference":
        raise UserError(f"{said} with kernels.backend=reference, which takes no rows alone", "use kernels.backend=auto")
    if played and plan.precision.format == "nvfp4" and plan.precision.tensor_scale != "expert":
        raise UserError(
            f"parallel.transport={p.transport} with precision.tensor_scale={plan.precision.tensor_scale}, a scale of all "
            "experts' rows, of which it takes one owner's after the other's",
            "set precision.tensor_scale=expert, or parallel.transport=auto",
        )


def micro_sequences(plan: Plan, step_tokens: int, ranks: int) -> int:
    """The sequences of a micro-batch in a step of so many tokens. Raises: UserError where the ranks cannot share it equally."""
    length = plan.model.sequence_length
    sequences = step_tokens // length
    share = sequences // ranks
    wanted = plan.parallel.micro_batch_tokens // length or share
    if not sequences % ranks and not share % wanted:
        return wanted
    if plan.parallel.sums == "units":
        _refuse_units(plan, step_tokens, ranks)
    raise UserError(
        f"{sequences} sequences a step cannot be cut for {ranks} ranks into micro-batches of {wanted} sequences",
        "choose parallel.micro_batch_tokens and the number of ranks so that they divide the step",
    )


def check_ranks(plan: Plan, ranks: int) -> None:
    """Raises: UserError where so many ranks cannot share every step of the plan, or its experts."""
    p = plan.parallel
    if parts.in_one_process(p):
        if ranks > 1:
            raise UserError(
                f"parallel.transport={p.transport} with {ranks} ranks: it plays the {p.ep} of parallel.ep in one process",
                f"start one, without torchrun, or set parallel.transport=auto and parallel.ep={ranks}",
            )
    elif p.ep not in (1, ranks):
        raise UserError(
            f"parallel.ep={plan.parallel.ep} with {_count(ranks, 'rank')}: experts are spread over all of them, or over none",
            f"start {plan.parallel.ep} (torchrun --nproc-per-node {plan.parallel.ep}), or set parallel.ep to 1 or {ranks}",
        )
    for stage in plan.by_step.stages:
        micro_sequences(plan, stage.tokens, ranks)


def _refuse_units(plan: Plan, step_tokens: int, ranks: int) -> None:
    unit = plan.parallel.micro_batch_tokens
    if step_tokens % unit:  # of a budget that was cut to less than a step
        raise UserError(
            f"a step of {step_tokens} tokens is no whole number of units of parallel.micro_batch_tokens={unit}",
            f"set parallel.micro_batch_tokens={_nearest(unit, units_of(plan, ranks) or units_of(plan))}, or another budget",
        )
    units = step_tokens // unit
    whole = math.gcd(*(stage.tokens // unit for stage in plan.by_step.stages))
    fewer = max(number for number in _divisors(whole) if number < ranks)
    smaller = units_of(plan, ranks)
    raise UserError(
        f"a step of {step_tokens} tokens has {_count(units, 'unit')} of parallel.micro_batch_tokens={unit}, which "
        f"{_count(ranks, 'rank')} cannot share equally",
        f"start {_count(fewer, 'rank')}"
        + (f", or set parallel.micro_batch_tokens={_nearest(unit, smaller)}" if smaller else ""),
    )


def units_of(plan: Plan, ranks: int = 1) -> list[int]:
    """Every number of tokens that so many ranks can share all steps in, ascending; none where they can in no way."""
    length = plan.model.sequence_length
    sequences = math.gcd(*(tokens // length for tokens in plan.batch.sizes))
    return [length * share for share in _divisors(sequences // ranks)] if sequences % ranks == 0 else []


def _unit_for(plan: Plan, ranks: int) -> int:
    """The largest unit that so many ranks can share, or the largest of all."""
    return (units_of(plan, ranks) or units_of(plan))[-1]


def _nearest(unit: int, known: list[int]) -> int:
    return min(known, key=lambda other: (abs(other - unit), other))


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _said(units: list[int]) -> str:
    return ", ".join(map(str, units))
