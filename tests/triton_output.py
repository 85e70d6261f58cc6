"""What the scripts of Triton's tests print, kept in the cache folder for as long as nothing that they depend on has changed.

A script says itself which files of the repository it loaded; beside them count everything in `kernels/`, the versions of what
computes, and the machine. An entry that is stale, damaged or not there is computed. It is written whole or not at all.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from harness.data.cache import cache_folder
from harness.files import replace_atomically
from harness.train.machine import cpu_model

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "triton", "numpy", "hypothesis")
# Runs a script as `python script` does, and adds to its last line the files below the repository that it loaded.
WITH_FILES = """
import json, runpy, sys
from pathlib import Path
root, script = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, str(Path(script).parent))
sys.argv = sys.argv[2:]
runpy.run_path(script, run_name="__main__")
files = {Path(file).resolve() for m in list(sys.modules.values()) if (file := getattr(m, "__file__", None))}
files |= {Path(script).resolve()}
print(json.dumps(sorted(str(f.relative_to(root)) for f in files if f.is_relative_to(root))))
"""


@cache
def output(script: str, *words: str) -> dict[str, Any]:
    """The JSON object that a script in this folder prints last. A process of its own, unless its answer is known."""
    name = hashlib.sha256(json.dumps([str(ROOT), script, words]).encode()).hexdigest()[:16]
    path = cache_folder() / "tests" / f"{Path(script).stem}-{name}.json"
    found = _kept(path)
    if found is None:
        found, files = _run(script, words)
        payload = json.dumps(found)
        entry = {"found": payload, "sha256": _sha256(payload.encode()), "rests_on": _rests_on(files)}
        replace_atomically(path, [json.dumps(entry).encode()])
    return found


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads(path.read_bytes())
        if entry["sha256"] != _sha256(entry["found"].encode()) or entry["rests_on"] != _rests_on(entry["rests_on"]["files"]):
            return None
        return json.loads(entry["found"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _rests_on(files) -> dict[str, Any]:
    """Everything that an answer depends on: `files` (paths below the repository) and what every script depends on."""
    paths = {ROOT / name for name in files} | {p for kind in ("py", "json") for p in (ROOT / "kernels").rglob(f"*.{kind}")}
    return {
        "files": {str(p.relative_to(ROOT)): _sha256(p.read_bytes()) if p.exists() else None for p in sorted(paths)},
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": [cpu_model(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("TRITON_")},
    }


def _run(script: str, words: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", WITH_FILES, str(ROOT), str(ROOT / "tests" / script), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found, files = done.stdout.splitlines()[-2:]
    return json.loads(found), json.loads(files)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
