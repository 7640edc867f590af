"""Small pictures side by side in one."""

from __future__ import annotations

import numpy as np


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
