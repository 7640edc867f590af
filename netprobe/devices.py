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


def batch_size(shape: Sequence[int], conditions: int, device: torch.device) -> int:
    """Images at a time, so that the rows of all conditions together fill a processor but not more than its cache."""
    values, most = (2**18, 64) if device.type == "cpu" else (2**23, 1024)
    rows = min(most, max(8, values // int(np.prod(shape))))
    return max(1, rows // conditions)
