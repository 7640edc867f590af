"""Small pictures side by side in one."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

GAP = 0.03
"""Between tiles of a grid, of the side of one."""


def tile(ax: Axes, row: int, column: int, pixels: np.ndarray, **options: object) -> None:
    """Show a picture on the unit square at that place of a grid whose rows go down."""
    extent = (column + GAP, column + 1 - GAP, row + 1 - GAP, row + GAP)
    ax.imshow(pixels, extent=extent, interpolation="nearest", **options)


def pixels_of(images: np.ndarray) -> np.ndarray:
    """Images (..., height, width, channel) in [0, 1] as imshow wants them: those of one channel without it."""
    return images.clip(0, 1) if images.shape[-1] == 3 else images[..., 0].clip(0, 1)


def tiled(tiles: np.ndarray, gap: int, fill: float) -> np.ndarray:
    """Tiles (n, height, width, ...) in rows of a square, the first at the top left, `gap` pixels of `fill` between."""
    height, width = tiles.shape[1:3]
    across = int(np.ceil(np.sqrt(len(tiles))))
    down = -(-len(tiles) // across)
    whole = np.full((down * (height + gap) - gap, across * (width + gap) - gap, *tiles.shape[3:]), fill)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, across)
        whole[row * (height + gap) :, column * (width + gap) :][:height, :width] = tile
    return whole
