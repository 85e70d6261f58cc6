"""What a plan's precision must satisfy: dials that do not contradict each other, blocks that divide the widths."""

from harness.errors import UserError, nearest
from harness.plan.schema import Plan, Precision

BLOCK = {"fp8": 128, "nvfp4": 16, "mxfp8": 32, "mxfp4": 32}  # kernels/precision.py, which the plan does not know
DITHERED = ("nvfp4", "mxfp4")
OPERANDS = ("input", "weight", "hidden", "gradient", "weight_gradient")


def check_precision(plan: Plan) -> None:
    """Raises: UserError naming both of two dials that contradict each other, or the values and the remedy."""
    p = plan.precision
    if p.format not in BLOCK:
        _refuse_idle_dials(p)
        return
    for name in p.high_precision_operands:
        if name not in OPERANDS:
            raise UserError(f"precision.high_precision_operands names {name!r}", nearest(name, OPERANDS))
    _check_layers(plan)
    _check_contradictions(p)
    _check_tensor_scale(plan)
    _check_blocks(plan)
    if plan.below_bf16 == 0:
        raise UserError(
            f"precision.switch_at={p.switch_at} leaves precision.format={p.format} none of {plan.steps:,} steps",
            f"choose {1 / plan.steps:.2g} or more, or precision.format=bf16",
        )


def _refuse_idle_dials(p: Precision) -> None:
    untouched = Precision(format=p.format, require_native=p.require_native)
    for key, value in vars(p).items():
        if value != getattr(untouched, key):
            raise UserError(
                f"precision.{key}={value} with precision.format={p.format}, which quantizes nothing",
                "choose a lane that ends in -fp8 or -nvfp4, or drop the dial",
            )


def _check_layers(plan: Plan) -> None:
    p, m = plan.precision, plan.model
    if p.scope == "routed" and m.num_experts == 0:
        raise UserError("precision.scope=routed with model.num_experts=0: no expert to quantize", "use precision.scope=ffn")
    known = range(m.layers)
    if odd := [layer for layer in p.high_precision_layers if layer not in known]:
        raise UserError(f"precision.high_precision_layers names layer {odd[0]} of {m.layers}", f"choose from 0..{m.layers - 1}")
    left = set(known) - set(p.high_precision_layers)
    if p.scope == "routed":
        left &= set(m.moe_layers)
    if not left:
        raise UserError(
            f"precision.high_precision_layers={p.high_precision_layers} leaves precision.format={p.format} nothing to quantize",
            "name fewer layers, or use precision.format=bf16",
        )


def _check_contradictions(p: Precision) -> None:
    kept = p.high_precision_operands
    if p.hadamard == "on" and p.format == "fp8":
        raise UserError(
            "precision.hadamard=on with precision.format=fp8, whose weight gradients are not transformed",
            "use hadamard=auto, or nvfp4",
        )
    if p.weight_gradients == "quantized" and "weight_gradient" in kept:
        raise UserError(
            "precision.weight_gradients=quantized with weight_gradient in precision.high_precision_operands, which stays bf16",
            "drop one of them",
        )
    if p.hadamard == "on" and "weight_gradient" in kept:
        raise UserError(
            "precision.hadamard=on with weight_gradient in precision.high_precision_operands: nothing would be transformed for",
            "drop one of them",
        )
    if p.weight_blocks != "auto" and "weight" in kept:
        raise UserError(
            f"precision.weight_blocks={p.weight_blocks} with weight in precision.high_precision_operands, which has no blocks",
            "drop one of them",
        )
    in_bf16 = {"weight_gradient"} if p.format == "fp8" and p.weight_gradients == "auto" else set()
    if p.stochastic_rounding == "on" and {"gradient", "weight_gradient"} - in_bf16 <= set(kept):
        raise UserError(
            f"precision.stochastic_rounding=on with precision.high_precision_operands={kept}: no gradient is rounded",
            "drop one of them",
        )
    if p.dither and (p.format not in DITHERED or "weight" in kept):
        why = "a format that has no E2M1 weights" if p.format not in DITHERED else "weight in precision.high_precision_operands"
        raise UserError(
            f"precision.dither={p.dither} with precision.format={p.format}, {why}", f"use {' or '.join(DITHERED)}, or dither=0"
        )
    if set(OPERANDS) - in_bf16 <= set(kept):
        raise UserError(
            f"precision.high_precision_operands={kept} with precision.format={p.format} leaves nothing to quantize",
            "name fewer operands, or use precision.format=bf16",
        )


def _check_tensor_scale(plan: Plan) -> None:
    p = plan.precision
    if p.tensor_scale != "auto" and p.format != "nvfp4":
        raise UserError(
            f"precision.tensor_scale={p.tensor_scale} with precision.format={p.format}, which scales blocks alone",
            "use tensor_scale=auto, or nvfp4",
        )
    if p.tensor_scale == "expert" and plan.model.num_experts == 0:
        raise UserError(
            "precision.tensor_scale=expert with model.num_experts=0: a dense FFN has one scale a tensor either way",
            "use tensor_scale=auto, or a lane with experts",
        )


def _check_blocks(plan: Plan) -> None:
    p, m, block = plan.precision, plan.model, BLOCK[plan.precision.format]
    widths = {"model.width": m.width}
    if m.num_experts:
        widths["model.expert_width"] = m.expert_width
    dense = m.num_experts == 0 or len(m.moe_layers) < m.layers
    if dense and p.scope == "ffn":
        widths["model.ffn_width"] = m.ffn_width
    for key, width in widths.items():
        if width % block:
            raise UserError(
                f"{key}={width} is no multiple of {block}, the block of precision.format={p.format}",
                f"choose a multiple of {block}" + (", or nvfp4, whose blocks are 16" if block > 16 else ""),
            )
