"""What an epoch draws: the order of the images, and where each is cropped and whether it is flipped.

Every draw is a table of N entries that follows from (seed, epoch) alone, made on the CPU and read by position in
the data. What happens to an image therefore depends neither on its batch nor on the order, the rank or the device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from netprobe.data import Data
from netprobe.errors import NetprobeError, unknown
from netprobe.recipes import AUGMENTATIONS, PADDINGS

ORDER, CROP_FLIP = range(2)  # independent streams of one seed


class CropFlips(NamedTuple):
    """For every image: `top` and `left` of its crop in the padded image, (N,) int64, and `flip`, (N,) bool."""

    top: Tensor
    left: Tensor
    flip: Tensor


def order(n: int, seed: int, epoch: int) -> Tensor:
    """The positions 0..n-1 as `epoch` visits them: a uniform permutation, (n,) int64 on the CPU."""
    return torch.randperm(n, generator=_generator(seed, epoch, ORDER))


def crop_flips(n: int, padding: int, seed: int, epoch: int) -> CropFlips:
    """Corners uniform in 0..2 `padding`, flips with probability 1/2, all independent; on the CPU."""
    generator = _generator(seed, epoch, CROP_FLIP)
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator)
    return CropFlips(top, left, torch.randint(2, (n,), generator=generator).bool())


def padded(images: Tensor, padding: int, mode: str) -> Tensor:
    """`images` (N, C, H, W), of any dtype, with `padding` pixels on every side: zeros, or the image mirrored.

    "reflect" mirrors at the outermost pixel, which is not repeated, as torch and torchvision do.
    """
    if mode == "zeros":
        return torch.nn.functional.pad(images, [padding] * 4)
    for dim in (2, 3):  # torch reflects no 8-bit images
        images = images.index_select(dim, _mirrored(images.shape[dim], padding).to(images.device))
    return images


def check_augmentation(data: Data, augment: str, padding: int, mode: str) -> None:
    """Refuse what cannot be drawn from `data`, before any work."""
    if augment not in AUGMENTATIONS:
        raise unknown("augment", augment, AUGMENTATIONS)
    if mode not in PADDINGS:
        raise unknown("padding_mode", mode, PADDINGS)
    if augment == "none":
        return
    if data.kind != "image":
        raise NetprobeError(f"augment={augment!r} is for images, and {data.name} holds {data.kind}s: augment='none'")
    if not isinstance(padding, int) or padding < 1:
        raise NetprobeError(f"padding={padding!r}: a crop needs a whole number of pixels, 1 or more; or augment='none'")
    if mode == "reflect" and padding >= min(data.shape[1:]):
        raise NetprobeError(
            f"padding={padding}: an image of {data.shape[1]}×{data.shape[2]} can be mirrored by at most "
            f"{min(data.shape[1:]) - 1} pixels; or padding_mode='zeros'"
        )


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    mixed = np.random.SeedSequence(seed, spawn_key=(stream, epoch)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


def _mirrored(size: int, padding: int) -> Tensor:
    """Where every pixel along a padded side comes from: 2 1 0 1 2 ... for a padding of 2."""
    from_start = torch.arange(-padding, size + padding).abs()
    return size - 1 - (size - 1 - from_start).abs()
