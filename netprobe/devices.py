"""Where a model computes, and how many inputs at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def preferred_device() -> torch.device | None:
    """The GPU to use if nothing was said, under torchrun that of this process; None if there is none."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None


def batch_size(shape: Sequence[int], conditions: int, device: torch.device, widest: int = 0) -> int:
    """Images at a time, so that the rows of all conditions together fill a processor but not more than its cache.

    On a CPU `widest`, the most numbers of an image that the network hands from one module to another, says how much
    that is; eight times those of the input if not told.
    """
    values = int(np.prod(shape))
    if device.type == "cpu":
        rows = min(128 if widest else 64, max(8, 2**21 // (widest or 8 * values)))
    else:
        rows = min(1024, max(8, 2**23 // values))
    return max(1, rows // conditions)


def seed_everywhere(seed: int) -> None:
    """`torch.manual_seed`, which without a GPU queues a call for one, stack and all, every time."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
