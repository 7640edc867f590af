"""What storing and showing does to images: JPEG compression and too few pixels."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from netprobe.perturb.corruptions.base import Corruption, Levels
from netprobe.perturb.corruptions.filters import separable


@dataclass(frozen=True, kw_only=True, repr=False)
class JPEGCompression(Corruption):
    """JPEG of quality c and back, by Pillow, as in the benchmark: colours are halved in size, values whole 1/255.

    Image by image on the CPU, wherever `x` is, so that every device gives the same result. The input is rounded to
    8 bits first, half up.
    """

    name: ClassVar[str] = "jpeg_compression"
    title: ClassVar[str] = "jpeg_compression"
    levels: ClassVar[Levels] = Levels((80, 65, 58, 50, 40), (25, 18, 15, 10, 7))

    def corrupted(self, x: Tensor, level: int, generator: torch.Generator | None) -> Tensor:
        pixels = (255 * x + 0.5).byte().movedim(1, -1).cpu().numpy()
        stored = np.stack([compressed(image, level) for image in pixels])
        return torch.from_numpy(stored).movedim(-1, 1).to(x) / 255


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """An image (H, W, 1 or 3) of bytes after JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    with Image.open(file) as opened:
        return np.asarray(opened).reshape(image.shape)


@dataclass(frozen=True, kw_only=True, repr=False)
class Pixelate(Corruption):
    """Means over boxes of 1 / c pixels, int(c size) of them an axis, each shown as a box again.

    Pillow's box filter: a pixel belongs to the box that its centre lies in. The benchmark rounds to 8 bits after each
    of the four passes; we do not.
    """

    name: ClassVar[str] = "pixelate"
    title: ClassVar[str] = "pixelate"
    levels: ClassVar[Levels] = Levels((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        return separable(x, lambda size: boxes(size, level))


@functools.lru_cache(maxsize=64)
def boxes(size: int, share: float) -> np.ndarray:
    """The (size, size) matrix of Pillow's box filter down to int(share size), at least 1, and up again."""
    from PIL import Image

    identity, fewer = Image.fromarray(np.eye(size, dtype=np.float32)), max(1, int(share * size))
    down = identity.resize((size, fewer), Image.Resampling.BOX)
    return np.array(down.resize((size, size), Image.Resampling.BOX))
