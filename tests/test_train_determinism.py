"""Process-wide settings. And no training step calls an operator that is not deterministic on CUDA: seen on a CPU, by listening
to what is dispatched."""

from pathlib import Path

import micro
import processes
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.record.provenance import THREADS
from harness.train.determinism import SPINS, compiled_folder, set_torch
from kernels.triton import metadata

# Operators without a deterministic algorithm on CUDA (torch.use_deterministic_algorithms): the strict mode refuses them at the
# call. `cumsum` counts for floating point only.
REFUSED_ON_CUDA = (
    "adaptive_avg_pool", "adaptive_max_pool", "avg_pool3d_backward", "bincount.weights", "ctc_loss", "cumsum.float",
    "embedding_bag.max", "fractional_max_pool", "grid_sampler", "histc", "kthvalue", "max_pool3d_with_indices_backward",
    "max_unpool", "median", "multilabel_margin_loss", "nll_loss2d", "put_", "reflection_pad", "replication_pad", "resize_",
    "scatter_reduce", "upsample_",
)  # fmt: skip


class Listener(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.heard = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        floating = bool(args) and torch.is_tensor(args[0]) and args[0].is_floating_point()
        if name.startswith("cumsum") and floating:
            name = "cumsum.float"
        if name.startswith("bincount") and len(args) > 1 and args[1] is not None:
            name = "bincount.weights"
        self.heard.add(name)
        return func(*args, **(kwargs or {}))


def refused(heard):
    return sorted(name for name in heard if name.startswith(REFUSED_ON_CUDA))


@pytest.mark.parametrize(
    "lane, words",
    [
        (micro.MOE, []),
        (micro.MOE, ["model.router=hash", "balance=none"]),
        (micro.MOE, ["model.shared_experts=1", "parallel.activation_checkpointing=true", "optim.clip_norm=1.0"]),
        (micro.DENSE, ["optim=adamw"]),
    ],
)
def test_a_training_step_calls_nothing_that_cuda_would_refuse(lane, words):
    session = micro.session(*words, lane=lane)
    with Listener() as listener:
        session.step(0, measured=True)
    assert {"embedding_dense_backward", "mm"} <= listener.heard  # the listener hears the backward too
    assert refused(listener.heard) == []


def test_the_routing_metadata_of_the_gpu_kernels_calls_nothing_that_cuda_would_refuse(monkeypatch):
    monkeypatch.setattr(metadata, "invert_kernel", {(1,): lambda *_, **__: None})  # by its grid: no kernel runs here
    with Listener() as listener:
        metadata.routes(metadata.order(torch.tensor([[0, 2], [1, 2]]), 3), 16)
    assert "sort" in listener.heard and refused(listener.heard) == []


def test_the_listener_hears_an_operator_that_is_refused():
    with Listener() as listener:
        torch.ones(3).cumsum(0), torch.ones(3, dtype=torch.int64).cumsum(0), torch.ones(4).histc(2)
    assert refused(listener.heard) == ["cumsum.float", "histc"]


def test_compiled_code_is_kept_apart_for_every_state_of_the_kernels(monkeypatch):
    before = compiled_folder()
    assert compiled_folder() == before
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path.name == "routing.py" else b""))
    assert compiled_folder() != before and compiled_folder().parent == before.parent


def test_on_a_cpu_the_compiler_starts_no_processes_for_triton(monkeypatch):
    from torch._inductor import async_compile  # takes seconds, and who collects tests needs nothing of it

    started = []
    monkeypatch.setattr(async_compile.AsyncCompile, "process_pool", lambda: started.append(1))
    monkeypatch.setattr(async_compile.AsyncCompile, "wakeup", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(async_compile, "get_compile_threads", lambda: 2)  # of one core it would start none
    monkeypatch.setenv("TORCH_WARM_POOL", "1")
    async_compile.maybe_warm_pool()
    assert started
    monkeypatch.delenv("TORCH_WARM_POOL")
    set_torch()
    async_compile.maybe_warm_pool()
    assert len(started) == 1


# A verb that only brings in torch, whose OpenMP then says what it was told.
TELLS = """
import sys
from harness.__main__ import main
import harness.verbs.speedrun as verb
def brings_in_torch(words):
    assert "torch" not in sys.modules
    import torch
    print(torch.get_num_threads())
    return 0
verb.main = brings_in_torch
sys.exit(main(["speedrun"]))
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "own, told, policy",
    [
        ({}, SPINS, "PASSIVE"),
        ({"GOMP_SPINCOUNT": "7"}, "7", "PASSIVE"),
        ({"OMP_WAIT_POLICY": "passive"}, "0", "PASSIVE"),
        ({"OMP_WAIT_POLICY": "active"}, "30000000000", "ACTIVE"),
    ],
)
def test_the_openmp_of_torch_spins_as_we_say_or_as_the_user_does(own, told, policy, monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    ran = micro.python(TELLS, OMP_DISPLAY_ENV="VERBOSE", OMP_NUM_THREADS="2", **own)
    assert ran.returncode == 0 and ran.stdout.split() == ["2"], ran.stderr
    assert f"GOMP_SPINCOUNT = '{told}'" in ran.stderr and f"OMP_WAIT_POLICY = '{policy}'" in ran.stderr


@pytest.mark.slow
def test_how_threads_wait_changes_no_bits_and_is_in_the_record(tmp_path):
    code = f"""
import sys
sys.path.insert(0, "tests")
import micro
from pathlib import Path
{processes.NO_FIGURES}
micro.run(Path(sys.argv[1]), "budget.tokens=2048", "validation.steps=[]")
"""
    found = {}
    for name, value in (("GOMP_SPINCOUNT", "0"), ("OMP_WAIT_POLICY", "active")):
        ran = micro.python(code, str(tmp_path / name), OMP_NUM_THREADS="2", **{name: value})
        assert ran.returncode == 0, ran.stderr
        record = micro.record(micro.the_folder(tmp_path / name))
        assert record.provenance.threads[name] == value and record.provenance.threads["OMP_NUM_THREADS"] == "2"
        found[name] = record.determinism.content(), record.hardware_class
    assert found["GOMP_SPINCOUNT"] == found["OMP_WAIT_POLICY"]
