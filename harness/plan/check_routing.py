"""Which balancing rules and layer patterns go together; every refusal names the values and the remedy.

What a router cannot be combined with it says itself: `harness/plan/parts/router`.
"""

from harness.errors import UserError
from harness.plan.schema import Plan


def check_routing(plan: Plan) -> None:
    """Raises: UserError for the first rule that does not hold."""
    if plan.model.num_experts == 0:
        _check_dense(plan)
        return
    _check_layers(plan)
    _check_router(plan)
    _check_choice(plan)
    _check_bias(plan)
    _check_losses(plan)
    _check_capacity(plan)


def _check_dense(plan: Plan) -> None:
    m = plan.model
    if m.top_k or m.shared_experts or m.leading_dense_layers or m.moe_every != 1:
        raise UserError(
            "a dense model (num_experts=0) with MoE keys set",
            "set top_k, shared_experts and leading_dense_layers to 0, moe_every to 1",
        )
    if m.expert_width or plan.gains.expert_output != 1:
        key, value, off = ("model.expert_width", m.expert_width, 0) if m.expert_width else (
            "gains.expert_output", plan.gains.expert_output, 1
        )  # fmt: skip
        raise UserError(f"{key}={value} in a dense model", f"use {key}={off}")
    for key, off in (("rule", "none"), ("rate", 0), ("schedule", "constant")):
        if (value := getattr(plan.balance, key)) != off:
            raise UserError(f"balance.{key}={value} in a dense model", "use balance=none")
    for key in (*plan.balance.losses, *(["capacity_factor"] if plan.balance.capacity_factor else [])):
        raise UserError(f"balance.{key}={getattr(plan.balance, key)} in a dense model", "use balance=none")
    if plan.optim.expert_gradient_scale != "none":
        raise UserError(
            f"optim.expert_gradient_scale={plan.optim.expert_gradient_scale} in a dense model",
            "use optim.expert_gradient_scale=none",
        )


def _check_layers(plan: Plan) -> None:
    m = plan.model
    if not 0 <= m.leading_dense_layers < m.layers:
        raise UserError(
            f"model.leading_dense_layers={m.leading_dense_layers} of model.layers={m.layers}", "leave at least one MoE layer"
        )
    after = m.layers - m.leading_dense_layers
    if not 1 <= m.moe_every <= after:
        raise UserError(
            f"model.moe_every={m.moe_every} with {after} layers after model.leading_dense_layers={m.leading_dense_layers}",
            f"choose 1 (every layer) to {after}",
        )
    if len(m.moe_layers) < m.layers and m.ffn_width < 1:
        dense = "leading dense layers" if m.leading_dense_layers else f"model.moe_every={m.moe_every}"
        raise UserError(f"model.ffn_width={m.ffn_width} with {dense}", "set model.ffn_width")


def _check_router(plan: Plan) -> None:
    m = plan.model
    if not 1 <= m.top_k <= m.num_experts:
        raise UserError(f"model.top_k={m.top_k} of model.num_experts={m.num_experts}", f"choose top_k in 1..{m.num_experts}")
    if m.expert_width < 1:
        raise UserError(f"model.expert_width={m.expert_width}", "an expert needs a width of at least 1")


def _check_choice(plan: Plan) -> None:
    """Where every expert is in every top-k set, or nearly, there is nothing to balance."""
    m, b, most = plan.model, plan.balance, plan.health.collapse_load
    if m.top_k == m.num_experts:
        on = {f"balance.{key}": getattr(b, key) for key in ("aux_loss_coef", "sequence_loss_coef") if getattr(b, key)}
        on |= {"balance.rule": b.rule} if b.rule != "none" else {}
        on |= {"optim.expert_gradient_scale": s} if (s := plan.optim.expert_gradient_scale) != "none" else {}
        for key, value in on.items():
            raise UserError(
                f"{key}={value} with model.top_k={m.top_k} of model.num_experts={m.num_experts}: the load is even by itself",
                "use balance=none and optim.expert_gradient_scale=none, or a smaller top_k",
            )
    elif m.top_k >= most * m.num_experts:
        raise UserError(
            f"model.top_k={m.top_k} of model.num_experts={m.num_experts}: an even load is {m.top_k / m.num_experts:.0%} of all "
            f"top-k sets, and health stops a run from health.collapse_load={most} on",
            "choose a smaller top_k, or health.collapse_load=1 with unranked=true",
        )


def _check_bias(plan: Plan) -> None:
    b = plan.balance
    if b.rule == "none":
        if b.schedule != "constant":
            raise UserError(
                f"balance.schedule={b.schedule} with balance.rule=none, which has no rate", "use balance=bias, or leave it out"
            )
        if b.rate:
            raise UserError(
                f"balance.rate={b.rate} with balance.rule=none, which has no rate", "use balance=bias, or balance=none"
            )
        return
    if b.rate <= 0:
        raise UserError(f"balance.rule=bias with balance.rate={b.rate}", "choose a rate above 0, or balance=none")
    if b.schedule == "warmup" and plan.schedule.warmup_share == 0:
        raise UserError(
            "balance.schedule=warmup with schedule.warmup_share=0",
            "set schedule.warmup_share, or use balance.schedule=constant",
        )


def _check_losses(plan: Plan) -> None:
    for key, value in plan.balance.losses.items():
        if key == "sequence_loss_coef" and plan.model.sequence_length < 2:
            raise UserError(
                f"balance.{key}={value} with model.sequence_length={plan.model.sequence_length}: one token cannot be balanced",
                "use balance.aux_loss_coef, over all tokens of the step, or longer sequences",
            )


def _check_capacity(plan: Plan) -> None:
    m, factor = plan.model, plan.balance.capacity_factor
    if not factor:
        return
    tokens = plan.parallel.micro_batch_tokens or max(plan.batch.sizes)
    most, rows = m.num_experts / m.top_k, plan.expert_capacity(tokens)  # `most`: one expert in every top-k
    if rows >= tokens:
        raise UserError(
            f"balance.capacity_factor={factor} never drops a row: it lets an expert have {rows:,} of a micro-batch's "
            f"{tokens:,} tokens (model.num_experts={m.num_experts}, model.top_k={m.top_k})",
            f"choose less than {most:g}, or 0 for no capacity" if most > 1 else "use balance.capacity_factor=0",
        )
