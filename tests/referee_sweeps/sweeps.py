"""Sweeps of micro lanes as processes of their own, and commands that stand in for Slurm's. Not a test itself."""

import os
import subprocess
import sys
from pathlib import Path

import micro

DENSE = [*micro.DENSE, "budget.tokens=2048", "validation.steps=[4]"]
PARTS = Path(__file__).parent / "parts"
# A job is run here, at once, and every task of it is a process; what is asked of Slurm is kept in `asked`.
SLURM = {
    "sbatch": """#!/bin/bash
cp "$1" {home}/job.sh
[ -e {home}/full ] && echo "sbatch: error: no such partition" >&2 && exit 1
(
    while true; do
        rm -f {home}/again
        SLURM_JOB_ID=7 bash {home}/job.sh
        [ -e {home}/again ] || break
    done
) > {home}/said 2>&1 &
echo Submitted batch job 7
""",
    "srun": """#!{python}
import os, pathlib, signal, subprocess, sys, time
home, words = pathlib.Path({home!r}), sys.argv
command = words[words.index({python!r}) :]
job = {{"SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost"}}
tasks = []
for rank in "01":
    said = [open(words[words.index(name) + 1].replace("%j", "7").replace("%t", rank), "a") for name in ("--output", "--error")]
    place = os.environ | job | {{"SLURM_PROCID": rank, "SLURM_LOCALID": rank}}
    tasks.append(subprocess.Popen(command, env=place, stdout=said[0], stderr=said[1]))
while None in [task.poll() for task in tasks]:
    time.sleep(0.02)
    limit = home / "limit"  # the run has taken a step: its time is up soon
    if limit.exists() and any(path.stat().st_size for path in home.parent.glob("runs/*/*/metrics.jsonl")):
        limit.unlink()
        for task in tasks:
            task.send_signal(signal.SIGUSR2)
    if any(task.returncode for task in tasks) and "--kill-on-bad-exit=1" in words:
        for task in tasks:
            task.terminate()
sys.exit(max(task.wait() for task in tasks))
""",
    "scontrol": """#!/bin/sh
echo "$@" >> {home}/asked
touch {home}/again
""",
    "sacct": """#!/bin/sh
printf 'JobID|State\\n7|RUNNING\\n'
""",
}


def slurm(folder: Path) -> Path:
    """A folder of these commands."""
    home = folder / "slurm"
    home.mkdir()
    for name, text in SLURM.items():
        (home / name).write_text(text.format(home=str(home), python=sys.executable))
        (home / name).chmod(0o755)
    return home


def sweep_of(folder: Path, *words: str, home: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """To its end, with runs below `folder`. `home`: of the commands of Slurm."""
    command = [sys.executable, "-m", "harness", "speedrun", "--multirun", f"run.folder={folder / 'runs'}", *words]
    found = os.pathsep.join(filter(None, [str(micro.ROOT), os.environ.get("PYTHONPATH")]))
    path = os.pathsep.join(filter(None, [home and str(home), os.environ["PATH"]]))
    variables = os.environ | {"PYTHONPATH": found, "PATH": path, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables, timeout=600)
