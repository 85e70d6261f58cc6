"""Inputs, dials and observations of quantized expert MLPs: for the tests of every backend below bf16."""

from dataclasses import replace

import torch
from expert_inputs import inputs

from kernels import Arithmetic, Precision, Quantization
from kernels.cpu import expert_mlp
from kernels.precision import MX

WIDTH, EXPERT_WIDTH = 256, 128  # two blocks of fp8's 128 in one of the products
ROWS = 20  # no multiple of 16


def turned_dials(format):
    """{name: dials}: the recipe, and every dial turned alone."""
    recipe = Quantization.recipe(format)
    if format in MX:  # what is theirs: the rest goes through the code of nvfp4
        dials = {
            "recipe": {}, "other weight blocks": dict(weight_blocks="1d" if recipe.weight_blocks == "2d" else "2d"),
            "input kept": dict(keep=("input",)), "weight_gradient kept": dict(keep=("weight_gradient",)),
            "other transform": dict(hadamard=not recipe.hadamard),
        }  # fmt: skip
        return {name: replace(recipe, **dial) for name, dial in dials.items()}
    turned = {
        "recipe": {},
        "other rounding of gradients": dict(stochastic_rounding=not recipe.stochastic_rounding),
        "1d weight blocks": dict(weight_blocks="1d"),
        "clip": dict(clip=0.8),
        **{f"{operand} kept": dict(keep=(operand,)) for operand in ("input", "weight", "hidden", "gradient")},
    }
    if format == "fp8":
        turned |= {"weight gradients quantized": dict(fp8_weight_gradients=True)}
    if format == "nvfp4":
        turned |= {"no hadamard": dict(hadamard=False), "weight_gradient kept": dict(keep=("weight_gradient",))}
        turned |= {"tensor scales of experts": dict(tensor_scale="expert")}
    return {name: replace(recipe, **dial) for name, dial in turned.items()}


def precision(dials, arithmetic="full"):
    return Precision(Arithmetic.of(arithmetic), dials if isinstance(dials, Quantization) else Quantization.recipe(dials))


def drawn(activation, tokens=ROWS, experts=4, top_k=2, kind="distinct", seed=0, width=WIDTH, expert_width=EXPERT_WIDTH):
    """The five tensors of `expert_inputs.inputs`, and dy_TD."""
    tensors = inputs(tokens, width, expert_width, experts, top_k, activation, kind, seed)
    return tensors, torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed + 1000))


def in_float64(tensors, dy_TD):
    return tuple(t.double() if t.is_floating_point() else t for t in tensors), dy_TD.double()


def watch_products(monkeypatch):
    """A list that fills with (left operand, right operand) of every product of the CPU backends, in their order: up, down;
    then backward dH, dX, dW of up, dW of down."""
    seen = []
    for name in ("product", "weight_gradient"):
        original = getattr(expert_mlp, name)

        def watched(make, left, right, *rest, original=original):
            seen.append((left, right))
            return original(make, left, right, *rest)

        monkeypatch.setattr(expert_mlp, name, watched)
    return seen
