"""Process-wide settings: those under which the same plan, seed, software and hardware class give the same bits, and the one
that keeps a CPU's tensors from being mapped anew at every step."""

import ctypes
import hashlib
import os
import sys
from pathlib import Path

from harness.data.cache import cache_folder
from harness.train.compiler_paths import find_torch_plainly, plain

# How often a thread of torch's OpenMP, which compiled code shares, looks for work before it sleeps. One that spins on holds the
# core that the other is waiting for, once another program wants one too: harness/README.md, "On a busy machine".
SPINS = "3000"
SPINNING = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}


def set_environment() -> None:
    """Before torch is imported: libraries read these once."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")  # else MKL picks its own thread count from call to call
    os.environ.setdefault("OMP_DYNAMIC", "FALSE")
    # oneDNN keeps a compiled primitive for each product and row count; by default the 1,024 used last
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    if not os.environ.keys() & SPINNING:
        os.environ["GOMP_SPINCOUNT"] = SPINS  # it would win over OMP_WAIT_POLICY
    # compiled code outlives a reboot, so that only the first run of a plan on a machine waits for the compiler
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(plain(compiled_folder())))
    find_torch_plainly()


def compiled_folder() -> Path:
    """Where compiled code is kept, apart for every state of `kernels/`: Inductor's cache does not see that the shapes a custom
    operator promises have changed, and would run a graph that was compiled for the old ones."""
    digest = hashlib.sha256()
    kernels = Path(__file__).resolve().parents[2] / "kernels"
    for path in sorted(path for kind in ("*.py", "*.cpp", "*.h") for path in kernels.rglob(kind)):
        digest.update(path.read_bytes())
    return cache_folder() / "compiled" / digest.hexdigest()[:16]


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed blocks instead of returning them to the kernel: each use of a returned one faults its pages in
    again. A step of tiny-moe-16e made 4,129 minor faults without this and none with it; the backward of 64 experts of 768 x 384
    took 114 ms with blocks above 32 MiB returned and 75 without. No bits depend on it."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc; musl has none
        m_trim_threshold, m_mmap_max = -1, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def set_torch() -> None:
    import torch

    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    # else cuBLAS may add the partial sums of a long inner dimension in bf16: accumulation is fp32
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    if torch.cuda.is_available():
        # Inductor times several configurations of a GPU reduction and takes the fastest, each of which sums in another order
        import torch._inductor.config  # takes a second, and a CPU needs nothing of it

        torch._inductor.config.deterministic = True
    else:
        # else torch.compile starts processes that wait for Triton's work: the first imports torch, in seconds of a core
        os.environ.setdefault("TORCH_WARM_POOL", "0")
