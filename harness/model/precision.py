"""Which precision each FFN of a model multiplies in, from the plan's dials."""

from harness.plan.schema import Precision as PrecisionPlan
from kernels import Arithmetic, Precision, Quantization


class Precisions:
    """`arithmetic`: of everything that is not quantized. A planned format of bf16 or fp32 quantizes nothing."""

    def __init__(self, arithmetic: Arithmetic, plan: PrecisionPlan | None = None):
        self.arithmetic, self.plan = arithmetic, plan or PrecisionPlan()
        self.plain = Precision(arithmetic)
        self.low = self.plain
        if self.plan.format not in ("bf16", "fp32"):
            self.low = Precision(arithmetic, _quantization(self.plan))

    def of_layer(self, layer: int, routed: bool) -> Precision:
        """`routed`: of the routed experts, else of a dense FFN or shared experts."""
        high = layer in self.plan.high_precision_layers or (self.plan.scope == "routed" and not routed)
        return self.plain if high else self.low


def _quantization(plan: PrecisionPlan) -> Quantization:
    recipe = Quantization.recipe(plan.format)
    switched = {"on": True, "off": False}
    return Quantization(
        plan.format,
        stochastic_rounding=switched.get(plan.stochastic_rounding, recipe.stochastic_rounding),
        hadamard=switched.get(plan.hadamard, recipe.hadamard),
        weight_blocks=recipe.weight_blocks if plan.weight_blocks == "auto" else plan.weight_blocks,
        clip=plan.clip,
        keep=tuple(sorted(plan.high_precision_operands)),
        fp8_weight_gradients=plan.weight_gradients == "quantized",
        dither=plan.dither,
        tensor_scale=recipe.tensor_scale if plan.tensor_scale == "auto" else plan.tensor_scale,
    )
