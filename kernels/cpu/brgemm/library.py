"""Builds the C++ kernels beside this file with the machine's compiler and loads them.

The shared object lies in the folder of compiled code (`TORCHINDUCTOR_CACHE_DIR`, or where Inductor keeps its own) under a hash
of sources, flags, compiler and torch, so that a change of any is another file. Instruction sets are named, never `native`:
two machines of one class run the same code.
"""

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

SOURCES = ("attention.cpp", "expert_mlp.cpp", "muon.cpp")
HERE = Path(__file__).parent
FLAGS = ("-std=c++20", "-O3", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
BF16 = ("-mavx512bf16",)
ISAS = {"AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512"), "AVX2": ("-march=x86-64-v3",)}
SLOWEST_S = 300.0  # of a compilation, which takes seconds


class Unavailable(ValueError):
    """The kernels cannot be built or run here; says why."""


@cache
def missing() -> str:
    """Why the kernels cannot run here, or ""."""
    try:
        library()
    except Unavailable as error:
        return str(error)
    return ""


@cache
def library() -> ctypes.CDLL:
    """
    Raises:
        Unavailable: another instruction set, no compiler that takes the sources, or products that are wrong or not there.
    """
    path = _folder() / f"brgemm-{_digest()}.so"
    try:
        loaded = _loaded(path)
    except OSError:  # not there yet, or damaged
        _build(path)
        try:
            loaded = _loaded(path)
        except OSError as error:
            raise Unavailable(f"the built kernels do not load: {error}") from error
    if not loaded.multiplies_full() or (_flags_of_bf16() and not loaded.multiplies_native()):
        raise Unavailable("torch has no brgemm for this processor")
    return loaded


def _loaded(path: Path) -> ctypes.CDLL:
    """
    Raises:
        OSError: no file, or one that does not load.
    """
    loaded = ctypes.CDLL(str(path))
    for name in ("multiplies_full", "multiplies_native"):
        getattr(loaded, name).restype = ctypes.c_bool
    return loaded


def _folder() -> Path:
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or Path(tempfile.gettempdir()) / f"torchinductor_{os.getuid()}")


@cache
def _flags() -> tuple[str, ...]:
    capability = torch.backends.cpu.get_cpu_capability()
    if platform.machine() not in ("x86_64", "AMD64") or capability not in ISAS:
        raise Unavailable(f"no kernels for {platform.machine()} with {capability}, but for x86-64 with {' or '.join(ISAS)}")
    return (*FLAGS, *ISAS[capability], *_flags_of_bf16())


@cache
def multiplies_bf16() -> bool:
    """Whether `native` is an arithmetic of the kernels here; a product of bf16 elsewhere ends the process."""
    return not missing() and library().multiplies_native()


def _flags_of_bf16() -> tuple[str, ...]:
    here = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return BF16 if here else ()


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


@cache
def _digest() -> str:
    digest = hashlib.sha256(repr((_flags(), torch.__version__, _run([_compiler(), "--version"]))).encode())
    for path in sorted((*HERE.glob("*.cpp"), *HERE.glob("*.h"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _build(path: Path) -> None:
    """
    Raises:
        Unavailable: the compiler fails, or the folder takes no file.
    """
    root = Path(torch.__file__).parent
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / path.name
            _run([
                _compiler(), *_flags(), f"-I{root / 'include'}", *(str(HERE / name) for name in SOURCES), "-o", str(built),
                f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10",
            ])  # fmt: skip
            built.replace(path)  # whole or not at all: another process may build it too
    except OSError as error:
        raise Unavailable(f"the kernels cannot be built in {path.parent}: {error}") from error


def _run(command: list[str]) -> str:
    """
    Raises:
        Unavailable: it is not there, or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SLOWEST_S, check=True)
    except subprocess.CalledProcessError as error:
        first = next((line for line in error.stderr.splitlines() if "error" in line), error.stderr[:200])
        raise Unavailable(f"{command[0]} does not compile the kernels: {first}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} does not run: {error}") from error
    return done.stdout
