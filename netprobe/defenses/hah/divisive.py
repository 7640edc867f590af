"""Divisive normalisation: what all channels say around a place divides what each says there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from netprobe.errors import NetprobeError

TINY = 1e-7
"""Keeps an image of zeros from dividing by zero."""


class DivisiveNorm(nn.Module):
    """z_k = y_k / (sigma max_l M(l) + (1 - sigma) M + 1e-7), M = mean_k s_k, of y >= 0 (N, C, H, W); same shape.

    s is y itself (pool = 1), as the text has it, or the largest of the pool x pool places around, as the public code
    does (3). The largest M is over the places l of an image. Gradients go through M and its largest. Scaling y
    changes nothing, but for the 1e-7; z_k <= C.

    Between passes only y and a map of one channel are kept. Cekic, Bakiskan and Madhow, arXiv 2202.13074, eq. 2.
    """

    def __init__(self, pool: int = 3, sigma: float = 0.1) -> None:
        super().__init__()
        if pool < 1 or pool % 2 == 0:
            raise NetprobeError(f"pool={pool!r}: the side of the neighbourhood is odd, 1 (the text) or 3 (the code)")
        if not 0 <= sigma <= 1:
            raise NetprobeError(f"sigma={sigma!r}: the weight of the largest mean is in [0, 1]")
        self.pool, self.sigma = int(pool), float(sigma)

    def forward(self, y: Tensor) -> Tensor:
        return _Divided.apply(y, self.pool, self.sigma)

    def extra_repr(self) -> str:
        return f"pool={self.pool}, sigma={self.sigma:g}"


def surround(y: Tensor, pool: int) -> Tensor:
    """s: the largest of the pool x pool places around every place of y (N, C, H, W), channel by channel."""
    if pool == 1:
        return y
    if y.device.type == "cpu":  # where torch pools ten times as fast with channels last
        y = y.contiguous(memory_format=torch.channels_last)
    return max_pool2d(y, pool, stride=1, padding=pool // 2)


def divisor_of(y: Tensor, pool: int, sigma: float) -> Tensor:
    """What y (N, C, H, W) is divided by, (N, 1, H, W), in float32 at least: 1e-7 is nothing in float16."""
    mean = surround(y, pool).mean(1, keepdim=True, dtype=torch.promote_types(y.dtype, torch.float32))
    return sigma * mean.amax((2, 3), keepdim=True) + (1 - sigma) * mean + TINY


class _Divided(torch.autograd.Function):
    """`DivisiveNorm` as one operation: the largest around every place are found again for the gradient, not kept."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, y: Tensor, pool: int, sigma: float) -> Tensor:
        divisor = divisor_of(y, pool, sigma)
        ctx.save_for_backward(y, divisor)
        ctx.pool, ctx.sigma = pool, sigma
        return (y / divisor).to(y.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        y, divisor = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            z = (y / divisor_of(y, ctx.pool, ctx.sigma)).to(y.dtype)
            return torch.autograd.grad(z, y, gradient, create_graph=True)[0], None, None
        of_divisor = (gradient * y).sum(1, keepdim=True, dtype=divisor.dtype).div_(divisor.square()).neg_()
        of_mean = of_divisor.mul(1 - ctx.sigma)
        largest = divisor.flatten(1).argmax(1, keepdim=True)  # where M is
        total = of_divisor.sum((1, 2, 3)).mul_(ctx.sigma).unsqueeze(1)
        of_mean.view(len(y), -1).scatter_add_(1, largest, total)
        of_surround = torch.zeros_like(y).add_(of_mean.div_(y.shape[1]))  # on a CPU `expand_as` makes slow copies
        return _through(y, ctx.pool, of_surround).add_(gradient / divisor), None, None


def _through(y: Tensor, pool: int, gradient: Tensor) -> Tensor:
    """The gradient at y of what has `gradient` at `surround(y)`."""
    if pool == 1:
        return gradient
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        return torch.autograd.grad(surround(y, pool), y, gradient)[0]
