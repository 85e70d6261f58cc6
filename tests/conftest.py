"""Settings that must hold before any test imports torch, and the order in which several test processes take the files."""

import os

import pytest

from harness.train.determinism import compiled_folder

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: more threads than cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled_folder()))  # where every verb keeps its compiled code
os.environ.setdefault("TORCH_WARM_POOL", "0")  # as `set_torch` does, for what compiles without a run

collect_ignore = ["referee", "referee_fla", "referee_sweeps"]  # need packages of their own: `make referee` names the folders
# Files of half a minute and more, with caches as a fresh clone has them: whoever begins with one of them late is waited for.
# The first one computes what nearly every run needs, the second needs none of it.
LONG = (
    "data_prepare", "kernels_triton_quantized", "kernels_moe", "train_memory", "model_memories", "kernels_brgemm",
    "plan_parts", "model_attentions", "kernels_triton", "optim_qk_clip", "train_determinism", "doctor_runs",
    "model_transformer", "model_loss", "kernels_block_scaled", "sabotage", "train_compiler_paths", "train_resume",
    "train_ranks", "train_ranks_public", "verbs_prove", "train_precision", "train_disk", "report_study", "train_signals",
    "verbs_verify", "verbs_matrix", "verbs_multirun", "train_tokens", "damaged_files", "report_figures", "results",
    "verbs_sinks",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files in this order, then the others as they were."""
    place = {f"test_{name}": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
