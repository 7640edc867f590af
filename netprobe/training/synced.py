"""Batch norm over the batches of several processes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from netprobe.processes import Processes


@contextlib.contextmanager
def synced(model: nn.Module, together: Processes) -> Iterator[None]:
    """Inside, batch norm in train mode averages over the batches of all processes, as if they were one.

    The modules stay what they are: only their forward is replaced, so that copies and checkpoints know nothing of it.
    """
    norms = [] if together.local else [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
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
    count = _Sum.apply(torch.full((), float(x.numel() // x.shape[1]), device=x.device))
    mean = _Sum.apply(x.sum(over)) / count
    centred = x - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(over)) / count
    if norm.track_running_stats:
        _track(norm, mean.detach(), variance.detach() * (count / (count - 1)))
    y = centred * torch.rsqrt(variance + norm.eps).view(shape)
    return y * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else y


def summed(part: Tensor, together: Processes) -> Tensor:
    """The sum over all processes, through which gradients flow."""
    return part if together.local else _Sum.apply(part)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each process's part has a share in the loss of every other."""

    @staticmethod
    def forward(ctx: object, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)  # a function again, so that gradients can be differentiated


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)
