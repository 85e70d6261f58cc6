"""Settings that must hold before any test imports torch, and the order in which several test processes take the files."""

import os

import pytest

from harness.train.determinism import compiled_folder

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: more threads than cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled_folder()))  # where every verb keeps its compiled code
os.environ.setdefault("TORCH_WARM_POOL", "0")  # as `set_torch` does, for what compiles without a run
os.environ.setdefault("AOT_INDUCTOR_ENABLE_LINE_TABLES", "0")  # a twelfth of g++'s time, for profilers that no test starts

collect_ignore = ["referee", "referee_fla", "referee_sweeps"]  # need packages of their own: `make referee` names the folders
# Files of 20 seconds and more, with caches as a fresh clone has them: whoever begins with one of them late is waited for.
# The first one computes what nearly every run needs, the second needs none of it.
LONG = (
    "data_prepare", "kernels_triton", "train_memory", "model_memories", "model_loopback", "train_lockstep",
    "train_spread_runs", "kernels_triton_quantized", "train_ranks_public", "kernels_moe", "train_lost_ranks", "train_resume",
    "record_mlflow_sink", "verbs_prove", "train_spread", "train_signals", "results", "model_attentions", "plan_parts",
    "train_stages", "optim_qk_clip", "kernels_brgemm", "train_determinism", "train_refusals", "model_transformer",
    "train_tokens", "verbs_verify", "doctor_runs", "kernels_block_scaled", "kernels_units", "train_precision",
    "verbs_multirun", "train_ranks", "report_study", "train_bits", "report_figures", "sabotage", "verbs_matrix",
    "damaged_files", "verbs_sinks",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files in this order, then the others as they were."""
    place = {f"test_{name}": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
