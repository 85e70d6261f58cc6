"""Settings that must hold before any test imports torch, and the order in which several test processes take the tests."""

import os

import pytest

from harness.train.determinism import compiled_folder

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: more threads than cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled_folder()))  # where every verb keeps its compiled code

collect_ignore = ["referee"]  # needs packages of its own: `make referee` names the folder
# What one process has to itself and is long, longest first: whoever begins with it late is waited for.
LONG_GROUPS = ("lines", "triton_quantized", "processes", "triton_interpreted", "triton_ahead", "triton_ahead_quantized")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long groups first, then single slow tests, then the many quick ones, which fill what is left evenly."""

    def place(item: pytest.Item) -> int:
        group = next((mark.args[0] for mark in item.iter_markers("xdist_group")), None)
        if group in LONG_GROUPS:
            return LONG_GROUPS.index(group)
        return len(LONG_GROUPS) + (0 if item.get_closest_marker("slow") else 1)

    items.sort(key=place)
