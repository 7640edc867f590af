"""The regularisers that polarize: bumps on the line of filter outputs, from which training pushes them away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Bumps:
    """What to add to the loss in an epoch: `weight` times the mean over everything of `bumps(z, centres, width)`."""

    weight: float
    centres: tuple[float, ...]
    width: float

    def __call__(self, z: Tensor) -> Tensor:
        return _MeanBumps.apply(z, self.centres, self.width)


def bumps(z: Tensor, centres: tuple[float, ...], width: float) -> Tensor:
    """B(z) = sum_i exp(-(z - c_i)^2 / (2 width^2)), of the shape of z.

    With the one centre 0 it is B1, which spreads outputs towards -1 and 1; with -c and c it is B2, which empties the
    neighbourhood of the thresholds. Bakiskan 2022, section 4.1.

    >>> import torch
    >>> from netprobe.defenses.polarizing import bumps
    >>> bumps(torch.tensor([0.0, 0.5]), centres=(0.0,), width=0.25)
    tensor([1.0000, 0.1353])
    """
    return sum(torch.exp(-((z - centre) ** 2) / (2 * width**2)) for centre in centres)


class _MeanBumps(torch.autograd.Function):
    """The mean of `bumps` over everything, its derivative -(z - c) B / width^2 made on the way.

    Filter outputs are the largest tensor of the network: half as many passes over them as autograd makes.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, z: Tensor, centres: tuple[float, ...], width: float
    ) -> Tensor:
        wide = z.detach().float() if z.dtype in (torch.float16, torch.bfloat16) else z.detach()
        slope, total = torch.zeros_like(wide), 0
        for centre in centres:
            away = wide - centre
            bump = away.square().mul_(-1 / (2 * width**2)).exp_()
            total = total + bump.mean()
            slope.addcmul_(away, bump, value=-1 / (width**2 * z.numel()))
        ctx.save_for_backward(slope)  # not in the precision of z: entries are about 1 / their number
        ctx.dtype = z.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradient.to(slope.dtype) * slope).to(ctx.dtype), None, None
