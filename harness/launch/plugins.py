"""Hydra's launchers and sweepers, which are packages of their own: whether those of a sweep are here, what a launcher that
gives a job several tasks has told each of them, and how a job that its time limit would end is started again.

submitit has Slurm tell every task by SIGUSR2 that the limit is near, `hydra.launcher.signal_delay_s` before it. Its own handler
asks for the same job again at once, by its first task, and ends that: left to itself it would not wait for a checkpoint. So a
task passes the signal on to its rank (`harness/launch/child.py`), waits for the end of that, and calls the handler then.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override

from harness.errors import UserError, nearest
from harness.plan import lanes
from harness.plan.words import word as word_of

SUBMITIT = "hydra-submitit-launcher==1.2.0 submitit==1.5.4"  # as the extra `slurm` has it
PACKAGES = {  # by group, what has the plugin of this name
    "hydra/launcher": {
        "joblib": "hydra-joblib-launcher", "submitit_local": SUBMITIT, "submitit_slurm": SUBMITIT,
    },
    "hydra/sweeper": {"optuna": "hydra-optuna-sweeper", "ax": "hydra-ax-sweeper", "nevergrad": "hydra-nevergrad-sweeper"},
}  # fmt: skip
LAUNCHER = "hydra.launcher."
SRUN, SBATCH = f"{LAUNCHER}srun_args", f"{LAUNCHER}additional_parameters"


def refuse_missing(said: Sequence[Override]) -> None:
    """Raises: UserError for a launcher or sweeper that is not installed, with the command that installs it."""
    for word in said:
        group = word.key_or_group
        if group not in PACKAGES or word.is_delete() or word.is_sweep_override():
            continue
        with initialize_config_dir(str(lanes.RECIPES), version_base="1.3"):
            here = GlobalHydra.instance().config_loader().get_group_options(group)
        name = str(word.value())
        if name in here:
            continue
        if (package := PACKAGES[group].get(name)) is None:
            raise UserError(f"unknown {group}={name}", nearest(name, {*here, *PACKAGES[group]}))
        raise UserError(f"{group}={name} is not installed", f".venv/bin/python -m pip install {package}")


def slurm_words(said: Sequence[Override]) -> list[str]:
    """What submitit_slurm is asked for where the words do not speak of it: all tasks of a job end where one is killed, and a
    job may be started again."""
    if not any(word.key_or_group == "hydra/launcher" and word.value() == "submitit_slurm" for word in said):
        return []
    keys = {word.key_or_group for word in said}
    for word in said:
        if word.key_or_group == SBATCH and isinstance(word.value(), dict):
            keys |= {f"{SBATCH}.{key}" for key in word.value()}
    words = [] if SRUN in keys else [word_of(f"++{SRUN}", ["--kill-on-bad-exit=1"])]
    return words if keys & {f"{SBATCH}.requeue", f"{SBATCH}.no-requeue"} else [*words, word_of(f"++{SBATCH}.requeue", True)]


def is_task() -> bool:
    """Whether submitit has started this process."""
    return "SUBMITIT_EXECUTOR" in os.environ


def join_tasks() -> int:
    """Makes the tasks that submitit has started for this job the ranks of one run, by the variables that `torchrun` sets too.
    Returns this one's rank; 0 where there is one task, or another launcher."""
    if not is_task():
        return 0
    from submitit.helpers import TorchDistributedEnvironment

    place = TorchDistributedEnvironment()
    if place.world_size > 1:
        place.export(set_cuda_visible_devices=False, overwrite=True)  # a rank takes the device of its number on the node
    return place.rank


def start_again() -> str:
    """Has submitit start this job again, with the same words: its first task ends here, the others go on. Returns why it is not
    started again, "" on the others."""
    from submitit.core.utils import UncompletedJobError

    try:
        signal.getsignal(signal.SIGUSR2)(signal.SIGUSR2, None)
    except (UncompletedJobError, OSError, subprocess.SubprocessError) as why:  # scontrol may be missing, or refuse
        return str(why)
    return ""


def errors_of_task() -> Path | None:
    """Where submitit keeps what this task says to standard error."""
    if not is_task():
        return None
    from submitit import JobEnvironment

    return JobEnvironment().paths.stderr
