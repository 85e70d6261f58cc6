"""A memory that remembers nothing, and takes its time over every training pass: so long that a time limit finds the run."""

import time
from dataclasses import dataclass

import torch

from harness.model.memory import Memory
from harness.plan.marks import free


@dataclass
class Keys:
    seconds: float = free(0.5, least=0, later=True)


class Slow(Memory):
    def forward(self, x_BSD, where):
        if torch.is_grad_enabled():
            time.sleep(self.keys.seconds)
        return x_BSD, None


PART = Slow
