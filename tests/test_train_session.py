"""Which backend of the expert MLP a session takes."""

from dataclasses import replace

import micro
import pytest

from harness.errors import UserError
from harness.plan.compose import compose
from harness.train import machine
from harness.train.session import expert_backend


def chosen(wanted="auto", **changes):
    plan = compose([*micro.MOE, f"kernels.backend={wanted}"]).plan
    return expert_backend(plan, replace(machine.detect(plan), **changes))


@pytest.mark.parametrize(
    "device, arithmetic, compiled, expected",
    [
        ("cpu", "native", True, "inductor"),
        ("cpu", "full", True, "inductor"),
        ("cpu", "native", False, "torch"),
        ("cpu", "emulated", True, "torch"),
        ("cuda", "native", True, "triton"),
    ],
)
def test_auto_takes_what_the_machine_can_run(device, arithmetic, compiled, expected):
    assert chosen(device=device, arithmetic=arithmetic, compiled=compiled) == expected


@pytest.mark.parametrize("wanted", ["reference", "torch"])
def test_a_planned_backend_is_taken(wanted):
    assert chosen(wanted, device="cpu") == wanted


@pytest.mark.parametrize(
    "wanted, changes, says",
    [
        ("triton", dict(device="cpu"), "no CUDA device"),
        ("torch", dict(device="cuda"), "runs on a CPU"),
        ("inductor", dict(device="cuda"), "runs on a CPU"),
        ("inductor", dict(device="cpu", compiled=False), "nothing is compiled"),
        ("inductor", dict(device="cpu", compiled=True, arithmetic="emulated"), "bf16 is emulated"),
    ],
)
def test_a_backend_that_cannot_run_here_is_refused_with_what_does(wanted, changes, says):
    with pytest.raises(UserError) as error:
        chosen(wanted, **changes)
    assert says in str(error.value) and "kernels.backend=auto" in str(error.value)
