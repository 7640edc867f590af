"""The processes that train, probe or evaluate together, started by torchrun; usually one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    @property
    def local(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def share(self, rows: Tensor) -> Tensor:
        """This process's rows: every `size`-th."""
        return rows[self.rank :: self.size]

    def total(self, numbers: list[float]) -> list[float]:
        """The sums of these numbers over all processes."""
        if self.local:
            return numbers
        sums = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(sums)
        return sums.tolist()

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, on its device; no gradient flows through it."""
        if self.local:
            return tensor
        total = tensor.to(_device()) if _device() != tensor.device.type else tensor.clone()
        dist.all_reduce(total)
        return total.to(tensor.device)

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if not self.local:
            dist.barrier()


def processes() -> Processes:
    """The group that torchrun started, joined if that has not been done; a group of one without torchrun."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return Processes()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Leave the group, if one was joined: a process that just ends makes the others wait."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
