"""The processes that train, probe or evaluate together, started by torchrun; usually one."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Group:
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

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if not self.local:
            dist.barrier()


def group() -> Group:
    """The group that torchrun started, joined if that has not been done; a group of one without torchrun."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return Group()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Group(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Leave the group, if one was joined: a process that just ends makes the others wait."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


@contextlib.contextmanager
def synced(model: nn.Module, together: Group) -> Iterator[None]:
    """Inside, batch norm in train mode averages over the batches of all processes, as if they were one.

    The modules stay what they are: only their forward is replaced, so that copies and checkpoints know nothing of it.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if together.local or not norms:
        yield
        return
    for norm in norms:
        norm.forward = functools.partial(_normalized, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalized(norm: _BatchNorm, x: Tensor) -> Tensor:
    """What `norm` makes of x (N, C, ...), its mean and variance taken over the rows of every process."""
    if not norm.training:
        return batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    over = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = _Sum.apply(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
    mean = _Sum.apply(x.sum(over)) / count
    centred = x - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(over)) / count
    if norm.track_running_stats:
        _track(norm, mean.detach(), variance.detach() * (count / (count - 1)))
    y = centred * torch.rsqrt(variance + norm.eps).view(shape)
    return y * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else y


class _Sum(torch.autograd.Function):
    """The sum over all processes; each process's part has a share in the loss of every other."""

    @staticmethod
    def forward(ctx: object, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)
