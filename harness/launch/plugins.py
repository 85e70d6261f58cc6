"""Hydra's launchers and sweepers, which are packages of their own: whether those of a sweep are here, and what a launcher that
gives a job several tasks has told each of them."""

import os
from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override

from harness.errors import UserError, nearest
from harness.plan import lanes

SUBMITIT = "hydra-submitit-launcher==1.2.0 submitit==1.5.4"  # as the extra `slurm` has it
PACKAGES = {  # by group, what has the plugin of this name
    "hydra/launcher": {
        "joblib": "hydra-joblib-launcher", "submitit_local": SUBMITIT, "submitit_slurm": SUBMITIT,
    },
    "hydra/sweeper": {"optuna": "hydra-optuna-sweeper", "ax": "hydra-ax-sweeper", "nevergrad": "hydra-nevergrad-sweeper"},
}  # fmt: skip


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


def join_tasks() -> int:
    """Makes the tasks that submitit has started for this job the ranks of one run, by the variables that `torchrun` sets too.
    Returns this one's rank; 0 where there is one task, or another launcher."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return 0
    from submitit.helpers import TorchDistributedEnvironment

    place = TorchDistributedEnvironment()
    if place.world_size > 1:
        place.export(set_cuda_visible_devices=False, overwrite=True)  # a rank takes the device of its number on the node
    return place.rank
