"""What an epoch tells of similarities and their targets, from sums that add up over steps and processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netprobe.processes import Processes

MOMENTS = 6
"""Pairs, and the sums of S, T, S^2, T^2 and S T."""


class Agreement(nn.Module):
    """Sums over the pairs of an epoch: of the network's similarity S, the target T, and the similarity at each site."""

    sums: Tensor

    def __init__(self, sites: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(MOMENTS + sites, dtype=torch.float64))

    def clear(self) -> None:
        """Begin an epoch."""
        self.sums.zero_()

    @torch.no_grad()
    def add(self, similarity: Tensor, target: Tensor, at: Tensor) -> None:
        """Pairs (K,) of these similarities and targets, `at` (K, sites) the similarities at the sites."""
        s, t = similarity.double(), target.double()
        one = torch.stack([torch.ones_like(s), s, t, s * s, t * t, s * t], 1)
        self.sums += torch.cat([one, at.double()], 1).sum(0)

    def told(self, together: Processes) -> tuple[float | None, list[float]]:
        """Pearson's r of S and T over the pairs of all processes, None where undefined; the mean at each site."""
        n, s, t, ss, tt, st, *at = together.total(self.sums.tolist())
        if not n:
            return None, [float("nan")] * len(at)
        spread = (n * ss - s * s) * (n * tt - t * t)
        return ((n * st - s * t) / spread**0.5 if spread > 0 else None), [value / n for value in at]
