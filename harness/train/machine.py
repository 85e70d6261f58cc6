"""The machine a run is on: device, arithmetic, measured peaks, and the hardware class that must match for bits to match."""

import os
import platform
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch

from harness.errors import UserError
from harness.plan.schema import Plan
from harness.record.provenance import provenance, versions
from harness.revision import REVISION, WORD, speed_class
from harness.train.compiler_paths import unspeakable
from kernels import Arithmetic, precision
from kernels.cpu.brgemm import library

BF16_ISAS = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")  # in the name of a oneDNN limit that leaves bf16 products in
NAMED = ("x86_64", "AMD64")  # whose instruction set says whether bf16 is native; elsewhere a measurement does
GEMM_SIZE = {"cpu": 1024, "cuda": 8192}  # of the square product that measures a peak
MEASURED_S = 0.15  # for how long at least a peak is looked for


@dataclass(frozen=True)
class Machine:
    device: str  # cpu | cuda
    model: str
    isa: str  # CPU capability that torch dispatches to, or the GPU's compute capability
    threads: int
    arithmetic: str  # native | emulated | full
    compiled: bool
    matmul_peak_flops: float  # measured, in the dtype that products run in
    fp32_peak_flops: float  # measured
    memory_bytes_per_s: float  # measured: one elementwise pass over a large fp32 tensor, bytes read plus written
    driver: str
    world_size: int
    bits_by_ranks: bool = True  # whether they depend on how many ranks there are, which the plan says

    @property
    def hardware_class(self) -> str:
        """What must match for bits to match, spelled out so that two classes can be told apart by eye."""
        parts = [self.device, self.model, self.isa, f"{self.threads} threads", self.arithmetic]
        parts += [
            "compiled" if self.compiled else "eager",
            f"torch {torch.__version__}",
            f"python {'.'.join(platform.python_version_tuple()[:2])}",
        ]
        if self.device == "cpu" and self.compiled and not self.brgemm:
            parts.append("no brgemm")
        if self.device == "cuda":
            parts.append(f"triton {versions()['triton']}")
        if self.world_size > 1 and self.bits_by_ranks:
            parts.append(f"{self.world_size} ranks")
        parts.append(f"{WORD}{REVISION}")
        return ", ".join(parts)

    @property
    def speed_class(self) -> str:
        """What must match for seconds to compare."""
        return speed_class(self.hardware_class, self.world_size)

    @property
    def brgemm(self) -> bool:
        """Whether the kernels in C++ run here."""
        return self.device == "cpu" and self.compiled and not library.missing()

    @property
    def peak_flops(self) -> float:
        """The peak of all ranks together, as far as each measured it alone."""
        return self.matmul_peak_flops * self.world_size

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device, torch.cuda.current_device()) if self.device == "cuda" else torch.device("cpu")

    def execution(self, format: str, kept: Collection[str] = ()) -> str:
        """native | emulated: how products of a planned format run here, with operands `kept` in bf16. What is emulated below
        bf16 has exact operands, which bf16 (or fp16) multiplies."""
        if format in precision.FORMATS:
            here = self.device == "cuda" and precision.native(format, kept, _capability(self.isa))
            return "native" if here else "emulated"
        return "emulated" if self.arithmetic == "emulated" else "native"

    def measured_again(self) -> "Machine":
        """The same machine with the larger of the peaks measured then and now: a neighbour can only have lowered them."""
        fp32 = _measure_gemm(torch.float32, GEMM_SIZE[self.device], self.device)
        return self.raised(self.matmul_peak_now(), fp32)

    def matmul_peak_now(self) -> float:
        """FLOP/s, as `matmul_peak_flops`."""
        return _measure_gemm(Arithmetic.of(self.arithmetic).dtype, GEMM_SIZE[self.device], self.device)

    def raised(self, matmul: float, fp32: float = 0.0, memory: float = 0.0) -> "Machine":
        """The same machine where it is known to have reached these rates."""
        return replace(
            self,
            matmul_peak_flops=max(self.matmul_peak_flops, matmul),
            fp32_peak_flops=max(self.fp32_peak_flops, fp32),
            memory_bytes_per_s=max(self.memory_bytes_per_s, memory),
        )

    def as_record(self) -> dict[str, object]:
        """What it is and was measured to reach: nothing of the plan."""
        found = asdict(self)
        del found["bits_by_ranks"]
        return found

    def as_origin(self, words: tuple[str, ...]) -> dict[str, object]:
        """Where figures that `words` asked for were measured, and by which code."""
        return {
            "hardware_class": self.hardware_class, "hardware": self.as_record(), "provenance": provenance(words).content(),
        }  # fmt: skip


