"""What the router of a model shows besides its load (`harness/record/load.py`)."""

from torch import nn


def bias_ranges(model: nn.Module) -> list[float]:
    """max - min of the selection bias, per MoE layer; 0 for routers without one."""
    routers = [m for name, m in model.named_modules() if name.endswith("router")]
    return [float(m.bias.max() - m.bias.min()) if hasattr(m, "bias") else 0.0 for m in routers]
