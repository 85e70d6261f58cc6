"""Micro lanes: the smallest plans that still have every part, trained in this process in about a second.

`run` starts one. A test module imports the fixtures it asks for: `finished` gives runs that many tests look at and none
writes to, `stopped` one that is half done; both are trained once, whichever of several test processes asks first. Drawing
figures takes longer than training at this size: `no_figures` leaves them out.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import harness.launch.sinks
from harness.__main__ import main
from harness.data.cache import cache_folder
from harness.data.corpora import Wanted, load_for
from harness.data.prepare import prepare
from harness.plan.compose import compose
from harness.plan.lanes import read_track
from harness.ranks import Ranks
from harness.record.read import read_record
from harness.record.schema import Record
from harness.train import machine
from harness.train.session import Session

ROOT = Path(__file__).resolve().parents[1]
STEPS = 32
ALONE = Ranks(0, 1)
COMMON = (
    "unranked=true model.width=32 model.layers=2 model.heads=2 model.sequence_length=32 batch.tokens_per_step=256 "
    "budget.tokens=8192 validation.steps=[8,16,24] validation.batch_tokens=2048 kernels.compile=off run.log_every_steps=4 "
    "run.mlflow=off"
).split()
MOE = ["lane=tiny-moe-16e", "model.num_experts=8", "model.expert_width=16", "model.top_k=2", *COMMON]
DENSE = ["lane=tiny-dense", "model.ffn_width=32", *COMMON]
COPY = ["data.tasks=[copy]", "task.copy.length=2", "task.copy.gap=4"]
TASKS = ["lane=physics-dense", "model.ffn_width=32", *COPY, *COMMON]
TASKS_MOE = ["lane=physics-moe-16e", *MOE[1:4], *COPY, *COMMON]
# Every run measures five peaks, which takes as long as it trains: here small products will do.
machine.GEMM_SIZE["cpu"], machine.MEASURED_S = 64, 0.0


@pytest.fixture(name="no_figures")
def no_figures_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.launch.sinks, "show_at_end", lambda run: None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one test process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@cache
def prepared(cache: Path) -> None:
    """The lines of `tiny`, which the first run of all computes for half a minute: one test process does."""
    with locked(cache / "tests" / "lines.lock"):
        prepare(Wanted(read_track("tiny")))


def speedrun(folder: Path, *words: str, lane: list[str] = MOE) -> int:
    """The exit status of `speedrun` in this process."""
    if lane[0].startswith("lane=tiny"):
        prepared(cache_folder())
    return main(["speedrun", *lane, f"run.folder={folder}", *words])


def run(folder: Path, *words: str, lane: list[str] = MOE) -> Path:
    """The run folder of a run that must finish. A folder with several runs gives the newest."""
    assert speedrun(folder, *words, lane=lane) == 0
    return max(folder.glob("*/*/record.json"), key=lambda path: path.stat().st_mtime_ns).parent


def the_folder(folder: Path) -> Path:
    """The one run folder, finished or not."""
    (found,) = [path.parent for path in folder.glob("*/*/identity.json")]
    return found


def record(run_folder: Path) -> Record:
    return read_record(run_folder)


def record_json(run_folder: Path) -> dict[str, Any]:
    return json.loads((run_folder / "record.json").read_text())


def bits(run_folder: Path) -> dict[str, str]:
    """Hash chain and weights hash of a finished run."""
    return record(run_folder).determinism.content()


def rows(run_folder: Path, kind: str) -> list[dict[str, Any]]:
    found = map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in found if row["kind"] == kind]


def losses(run_folder: Path) -> list[float]:
    return [row["loss"] for row in rows(run_folder, "step")]


def checkpointed_steps(run_folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in run_folder.glob("checkpoints/step-*.json"))


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Modification time and hash of every file below, to show that nothing was touched."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p): (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files}


def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session that all test processes have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(base: Path, make: Callable[[Path], object]) -> Path:
    """`make(base)`'s one run folder, by whichever test process comes first."""
    with locked(base / "lock"):
        if not (base / "made").exists():
            make(base)
            (base / "made").touch()
    return the_folder(base)


@pytest.fixture(name="finished", scope="session")
def finished_fixture(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """finished("moe") and finished("dense"): run folders that ended untouched. Read only."""
    base = shared(tmp_path_factory)

    @cache
    def finished(kind: str) -> Path:
        return made_once(base / f"finished-{kind}", lambda home: run(home, lane=MOE if kind == "moe" else DENSE))

    return lambda kind="moe": finished(kind)


def _left_at_12(home: Path) -> None:
    assert speedrun(home, "run.stop_after_step=12", "run.checkpoint_every_s=0", "run.log_every_steps=1") == 0


def left_at_12(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that `stopped` copies. Read only."""
    return made_once(shared(tmp_path_factory) / "stopped", _left_at_12)


@pytest.fixture(name="stopped")
def stopped_fixture(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder below tmp_path of a MoE run that was left at step 12, with checkpoints at 11 and 12; free to be damaged."""
    original = left_at_12(tmp_path_factory)
    return Path(shutil.copytree(original, tmp_path / original.parent.name / original.name))


def session(*words: str, lane: list[str] = MOE, ranks: Ranks = ALONE) -> Session:
    """A plan built but not run."""
    plan = compose([*lane, *words]).plan
    return Session(plan, machine.detect(plan), ranks, load_for(plan))


def lively(*words: str) -> Session:
    """A session before its first step whose head and outputs are not zero as a run's are: every gradient has a value."""
    one = session("init.zero_output=false", *words)
    with torch.no_grad():
        one.model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(1))
    return one


def tensors(session: Session) -> dict[str, torch.Tensor]:
    """Copies of all that a checkpoint would hold."""
    return {name: t.detach().clone() for name, t in session.state().items()}


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(run_folder / "weights.safetensors")


def python(code: str, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own, with the repository on its path."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, env=variables, timeout=timeout
    )
