"""The tasks: a file each, which ends with `PART`; `harness/data/instances.py` says what a task is asked."""

from typing import Any

import numpy as np

from harness.data.draws import Draws
from harness.data.instances import Instance


class Known:
    """What a task's keys say of it. A task has one right answer, no latent and nothing exact unless it says otherwise."""

    latents = 0

    def __init__(self, keys: Any):
        self.keys = keys
        self.trained: tuple[int, ...] = keys.trained
        self.beyond: tuple[int, ...] = keys.beyond

    def longest(self, difficulty: int) -> int:
        return self.keys.longest(difficulty)

    def right(self, instance: Instance, written: np.ndarray) -> bool | None:
        return None

    def exact(self, instance: Instance) -> np.ndarray | None:
        return None

    def chosen(self, draws: Draws, difficulty: int | None) -> int:
        """The difficulty that is asked for, or any of training's, each as often."""
        return draws.one_of(self.trained) if difficulty is None else difficulty
