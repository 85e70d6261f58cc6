"""What the harness finds out about a machine, and what it refuses."""

import platform
from dataclasses import replace

import micro
import pytest
import torch

from harness.errors import UserError
from harness.plan.compose import compose
from harness.revision import REVISION
from harness.train import machine


@pytest.fixture
def rates(monkeypatch):
    """Sets what a bf16 and an fp32 product measure here, in FLOP/s."""

    def measure(bf16, fp32):
        monkeypatch.setattr(machine, "_gemm_rate", lambda dtype, size, device: bf16 if dtype == torch.bfloat16 else fp32)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")  # x86 goes by its instruction set
    monkeypatch.setattr(machine.library, "missing", lambda: "")  # which remembers what it once found
    return measure


def test_a_machine_whose_bf16_is_slow_emulates_it_in_fp32_as_a_class_of_its_own(rates):
    plan = compose(micro.MOE).plan
    rates(2e9, 223e9)
    slow = machine.detect(plan)
    assert (slow.arithmetic, slow.execution("bf16"), slow.matmul_peak_flops) == ("emulated", "emulated", 223e9)
    rates(900e9, 223e9)
    fast = machine.detect(plan)
    assert (fast.arithmetic, fast.execution("bf16"), fast.matmul_peak_flops) == ("native", "native", 900e9)
    assert slow.hardware_class != fast.hardware_class


@pytest.mark.parametrize(
    "amx, bf16, limit, expected",
    [
        (True, True, None, "native"),
        (False, True, None, "native"),
        (False, False, None, "emulated"),
        (True, True, "AVX2", "emulated"),
        (True, True, "AVX512_CORE_VNNI", "emulated"),
        (True, True, "AVX512_CORE_BF16", "native"),
        (True, True, "AVX512_CORE_AMX", "native"),
    ],
)
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize("bf16_flops", [1e9, 900e9])
def test_on_x86_the_instruction_set_decides_whatever_a_busy_machine_measures(
    rates, monkeypatch, amx, bf16, limit, expected, name, bf16_flops
):
    rates(bf16_flops, 223e9)
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    for either in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(either, raising=False)
    if limit:
        monkeypatch.setenv(name, limit)
    found = machine.detect(compose(micro.MOE).plan)
    assert found.arithmetic == expected and (f"limited to {limit}" in found.hardware_class) == bool(limit)


def test_a_peak_measured_again_only_rises(rates, monkeypatch):
    rates(2e9, 223e9)
    first = machine.detect(compose(micro.MOE).plan)
    for measured, kept in ((150e9, 223e9), (240e9, 240e9)):
        monkeypatch.setattr(machine, "_measure_gemm", lambda *_, measured=measured: measured)
        again = first.measured_again()
        assert again.matmul_peak_flops == kept and again.hardware_class == first.hardware_class


def test_an_fp32_plan_is_native_everywhere(rates):
    rates(2e9, 223e9)
    found = machine.detect(compose([*micro.MOE, "precision.format=fp32"]).plan)
    assert (found.arithmetic, found.execution("fp32"), found.matmul_peak_flops) == ("full", "native", 223e9)


def test_compilation_that_is_asked_for_and_impossible_is_refused(rates, monkeypatch):
    rates(2e9, 223e9)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="kernels.compile=on, but no g"):
        machine.detect(compose([*micro.MOE, "kernels.compile=on"]).plan)
    assert "eager" in machine.detect(compose([*micro.MOE, "kernels.compile=auto"]).plan).hardware_class


def test_compilation_follows_the_plan_where_it_is_possible(rates, monkeypatch):
    rates(2e9, 223e9)
    monkeypatch.setattr(machine, "compiler_missing", lambda: "")
    classes = {how: machine.detect(compose([*micro.MOE, f"kernels.compile={how}"]).plan) for how in ("auto", "on", "off")}
    assert [found.compiled for found in classes.values()] == [True, True, False]


def test_missing_python_headers_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/g++")
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: str(tmp_path))
    assert machine.compiler_missing() == "no Python.h"


def test_the_hardware_class_names_everything_that_can_move_bits(rates):
    rates(2e9, 223e9)
    here = machine.detect(compose(micro.MOE).plan)
    parts = here.hardware_class.split(", ")
    assert parts[0] == "cpu" and f"{torch.get_num_threads()} threads" in parts and f"torch {torch.__version__}" in parts
    assert ".".join(platform.python_version_tuple()[:2]) in parts[-2] and parts[-1] == f"revision {REVISION}"
    for change in ({"threads": here.threads + 1}, {"isa": "other"}, {"model": "other"}, {"compiled": True}, {"world_size": 2}):
        assert replace(here, **change).hardware_class != here.hardware_class
    for change in ({"matmul_peak_flops": 1.0}, {"memory_bytes_per_s": 1.0}):
        assert replace(here, **change).hardware_class == here.hardware_class


@pytest.mark.parametrize(
    "changes, missing, said",
    [
        (dict(compiled=True), "", False),
        (dict(compiled=True), "g++ does not run", True),
        (dict(compiled=False), "g++ does not run", False),  # "eager" says it
        (dict(compiled=True, device="cuda"), "g++ does not run", False),
    ],
)
def test_the_hardware_class_says_that_kernels_in_c_are_missing_where_they_could_have_run(
    rates, monkeypatch, changes, missing, said
):
    rates(2e9, 223e9)
    monkeypatch.setattr(machine.library, "missing", lambda: missing)
    here = replace(machine.detect(compose(micro.MOE).plan), **changes)
    assert ("no brgemm" in here.hardware_class.split(", ")) == said
    assert here.brgemm == (here.compiled and here.device == "cpu" and not missing)


def test_a_plan_that_needs_more_memory_than_there_is_says_what_to_turn(monkeypatch, tmp_path, capsys):
    import harness.launch.starting_plan

    monkeypatch.setattr(harness.launch.starting_plan, "memory_available_bytes", lambda device: 100 << 20)
    assert micro.speedrun(tmp_path) == 2
    said = capsys.readouterr().err
    assert "0.1 GiB are free here" in said and "parallel.micro_batch_tokens" in said
    assert not list(tmp_path.rglob("identity.json"))
