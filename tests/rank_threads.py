"""Ranks that are threads of one process, whose messages are checked: all of them must make the same one, or none hears it."""

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.ranks import Ranks

WAIT_S = 5.0  # for what all ranks do at once; a rank that waits longer is left alone


class Table:
    """Where the threads meet: everybody's part of a message, and what kind each of them takes it for."""

    def __init__(self, world: int):
        self.parts: list[Any] = [None] * world
        self.barrier = threading.Barrier(world)

    def exchange(self, rank: int, kind: str, part: object) -> list[Any]:
        self.parts[rank] = (kind, part)
        self.barrier.wait(WAIT_S)
        found = list(self.parts)
        self.barrier.wait(WAIT_S)
        kinds = {kind for kind, _ in found}
        assert len(kinds) == 1, f"different messages at once: {kinds}"
        return [part for _, part in found]


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    table: Table = field(compare=False, repr=False, default=None)
    device = torch.device("cpu")

    def everyones(self, mine_N):
        return torch.stack(self.table.exchange(self.rank, f"numbers {tuple(mine_N.shape)}", mine_N))

    def everyones_values(self, value):
        return [pickle.loads(each) for each in self.table.exchange(self.rank, "values", pickle.dumps(value))]

    def exchange_rows(self, row_RX, to_P, from_P):
        found = [parts[self.rank] for parts in self.table.exchange(self.rank, "rows", row_RX.split(to_P))]
        assert [len(part) for part in found] == from_P
        return torch.cat(found)

    def broadcast(self, value):
        return self.table.exchange(self.rank, "the first rank's", value)[0]

    def gather(self, value):
        found = self.table.exchange(self.rank, "gather", value)
        return found if self.is_first else []

    def sum_(self, tensors):
        for t in tensors:
            t.copy_(torch.stack(self.table.exchange(self.rank, "sum", t.clone())).sum(0))


def on_threads(world: int, work: Callable[[ThreadRanks], Any]) -> list[Any]:
    """What `work` returns on each rank, or raises there. A rank that waits for one that is gone raises BrokenBarrierError."""
    table, found = Table(world), [None] * world

    def one(rank: int) -> None:
        try:
            found[rank] = work(ThreadRanks(rank, world, table))
        except BaseException as raised:  # noqa: BLE001
            found[rank] = raised
            if not isinstance(raised, Exception | KeyboardInterrupt):  # a process that is killed: the others hear of it at once
                table.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
