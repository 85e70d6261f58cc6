"""A toy memory: what the token before was is added to the stream before every block."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import pad

from harness.model.memory import InBlock, Memory
from harness.model.part import Own
from harness.plan.marks import free


@dataclass
class Keys:
    rate: float = free(0.1, least=0, most=1, later=True)


class Echo(Memory):
    CANNOT = frozenset({"document masks", "packed rows", "decoding"})

    def in_block(self, layer, attention, feedforward):
        return EchoInBlock(self.keys.rate)

    def forward(self, x_BSD, where):
        return x_BSD, pad(x_BSD, (0, 0, 1, 0))[:, :-1]

    def of_layer(self, found, layer):
        return found


class EchoInBlock(InBlock):
    OWN = {"share": Own("scalar", "one")}

    def __init__(self, rate):
        super().__init__()
        self.rate, self.share = rate, nn.Parameter(torch.empty(1))

    def says(self, x_BSD, where):
        return self.rate * self.share * where.recalled["echo"]


PART = Echo
