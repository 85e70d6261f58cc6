"""What tuning takes for right, and how kernels are compiled ahead of it: without a GPU, on stand-ins."""

from dataclasses import replace

import pytest
import torch
from triton.runtime.errors import PTXASError
from triton.runtime.jit import JITFunction

from kernels.triton import tuning
from kernels.triton.compiling import compiling
from kernels.triton.configuration import SAFE, Tile
from kernels.triton.metadata import invert_kernel
from kernels.triton.products import combine_kernel
from kernels.triton.tuning import Space, tune

WRONG = {
    Tile(256, 64, 8, 4): lambda: torch.full((4,), torch.nan),
    Tile(128, 64, 8, 3): lambda: torch.tensor([1.0, 1.0, 1.0, 1.1]),
    Tile(256, 64, 4, 3): lambda: (_ for _ in ()).throw(PTXASError("it spilled\nin line 3")),
    Tile(256, 64, 8, 3): lambda: (_ for _ in ()).throw(RuntimeError("an illegal address")),
}
RIGHT = Tile(16, 64, 4, 3)


class Problem:
    """Every kernel computes ones; the tiles of WRONG do not. `took`: milliseconds of a tile, 2 where it is not named."""

    took = {RIGHT: 1.0, **dict.fromkeys(WRONG, 0.1)}

    def prepare(self, c):
        self.prepared = c

    def call(self, kernel, c):
        tile = getattr(c, kernel, None)
        self.last = tile
        return WRONG.get(tile, lambda: torch.ones(4))()


@pytest.fixture(name="problem")
def problem_fixture(monkeypatch):
    problem = Problem()

    def milliseconds(work, repeats):
        work()
        return problem.took.get(problem.last, 2.0)

    monkeypatch.setattr(tuning, "_milliseconds", milliseconds)
    monkeypatch.setattr(tuning, "_everything", lambda start, space: [])  # nothing is compiled here
    return problem


def test_a_tile_that_is_wrong_or_fails_is_named_and_never_taken_however_fast(problem):
    said, tiles = [], (*WRONG, RIGHT)
    found, milliseconds = tune(problem, SAFE[torch.bfloat16], Space((64,), *6 * [tiles], ((8, 128),)), said.append)
    assert [getattr(found, kernel) for kernel in ("up", "down", "dh", "dx", "dw_up", "dw_down")] == [RIGHT] * 6
    assert set(milliseconds.values()) == {1.0, 2.0}  # the combine has no tile
    text = "\n".join(said)
    for words in ("nan off", "5.0e-02 off", "it spilled", "left out: an illegal address"):
        assert words in text, words


def test_everything_that_will_be_tried_is_compiled_first():
    start, space = SAFE[torch.bfloat16], Space()
    ahead = list(tuning._everything(start, space))
    for kernel in ("up", "down", "dh", "dx", "dw_up", "dw_down"):
        tried = {(c.rows, getattr(c, kernel)) for c in ahead}
        assert {(rows, tile) for rows in (*space.rows, start.rows) for tile in getattr(space, kernel)} <= tried
    assert {(c.combine_tokens, c.combine_columns) for c in ahead} >= set(space.combines)
    assert replace(start) in ahead


def test_while_compiling_a_launch_only_warms_up_but_for_what_torch_reads_by(monkeypatch):
    seen = []
    monkeypatch.setattr(JITFunction, "run", lambda kernel, *_, grid, warmup, **__: seen.append((kernel.__name__, warmup)))
    with compiling():
        combine_kernel[(1,)](1), invert_kernel[(1,)](1)
    combine_kernel[(1,)](1)
    assert seen == [("combine_kernel", True), ("invert_kernel", False), ("combine_kernel", False)]
