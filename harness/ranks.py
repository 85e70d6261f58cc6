"""Data parallelism under `torchrun`: every rank takes its part of the same global batch.

One process without torchrun is the same code with a world of one. `sum_` adds in an order that is fixed for a fixed number of
ranks (gloo's and NCCL's ring), and of floating-point numbers from three ranks on by where they stand in the message.
`exchange` and `everyones` copy and add nothing (`harness/train/sums.py` says which of the two a plan's sums are made of). What
is done together raises LostRank where another rank is gone.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from harness.errors import UserError

Found = TypeVar("Found")


class LostRank(RuntimeError):
    """Another rank is gone, or did not come in time. `during`: what they were to do together."""

    def __init__(self, during: str, error: RuntimeError):
        super().__init__(str(error).split("\n")[0])
        self.during = during


@contextmanager
def _together(what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no class of their own for it
        raise LostRank(what, error) from error


@dataclass(frozen=True)
class Ranks:
    rank: int
    world: int

    @property
    def device(self) -> torch.device:
        """Where messages are made."""
        return _device() if self.world > 1 else torch.device("cpu")

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_(self, tensors: list[Tensor]) -> None:
        """Sums each tensor over ranks, in place; one message for all of one dtype."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        with _together("a sum over ranks"):
            dist.all_reduce(flat)
        for t, part in zip(tensors, flat.split([t.numel() for t in tensors])):
            t.copy_(part.view_as(t))

    def max_(self, tensor: Tensor) -> None:
        """The largest over ranks of each number, in place."""
        if self.world > 1:
            with _together("finding the largest over ranks"):
                dist.all_reduce(tensor, op=dist.ReduceOp.MAX)

    def exchange(self, part_PN: Tensor) -> Tensor:
        """(P, N): row p is what rank p has for this one. `part_PN`: row p is what this one has for rank p."""
        if self.world == 1:
            return part_PN
        found_PN = torch.empty_like(part_PN)
        with _together("an exchange of equal parts"):
            dist.all_to_all_single(found_PN, part_PN)
        return found_PN

    def exchange_rows(self, row_RX: Tensor, to_P: list[int], from_P: list[int]) -> Tensor:
        """(S, ...): what every rank has for this one, in the order of ranks, `from_P` rows of each. `row_RX`: the rows for each
        rank, `to_P` of them, in the order of ranks. Any of them may be none."""
        if self.world == 1:
            return row_RX
        found_SX = row_RX.new_empty(sum(from_P), *row_RX.shape[1:])
        with _together("an exchange of rows"):
            dist.all_to_all_single(found_SX, row_RX.contiguous(), from_P, to_P)
        return found_SX

    def everyones(self, mine_N: Tensor) -> Tensor:
        """(P, N) on all ranks: row p is rank p's."""
        if self.world == 1:
            return mine_N.unsqueeze(0)
        found_PN = mine_N.new_empty(self.world, *mine_N.shape)
        with _together("gathering everyone's numbers"):
            dist.all_gather(list(found_PN.unbind()), mine_N)
        return found_PN

    def everyones_values(self, value: object) -> list[Any]:
        """Everybody's picklable value, in the order of ranks, on all of them."""
        box = [value] * self.world
        if self.world > 1:
            with _together("gathering everyone's values"):
                dist.all_gather_object(box, value)
        return box

    def agree(self, flag: bool) -> bool:
        """True on all ranks when it is on any: a signal reaches one process, all must stop at the same step."""
        if self.world == 1:
            return flag
        value = torch.tensor(float(flag), device=_device())
        with _together("agreeing whether to stop"):
            dist.all_reduce(value)
        return bool(value.item() > 0)

    def all_or_none(self, work: Callable[[], Found]) -> Found:
        """What `work` returns.

        Raises:
            UserError: that of the first rank which met one, on all of them: none waits for one that has ended. The first rank
                tells it to the user.
        """
        found, mine = None, None
        try:
            found = work()
        except UserError as error:
            mine = error
        for fault in filter(None, self.everyones_values(mine)):
            fault.said_elsewhere = not self.is_first
            raise fault
        return found

    def broadcast(self, value: object) -> object:
        """Rank 0's picklable value (ranks of one run trust each other; nothing read from disk passes here)."""
        if self.world == 1:
            return value
        box = [value]
        with _together("hearing from the first rank"):
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: object) -> list[Any]:
        """On the first rank everybody's picklable value, in the order of ranks; an empty list on the others."""
        if self.world == 1:
            return [value]
        box = [None] * self.world if self.is_first else None
        with _together("telling the first rank"):
            dist.gather_object(value, box, dst=0)
        return box or []


ALONE = Ranks(0, 1)


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def join(timeout_s: float) -> Ranks:
    """This process's place among the processes that torchrun started; alone otherwise. What is done together fails where a rank
    does not come in `timeout_s`: over gloo as LostRank, over NCCL torch ends the process.

    Raises:
        UserError: there are more of them on this machine than it has GPUs, or they do not meet.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    if torch.cuda.is_available():
        torch.cuda.set_device(_gpu())
    try:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(seconds=timeout_s))
    except RuntimeError as error:
        rank, address, port = (os.environ.get(name) for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
        raise UserError(
            f"rank {rank} of {world}, on {socket.gethostname()}, did not meet the others at {address}:{port}: "
            + str(error).split("\n")[0],
            "start as many as you say, all with the address of the first one's machine, which all of them reach",
        ) from error
    return Ranks(dist.get_rank(), world)


def _gpu() -> int:
    """Which of this machine's GPUs is this rank's."""
    number, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    started = int(os.environ.get("LOCAL_WORLD_SIZE", number + 1))
    if started > here:
        raise UserError(
            f"{started} ranks were started on {socket.gethostname()}, where they see {here} GPU{'s' if here > 1 else ''}",
            f"start {here} there: torchrun --nproc-per-node {here}, or hydra.launcher.tasks_per_node={here}; on Slurm "
            "hydra.launcher.gpus_per_node says how many they see",
            said_elsewhere=number > 0,
        )
    return number


def leave(ranks: Ranks) -> None:
    if ranks.world > 1 and dist.is_initialized():
        dist.destroy_process_group()
