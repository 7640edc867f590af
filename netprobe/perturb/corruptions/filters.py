"""Linear filters of whole batches: what SciPy does to the identity matrix along one axis, and small kernels.

A separable filter with its border is one matrix an axis, x' = R x C^T. SciPy builds the matrices, so that its borders
and cut-offs hold exactly; the batch is filtered by two matrix products on whatever device it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

FEW_TAPS = 32
"""Up to so many taps, adding shifted images is quicker than a Fourier transform."""


@functools.lru_cache(maxsize=64)
def smoothing(size: int, sigma: float, border: str, truncate: float) -> np.ndarray:
    """The (size, size) matrix of a Gaussian of `sigma` pixels, cut at `truncate` sigmas; SciPy's borders."""
    return ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode=border, truncate=truncate)


def averaging(size: int) -> np.ndarray:
    """The (size, size) matrix of the mean of three neighbours, mirrored at the edge pixels."""
    return ndimage.uniform_filter1d(np.eye(size), 3, axis=0, mode="mirror")


def separable(x: Tensor, matrix: Callable[[int], np.ndarray]) -> Tensor:
    """R x C^T, where R and C are `matrix` of the height and of the width."""
    rows, columns = (torch.from_numpy(matrix(size)).to(x) for size in x.shape[-2:])
    return rows @ x @ columns.mT


def blurred(x: Tensor, sigma: float, border: str = "nearest", truncate: float = 4.0) -> Tensor:
    """`x` (..., H, W) under a Gaussian of `sigma` pixels."""
    return separable(x, lambda size: smoothing(size, sigma, border, truncate))


def padded(x: Tensor, pad: int, border: str) -> Tensor:
    """`x` (..., H, W) with `pad` more pixels on every side; borders as numpy.pad names them, of any width."""
    rows, columns = (torch.from_numpy(np.pad(np.arange(size), pad, mode=border)).to(x.device) for size in x.shape[-2:])
    return x.index_select(-2, rows).index_select(-1, columns)


def correlated(x: Tensor, kernel: np.ndarray) -> Tensor:
    """`x` (..., H, W) correlated with a square kernel of odd side, mirrored at the edge pixels."""
    wide = padded(x, len(kernel) // 2, "reflect")
    return (_by_shifts if np.count_nonzero(kernel) <= FEW_TAPS else _by_fourier)(wide, kernel)


def centre_zoom(x: Tensor, factor: float) -> Tensor:
    """The centre of `x` (N, C, H, W), magnified bilinearly by `factor` to the size of `x`.

    The centre is ceil(size / factor) pixels long; its end pixels stay end pixels. What is too much is cut off evenly.
    """
    sizes = x.shape[-2:]
    crops = [math.ceil(size / factor) for size in sizes]
    zoomed = F.interpolate(
        _centre(x, crops), [round(crop * factor) for crop in crops], mode="bilinear", align_corners=True
    )
    return _centre(zoomed, sizes)


def _centre(x: Tensor, sizes: list[int] | torch.Size) -> Tensor:
    for dim, size in zip((-2, -1), sizes, strict=True):
        x = x.narrow(dim, (x.shape[dim] - size) // 2, size)
    return x


def _by_shifts(wide: Tensor, kernel: np.ndarray) -> Tensor:
    height, width = (size - len(kernel) + 1 for size in wide.shape[-2:])
    out = wide.new_zeros(*wide.shape[:-2], height, width)
    for i, j in zip(*np.nonzero(kernel), strict=True):
        out.add_(wide[..., i : i + height, j : j + width], alpha=float(kernel[i, j]))
    return out


def _by_fourier(wide: Tensor, kernel: np.ndarray) -> Tensor:
    """A cyclic correlation; the padding keeps what goes round out of the part that is kept."""
    sizes = wide.shape[-2:]
    transfer = torch.fft.rfft2(torch.from_numpy(kernel).to(wide), s=sizes).conj()
    cyclic = torch.fft.irfft2(torch.fft.rfft2(wide) * transfer, s=sizes)
    return cyclic[..., : sizes[0] - len(kernel) + 1, : sizes[1] - len(kernel) + 1]
