"""The local rule as its equations say it: loops over samples and units, slow and obvious."""

from __future__ import annotations

import torch
from torch import Tensor


def h_of(weight: Tensor, v: Tensor, p: float) -> Tensor:
    """<W, v>_mu = sum_i |W_i|^(p - 2) W_i v_i of every unit, for one sample."""
    return torch.stack([(unit.abs() ** (p - 2) * unit * v).sum() for unit in weight])


def batched(weight: Tensor, batch: Tensor, *, p: float, k: int, delta: float, radius: float) -> Tensor:
    """dW (H, D): g = 1 for the largest h, -delta for the k-th largest; summed over the batch."""
    total = torch.zeros_like(weight)
    for v in batch:
        h = h_of(weight, v, p)
        order = sorted(range(len(h)), key=lambda unit: -h[unit])
        for unit, g in ((order[0], 1.0), (order[k - 1], -delta)):
            total[unit] += g * (radius**p * v - h[unit] * weight[unit])
    return total


def sequential(weight: Tensor, v: Tensor, lr: float, *, p: float, k: int, delta: float, radius: float) -> Tensor:
    """W after one sample: ranks by Q = h / ||W||_p^(p - 1), g = 1 for the first, -delta for ranks 2 to k."""
    h, change = h_of(weight, v, p), torch.zeros_like(weight)
    q = [h[unit] / (weight[unit].abs() ** p).sum() ** ((p - 1) / p) for unit in range(len(h))]
    for rank, unit in enumerate(sorted(range(len(h)), key=lambda unit: -q[unit])[:k]):
        g = 1.0 if rank == 0 else -delta
        change[unit] += g * (radius**p * v - h[unit] * weight[unit])
    return weight + lr * change / change.abs().max()
