"""Measures tile sizes of the Triton kernels on the GPU at hand and writes them into the table that is committed.

usage: python -m harness tune [set=gpu|cpu|toy] [shape=T,D,F,E,K,swiglu ...] [table=FILE]
       make tune
       make tune SET="shape=65536,768,384,64,6,swiglu"

Every kernel is timed with a few tile sizes at each shape (default: the shapes of `make bench`); those that are right and
fastest go to kernels/triton/configurations.json, keyed by device, capability, dtype, D, F, E, K and Triton's version. A shape
that the table has is left alone, so a call that was broken off goes on; delete its line to measure it anew. A run looks its
configuration up and never tunes: that would change bits. Without a GPU, Triton's interpreter rehearses this on toy shapes and
writes to runs/tune-rehearsal.json.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

from harness.bench import SETS
from harness.launch.options import PATH, Kind, Word, Words, choice

SUMMARY = "tile sizes of the GPU kernels, measured into the committed table"


def main(arguments: list[str]) -> int:
    shape = Kind(_shape, "T,D,F,E,K,swiglu (or relu2), whole numbers")
    own = Words("tune", Word("set", choice(*SETS)), Word("shape", shape, every=True), Word("table", PATH)).read(arguments)
    import torch

    if not torch.cuda.is_available() and "TRITON_INTERPRET" not in os.environ:
        print("no CUDA device here: rehearsing in Triton's interpreter, whose milliseconds mean nothing", flush=True)
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported: needs a fresh process
        os.execv(sys.executable, [sys.executable, "-m", "harness", "tune", *arguments])
    return _tune(own)


def _tune(own: SimpleNamespace) -> int:
    import torch

    from harness.bench import shapes
    from kernels.activation import ACTIVATIONS
    from kernels.triton import configuration
    from kernels.triton.expert_mlp import gpu_of
    from kernels.triton.expert_mlp import key as key_of
    from kernels.triton.tuning import Problem, Space, tune

    on_gpu = torch.cuda.is_available()
    wanted = own.shape or shapes.SETS[own.set or ("gpu" if on_gpu else "toy")]
    table = own.table or Path(configuration.TABLE if on_gpu else "runs/tune-rehearsal.json")
    gpu = gpu_of() if on_gpu else ("interpreter", "")
    dtype = torch.bfloat16 if on_gpu else torch.float32
    space = Space() if on_gpu else Space((16,), *6 * [(configuration.Tile(16, 16, 4, 2),)], ((8, 128),), repeats=1)
    for shape in wanted:
        gated = ACTIVATIONS[shape.activation].fan == 2
        key = key_of(gpu, dtype, (shape.E, shape.F, shape.D), shape.K, gated)
        if configuration.find(key, table):
            print(f"{shape}: in the table already", flush=True)
            continue
        print(f"{shape}", flush=True)
        given = shapes.inputs(shape, dtype, "cuda" if on_gpu else "cpu")
        start, source = configuration.choose(key, dtype)
        print(f"  starts from: {source}")
        best, milliseconds = tune(Problem(**vars(given), activation=shape.activation), start, space, print)
        configuration.store([(key, best, milliseconds)], table)
    print(f"written to {table}")
    return 0


def _shape(text: str):
    """Raises: ValueError."""
    from harness.bench.shapes import Shape
    from kernels.activation import ACTIVATIONS

    *numbers, activation = text.split(",")
    if len(numbers) != 5 or not all(n.isdecimal() and int(n) for n in numbers) or activation not in ACTIVATIONS:
        raise ValueError(text)
    return Shape(*map(int, numbers), activation)
