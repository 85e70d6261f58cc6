"""Ranks that are threads of one process: what `harness.ranks` sends from process to process they lay on one table. Not a test
itself. What is said and written is that of processes; a rank that leaves alone is found within seconds.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.ranks import Ranks

LONGEST_S = 20.0  # that a rank waits for the others


@dataclass
class Table:
    world: int
    values: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = [None] * self.world
        self.barrier = threading.Barrier(self.world, timeout=LONGEST_S)

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        found = list(self.values)
        self.barrier.wait()
        return found


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    table: Table = None

    def everyones_values(self, value: object) -> list[Any]:
        return self.table.exchange(self.rank, value)

    def broadcast(self, value: object) -> object:
        return self.everyones_values(value)[0]

    def agree(self, flag: bool) -> bool:
        return any(self.everyones_values(flag))

    def everyones(self, mine_N: Tensor) -> Tensor:
        return torch.stack(self.everyones_values(mine_N))

    def exchange_rows(self, row_RX: Tensor, to_P: list[int], from_P: list[int]) -> Tensor:
        found = [parts[self.rank] for parts in self.everyones_values(row_RX.split(to_P))]
        assert [len(part) for part in found] == from_P
        return torch.cat(found)


def together(world: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` returns or raises on each of so many ranks. One that raises while others wait breaks their barrier."""
    table = Table(world)

    def one(rank: int) -> Any:
        try:
            return work(ThreadRanks(rank, world, table))
        except BaseException as error:  # noqa: BLE001  also what kills a process
            table.barrier.abort() if not isinstance(error, ValueError) else None
            return error

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(one, range(world)))