def detect(plan: Plan, world_size: int = 1) -> Machine:
    """Looks at this machine and measures it; under a second. Raises: UserError where the plan asks for what is not here."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arithmetic = "full" if plan.precision.format == "fp32" else _bf16_arithmetic(device)
    dtype, size = Arithmetic.of(arithmetic).dtype, GEMM_SIZE[device]
    return Machine(
        device=device,
        model=torch.cuda.get_device_name() if device == "cuda" else cpu_model(),
        isa=_isa(device),
        threads=torch.get_num_threads(),
        arithmetic=arithmetic,
        compiled=_compiled(plan.kernels.compile, device),
        matmul_peak_flops=_gemm_rate(dtype, size, device),
        fp32_peak_flops=_gemm_rate(torch.float32, size, device),
        memory_bytes_per_s=_stream_rate(device),
        driver=_driver() if device == "cuda" else "",
        world_size=world_size,
        bits_by_ranks=plan.parallel.sums == "ranks",
    )


def _bf16_arithmetic(device: str) -> str:
    """`native` where a bf16 GEMM is at least as fast as an fp32 one.

    On x86 the instruction set decides, which cannot change from run to run: with AMX a bf16 product measured 5 times as
    fast as an fp32 one, with AVX512-BF16 2.6 times, without either 100 times as slow. Timing both flipped on a busy
    AVX512-BF16 machine, and with it the bits. Elsewhere a product of each is timed."""
    if device == "cuda":
        return "native"
    if platform.machine() in NAMED:
        allowed = _isa_limit().upper() or "ALL"
        multiplies = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        return "native" if multiplies and any(word in allowed for word in BF16_ISAS) else "emulated"
    return "native" if _gemm_rate(torch.bfloat16, 256, device) >= _gemm_rate(torch.float32, 256, device) else "emulated"


@cache
def _gemm_rate(dtype: torch.dtype, size: int, device: str) -> float:
    """As `_measure_gemm`, once a process."""
    return _measure_gemm(dtype, size, device)


def _measure_gemm(dtype: torch.dtype, size: int, device: str) -> float:
    """FLOP/s of a square product, best of several. Its numbers come from a generator of its own: it may run amid training."""
    own = torch.Generator(device).manual_seed(0)
    a, b = (torch.ones(size, size, device=device).normal_(generator=own).to(dtype) for _ in range(2))
    return 2 * size**3 / _best_seconds(lambda: a @ b, device)


@cache
def _stream_rate(device: str) -> float:
    x = torch.ones(1 << (28 if device == "cuda" else 24), device=device)  # 1 GiB: a GPU's cache holds 64 MiB
    return 2 * x.numel() * x.element_size() / _best_seconds(lambda: torch.add(x, 1.0, out=x), device)


def _best_seconds(work, device: str) -> float:
    """The best of as many repeats as fit, and of three at least: a busy neighbour slows some of them, not the best."""
    best, begun, repeats = float("inf"), time.perf_counter(), 0
    while repeats < 3 or time.perf_counter() - begun < MEASURED_S:
        repeats += 1
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _capability(isa: str) -> tuple[int, int]:
    """(9, 0) of "sm_90", (10, 0) of "sm_100"."""
    number = isa.removeprefix("sm_")
    return int(number[:-1]), int(number[-1])


def _isa(device: str) -> str:
    if device == "cuda":
        return "sm_" + "".join(map(str, torch.cuda.get_device_capability()))
    capability = torch.backends.cpu.get_cpu_capability()
    limit = _isa_limit()
    amx = torch.cpu._is_amx_tile_supported() and not limit
    return capability + (" AMX" if amx else "") + (f" (oneDNN limited to {limit})" if limit else "")


def _isa_limit() -> str:
    """What oneDNN is told not to go beyond, by either of the names it reads; "" when nothing."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""


def compiler_missing() -> str:
    """What `torch.compile` lacks on a CPU, or "" when nothing."""
    if not shutil.which(os.environ.get("CXX", "g++")):
        return "no g++"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "no Python.h"
    if place := unspeakable():
        return f"no compiler that takes the path {place!r}"
    return ""


def _compiled(wanted: str, device: str) -> bool:
    missing = compiler_missing() if device == "cpu" else ""
    if wanted == "on" and missing:
        raise UserError(
            f"kernels.compile=on, but {missing} here",
            "install g++ and the Python headers in a place without blanks or quotes, or use kernels.compile=auto",
        )
    return wanted != "off" and not missing


def _driver() -> str:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def memory_available_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no MemAvailable in /proc/meminfo")


def is_out_of_memory(error: RuntimeError) -> bool:
    """torch has a class for device memory, but only a message for the host's."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def forget_peak_memory(device: str) -> None:
    """What was taken until now no longer counts, on a GPU; the host's resident set has no such switch."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes(device: str) -> int:
    """What this process took at most: device memory on a GPU, resident set on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
