"""Keys of numbers: in which a model computes, by what its signals are multiplied, and what its logits are scored against."""

from dataclasses import dataclass

from harness.plan.marks import SWITCH, free, frozen, unhashed


@dataclass
class Precision:
    """The precision of matrix products; below bf16 of those of the FFN only. `auto` is what the format's published recipe does:
    nvfp4 rounds gradients stochastically and quantizes the factors of weight gradients, transformed; fp8 rounds to
    nearest and leaves these factors in bf16; both have square weight blocks. mxfp4 does as nvfp4; mxfp8 rounds all to
    nearest, with weight blocks along each reduction. nvfp4 has one tensor scale of all experts
    of a layer, where others have one of each (`kernels/precision.py` says of which tensors). An operand that is to
    stay bf16, weight gradients too, is named in high_precision_operands and nowhere else."""

    format: str = frozen("bf16", among=("bf16", "fp32", "fp8", "nvfp4", "mxfp8", "mxfp4"))
    scope: str = frozen("ffn", among=("ffn", "routed"), later=True)  # every FFN, or routed experts only
    high_precision_layers: list[int] = frozen([], later=True)  # whose FFN stays bf16, counted from 0
    stochastic_rounding: str = free("auto", among=SWITCH, later=True)  # of gradients
    hadamard: str = free("auto", among=SWITCH, later=True)  # before the factors of weight gradients are quantized
    weight_gradients: str = free("auto", among=("auto", "quantized"), later=True)  # their factors, in fp8 too, along the tokens
    weight_blocks: str = free("auto", among=("auto", "2d", "1d"), later=True)
    tensor_scale: str = free("auto", among=("auto", "layer", "expert"), later=True)  # what shares nvfp4's fp32 scale
    clip: float = free(1.0, least=0.01, most=1, later=True)  # share of a block's largest magnitude that its scale is made for
    # share of groups of four weights, of nvfp4 and mxfp4, with noise of a quarter added before they are rounded, each step anew
    dither: float = free(0.0, least=0, most=1, later=True)
    high_precision_operands: list[str] = free([], later=True)  # of input, weight, hidden, gradient, weight_gradient: stay bf16
    switch_at: float = frozen(1.0, least=0, most=1, later=True)  # share of the budget after which every FFN is bf16; 1: never
    require_native: bool = unhashed(False)  # refuses a machine that emulates the format


@dataclass
class Gains:
    """Constant factors that move a signal to where a format resolves it."""

    embedding: float = free(1.0, least=1e-6, most=1e6, later=True)  # on the embedding's output
    logits: float = free(1.0, least=1e-6, most=1e6, later=True)  # on the head's
    expert_output: float = free(1.0, least=1e-6, most=1e6, later=True)  # on the routed experts' sum
    softcap: float = free(0.0, least=0, most=1e6, later=True)  # c tanh(logits / c), after the gain; 0: none


@dataclass
class Ahead:
    """Targets further ahead than the next token, of the same logits (harness/optim/ahead.py)."""

    # of the 2nd, 3rd, ... next token beside 1 of the next one, at the start of the run; none is off
    weights: list[float] = free([], least=0, later=True)
    until: float = free(1.0, least=0, most=1, later=True)  # share of the token budget at which they have fallen to 0
