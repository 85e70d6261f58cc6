"""Every key of the schema is read somewhere, and marked right."""

import ast
from functools import cache
from pathlib import Path

import pytest

from harness.plan.schema import FROZEN, UNHASHED, walk

ROOT = Path(__file__).resolve().parents[1]
# files that only define or validate keys: being named there does not make a key matter
NOT_READERS = {ROOT / "harness" / "plan" / name for name in ("schema.py", "track.py", "check.py", "check_routing.py")}


@cache
def attributes_read() -> set[str]:
    """All `.name` that source code loads, and `*` after sections read by a computed name: getattr(plan.multipliers, group)."""
    found = set()
    for room in ("harness", "kernels"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path in NOT_READERS:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.add(node.attr)
                if (
                    isinstance(node, ast.Call)
                    and getattr(node.func, "id", "") == "getattr"
                    and isinstance(node.args[0], ast.Attribute)
                ):
                    found.add(f"{node.args[0].attr}.*")
    return found


@pytest.mark.parametrize("key", [key for key, _ in walk()])
def test_every_key_is_read_somewhere(key):
    *sections, leaf = key.split(".")
    read = attributes_read()
    assert leaf in read or (sections and f"{sections[-1]}.*" in read), f"nothing reads {key}: delete it from the schema"


FREE_DIALS = (
    "stochastic_rounding", "hadamard", "weight_gradients", "weight_blocks", "tensor_scale", "clip", "dither",
    "high_precision_operands", "require_native",
)  # fmt: skip


def test_frozen_is_what_defines_the_benchmark():
    sections = {key.split(".")[0] for key in FROZEN}
    parts = {"attention", "residual", "memory", "task"}
    assert sections == {"lane", "track", "data", "model", "batch", "budget", "validation", "precision"} | parts
    chunks = {f"attention.{name}.chunk" for name in ("gated_delta", "kda")}  # how a sum is ordered
    free_keys = {"validation.batch_tokens", "data.document_mask"} | {f"precision.{dial}" for dial in FREE_DIALS} | chunks
    free = {
        "gains",
        "ahead",
        "optim",
        "schedule",
        "init",
        "balance",
        "kernels",
        "parallel",
        "health",
        "run",
        "seed",
        "unranked",
        "fork",
    }
    assert {key.split(".")[0] for key, _ in walk()} == sections | free
    assert {key for key, _ in walk() if key.split(".")[0] in sections} - FROZEN == free_keys


def test_only_the_seed_paths_checks_and_labels_stay_outside_the_hash():
    assert {key for key in UNHASHED if not key.startswith("run.")} <= {
        "seed", "unranked", "fork", "lane.twin", "kernels.debug", "precision.require_native", "parallel.ep",
        "parallel.transport", "data.quality",
    }  # fmt: skip
    assert {key for key, _ in walk() if key.startswith("run.")} <= UNHASHED


def test_no_frozen_key_is_outside_the_hash_but_a_label():
    assert FROZEN & UNHASHED == {"lane.twin", "data.quality"}
