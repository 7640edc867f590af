"""Searches that have begun to repeat themselves.

Steps along the sign of the gradient, all of one length, in float32 and clipped to a ball, reach finitely many points;
on robust images they soon return to one where they have been, and then go round for ever (Doldo et al., 2022). From
there on more steps change nothing, so the image can leave.
"""

from __future__ import annotations

import torch
from torch import Tensor

LONG = 50
"""Steps that make watching worth it: in 20 steps hardly any search closes a circle."""


def fingerprint(x: Tensor) -> Tensor:
    """A 64-bit hash of the bits of every row, (N, ...) float32 or float64 -> (N,) int64.

    A sum of the numbers' bits times odd pseudo-random factors, modulo 2^64: rows that differ agree with a chance of
    about 2^-64.
    """
    bits = x.contiguous().flatten(1).view(torch.int32 if x.dtype == torch.float32 else torch.int64).long()
    return (bits * _factors(bits.shape[1], x.device)).sum(1)


def _factors(count: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return (2 * torch.randint(-(2**62), 2**62, (count,), generator=generator) + 1).to(device)


def closed(history: Tensor, step: Tensor, now: Tensor) -> Tensor:
    """Which searches are where they have been before; `now` (N,) is written into `history` (N, steps) at `step`.

    Slots of the history beyond `step` are not looked at.
    """
    earlier = torch.arange(history.shape[1], device=history.device) < step[:, None]
    back = ((history == now[:, None]) & earlier).any(1)
    history.scatter_(1, step[:, None], now[:, None])
    return back
