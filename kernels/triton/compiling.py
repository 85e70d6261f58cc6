"""Compiles kernels side by side, before anything is timed: one after the other each takes a second or two."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import triton
from triton.runtime.jit import JITFunction

from kernels.triton.metadata import invert_kernel

WORKERS = 16  # at most; the assembler is a process of its own, the rest shares Python's lock


@contextmanager
def compiling() -> Iterator[None]:
    """Within, a launch compiles its kernel in the background and runs nothing, so that outputs hold what was in memory; at the
    end all are compiled, or failed: those fail again where they are launched. What torch reads by runs. In the interpreter,
    which compiles nothing, launches run as ever. Not for several threads at once."""
    if triton.knobs.runtime.interpret:
        yield
        return
    launch = JITFunction.run

    def compile_only(kernel, *values, grid, warmup, **named):
        return launch(kernel, *values, grid=grid, warmup=kernel is not invert_kernel, **named)

    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool, triton.AsyncCompileMode(pool, ignore_errors=True):
        JITFunction.run = compile_only
        try:
            yield
        finally:
            JITFunction.run = launch
