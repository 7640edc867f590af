"""How similar images are as they stand, pixel by pixel: of any pairs, without a matrix of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from netprobe.data import Data
from netprobe.data.dataset import to_float
from netprobe.errors import NetprobeError, unknown
from netprobe.representations.base import BLOCK, Block, PairSimilarity

CENTRES = ("mean image", "own mean", "none")
ROUND_OFF = 64 * torch.finfo(torch.float32).eps
"""An image is constant when what is left of it after the mean is below this share of it."""


class PixelSimilarity(PairSimilarity):
    """S_ij = <u_i, u_j>,  u_i = r_i / ||r_i||,  r_i = v_i - v,  v_i the grey image i and v the mean image of all N.

    Grey is the mean over channels. `centre="own mean"` subtracts from each image the mean of its own pixels instead
    (another quantity: far fewer pairs are similar), "none" nothing. An image without contrast against what is
    subtracted has similarity 0 with every image, itself included.

    Parameters
    ----------
    images : a `Data` of images, or a floating-point tensor (N, C, H, W)
    centre : see above

    Notes
    -----
    Similarities are float64, in [-1, 1]. State: the images as they are stored, one image and N norms; 50,000 images
    need no matrix of 50,000^2. Cost of a pair: one image's pixels.

    References
    ----------
    S^pixel of arXiv 2410.03952.

    >>> import torch
    >>> import netprobe as npb
    >>> images = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]).view(3, 1, 1, 2)
    >>> npb.PixelSimilarity(images, centre="own mean").matrix().round()
    tensor([[ 1., -1., -1.],
            [-1.,  1.,  1.],
            [-1.,  1.,  1.]], dtype=torch.float64)
    """

    def __init__(self, images: Data | Tensor, *, centre: str = "mean image") -> None:
        if centre not in CENTRES:
            raise unknown("centre", centre, CENTRES)
        self._stored = images.stored if isinstance(images, Data) else images
        if self._stored.ndim != 4 or len(self._stored) < 2:
            raise NetprobeError(
                f"similarities are of two images (N, C, H, W) or more; these are {tuple(self._stored.shape)}"
            )
        self.centre = centre
        self._mean = self._mean_image() if centre == "mean image" else 0.0
        self._norms = torch.cat([self._usable_norms(rows) for rows in torch.arange(len(self)).split(BLOCK)])

    def __len__(self) -> int:
        return len(self._stored)

    def pairs(self, first: Tensor, second: Tensor) -> Tensor:
        return (self._unit(first) * self._unit(second)).sum(1).clamp(-1, 1)

    def matrix(self, images: Tensor | None = None) -> Tensor:
        unit = self._unit(torch.arange(len(self)) if images is None else images)
        product = unit @ unit.T
        return ((product + product.T) / 2).clamp(-1, 1)

    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        places = torch.arange(len(self)).split(size)
        for k, rows in enumerate(places):
            left = self._unit(rows)
            for columns in places[k:]:
                yield Block(rows, columns, (left @ self._unit(columns).T).clamp(-1, 1))

    def _mean_image(self) -> Tensor:
        total = sum(self._grey(rows).sum(0) for rows in torch.arange(len(self)).split(BLOCK))
        return total / len(self)

    def _grey(self, images: Tensor) -> Tensor:
        """The chosen images, float64, (K, pixels)."""
        chosen = self._stored[images]
        values = chosen if chosen.is_floating_point() else to_float(chosen)
        return values.double().mean(1).flatten(1)

    def _centred(self, images: Tensor) -> Tensor:
        grey = self._grey(images)
        return grey - (grey.mean(1, keepdim=True) if self.centre == "own mean" else self._mean)

    def _usable_norms(self, images: Tensor) -> Tensor:
        """Infinite where nothing but round-off is left, so that dividing by it gives 0."""
        norms = self._centred(images).norm(dim=1)
        return torch.where(norms > ROUND_OFF * self._grey(images).norm(dim=1), norms, torch.inf)

    def _unit(self, images: Tensor) -> Tensor:
        return self._centred(images) / self._norms[images, None]
