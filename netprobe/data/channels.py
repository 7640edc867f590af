"""Grey images from colour, and the other way round."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from netprobe.data.dataset import Data
from netprobe.errors import NetprobeError

LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in 2^16ths: ITU-R 601-2 luma, 0.299 R + 0.587 G + 0.114 B, as Pillow has it."""


def with_channels(data: Data, channels: int) -> Data:
    """The images with `channels` channels, 1 (grey) or 3 (colour); grey is luma, and colour of grey three equal ones.

    Eight-bit images become what Pillow's `convert("L")` makes of them, to the last bit.
    """
    if data.kind != "image":
        raise NetprobeError(f"{data.name} holds {data.kind}s, which have no channels of colour")
    have = data.shape[0]
    if channels == have:
        return data
    if (have, channels) not in ((1, 3), (3, 1)):
        raise NetprobeError(f"channels must be 3 (colour) or 1 (grey), got {channels!r} for images of {have}")
    return replace(data, stored=_grey(data.stored) if channels == 1 else data.stored.expand(-1, 3, -1, -1).contiguous())


def _grey(images: Tensor) -> Tensor:
    if images.is_floating_point():
        weights = torch.tensor(LUMA, dtype=torch.float64) / sum(LUMA)
        return (images.double() * weights[:, None, None]).sum(1, keepdim=True).to(images.dtype)
    weights = torch.tensor(LUMA, dtype=torch.int32)
    return torch.cat([_luma(part, weights) for part in images.split(1024)])


def _luma(images: Tensor, weights: Tensor) -> Tensor:
    total = (images.int() * weights[:, None, None]).sum(1, keepdim=True)
    return ((total + (1 << 15)) >> 16).to(images.dtype)
