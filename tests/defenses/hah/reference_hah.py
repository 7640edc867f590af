"""The equations of HaH blocks written down one by one, slowly."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d


def responses(x: Tensor, w: Tensor, **geometry) -> Tensor:
    """y, by dividing what comes out of the convolution."""
    return (conv2d(x, w, **geometry) / (w.flatten(1).norm(dim=1) + 1e-6).view(-1, 1, 1)).relu()


def surround(y: Tensor, pool: int) -> Tensor:
    """The largest around every place, place by place."""
    reach, s = pool // 2, torch.zeros_like(y)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            around = y[:, :, max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
            s[:, :, i, j] = around.abs().amax((2, 3))
    return s


def divided(y: Tensor, pool: int = 3, sigma: float = 0.1) -> Tensor:
    z = torch.zeros_like(y)
    for n, mean in enumerate(surround(y, pool).mean(1)):
        z[n] = y[n] / (sigma * mean.max() + (1 - sigma) * mean + 1e-7)
    return z


def thresholded(z: Tensor, rule: str = "keep", keep: float = 0.2) -> Tensor:
    o = torch.zeros_like(z)
    for n in range(len(z)):
        for c in range(z.shape[1]):
            values = z[n, c].detach().flatten()
            k = math.floor((1 - keep) * len(values) + 1e-9)
            tau = values.mean() if rule == "mean" else sorted(values.tolist())[k - 1]
            o[n, c] = z[n, c] * (z[n, c] > tau)
    return o


def block(x: Tensor, w: Tensor, pool: int = 3, rule: str = "keep") -> Tensor:
    return thresholded(divided(responses(x, w, padding=1), pool), rule)


def top_and_rest(y: Tensor, strongest: int) -> tuple[Tensor, Tensor]:
    """Mean over images and places of the mean of the strongest channels, and of the others."""
    ordered = y.sort(dim=1, descending=True).values
    return ordered[:, :strongest].mean(1).mean(), ordered[:, strongest:].mean(1).mean()
