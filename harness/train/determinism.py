"""Settings under which the same plan, seed, software and hardware class give the same bits."""

import os

from harness.data.artifact import cache_folder


def set_environment() -> None:
    """Before torch is imported: libraries read these once."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")  # else MKL picks its own thread count from call to call
    os.environ.setdefault("OMP_DYNAMIC", "FALSE")
    # compiled code outlives a reboot, so that only the first run of a plan on a machine waits for the compiler
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))


def set_torch() -> None:
    import torch

    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
