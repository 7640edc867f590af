"""Similarity matrices from elsewhere, such as of recorded responses: read, checked, and asked for pairs."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from netprobe.data.arrays import open_npy
from netprobe.errors import NetprobeError
from netprobe.representations.base import BLOCK, Block, PairSimilarity

SUFFIX = ".npy"
IN_MEMORY = 2**28
"""Bytes up to which a matrix is read at once; a larger one stays on the disk."""
ROUNDING = 1e-4
"""By how much a cosine in single precision may leave [-1, 1]."""
REMEDY = "give cosines or correlations (of distances d = 1 - r those are 1 - d)"


class GivenSimilarity(PairSimilarity):
    """S_ij = M_ij, a matrix (image, image) of similarities in [-1, 1] that were found elsewhere.

    Such are correlations of responses that were recorded for the images. NaN stands where nothing was measured: no
    `SimilarityRange` keeps such a pair. The diagonal is not looked at.

    Parameters
    ----------
    matrix : (M, M) array of any real type, which may be mapped from the disk
    images : (N,) int64, which of the M images these are, and in which order; None: all, as they stand
    what : the matrix in words, for messages

    Notes
    -----
    Nothing is copied: what is asked for alone is read, as float64. NetprobeError for a matrix that is not square or
    not symmetric, for values outside of [-1, 1] (but for rounding, which is cut off), and for what looks like
    distances: zeros on the diagonal and nothing negative.

    >>> import numpy as np
    >>> import torch
    >>> import netprobe as npb
    >>> responses = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 7.0], [3.0, 1.0, 0.0]])  # (image, neuron)
    >>> similarity = npb.GivenSimilarity(np.corrcoef(responses))
    >>> [places.tolist() for places in similarity.kept_pairs(npb.SimilarityRange(0.8, "high_positive"))]
    [[0], [1]]
    """

    def __init__(self, matrix: np.ndarray, images: Tensor | None = None, *, what: str = "the matrix") -> None:
        self._matrix = np.asanyarray(matrix)
        check_square(self._matrix, what)
        _check_similarities(self._matrix, what)
        self._places = np.arange(len(self._matrix)) if images is None else images.numpy()

    def __len__(self) -> int:
        return len(self._places)

    def pairs(self, first: Tensor, second: Tensor) -> Tensor:
        return _similarities(self._matrix[self._places[first.numpy()], self._places[second.numpy()]])

    def matrix(self, images: Tensor | None = None) -> Tensor:
        chosen = torch.arange(len(self)) if images is None else images
        return self._among(chosen, chosen)

    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        parts = torch.arange(len(self)).split(size)
        for rows, columns in itertools.combinations_with_replacement(parts, 2):
            yield Block(rows, columns, self._among(rows, columns))

    def _among(self, rows: Tensor, columns: Tensor) -> Tensor:
        return _similarities(self._matrix[np.ix_(self._places[rows.numpy()], self._places[columns.numpy()])])


def read_matrix(file: str | Path, what: str) -> np.ndarray:
    """The matrix of numbers in an .npy file, mapped from the disk if it is large; `what` begins messages.

    Errors: another kind of file, none at all, one that is damaged or pickled, and what is no array of real numbers.
    """
    if Path(file).suffix != SUFFIX:
        raise NetprobeError(f"{what}: give a {SUFFIX} file that holds a matrix (image, image), made by numpy.save")
    matrix = open_npy(file, f"{what} is to hold a matrix (image, image)")
    if matrix.dtype.kind not in "biuf":
        raise NetprobeError(f"{what} is of {matrix.dtype}: a matrix (image, image) is of real numbers")
    return np.array(matrix) if matrix.nbytes <= IN_MEMORY else matrix


def check_square(matrix: np.ndarray, what: str) -> None:
    """Refuse what is no matrix (image, image)."""
    if matrix.ndim != 2 or len(matrix) != matrix.shape[1]:
        raise NetprobeError(
            f"{what} is {matrix.shape}, and must be square, (image, image): of responses (image, unit) "
            "numpy.corrcoef(responses) is such a matrix"
        )


def check_images(matrix: np.ndarray, images: int, what: str, order: str) -> None:
    """Refuse a matrix of more or fewer images than there are; `order` says what these are."""
    check_square(matrix, what)
    if len(matrix) != images:
        raise NetprobeError(
            f"{what} is of {len(matrix):,} images, and there are {images:,}: it needs a row and a column for each, in "
            f"the order of {order}"
        )


def check_symmetric(matrix: np.ndarray, what: str) -> None:
    """Refuse a matrix that differs from its transpose by more than rounding; NaN may stand on both sides."""
    for rows, columns in _places(len(matrix)):
        one, other = (part.astype(np.float64) for part in (matrix[rows, columns], matrix[columns, rows].T))
        apart = ~np.isclose(one, other, equal_nan=True)
        if apart.any():
            i, j = np.argwhere(apart)[0]
            raise NetprobeError(
                f"{what} is not symmetric: similarities of i with j and j with i differ, as {one[i, j]:g} and "
                f"{other[i, j]:g} of images {rows.start + i} and {columns.start + j}, counted from 0"
            )


def matrix_hash(matrix: np.ndarray) -> str:
    """SHA-256, in hex, of the values, as float64, whatever type they are stored in."""
    digest = hashlib.sha256(repr(matrix.shape).encode())
    for begun in range(0, len(matrix), BLOCK):
        rows = matrix[begun : begun + BLOCK].astype("<f8") + 0.0  # one zero
        digest.update(np.ascontiguousarray(np.where(np.isnan(rows), np.nan, rows)).data.cast("B"))  # and one NaN
    return digest.hexdigest()


def _check_similarities(matrix: np.ndarray, what: str) -> None:
    check_symmetric(matrix, what)
    negative = False
    for rows, columns in _places(len(matrix)):
        block = matrix[rows, columns].astype(np.float64)
        if rows == columns:
            np.fill_diagonal(block, np.nan)
        outside = np.abs(block) > 1 + ROUNDING
        if outside.any():
            i, j = np.argwhere(outside)[0]
            raise NetprobeError(
                f"{what}: the similarity of images {rows.start + i} and {columns.start + j}, counted from 0, is "
                f"{block[i, j]:g}, and must lie in [-1, 1]: {REMEDY}"
            )
        negative = negative or bool((block < -ROUNDING).any())
    if not negative and (np.abs(matrix.diagonal().astype(np.float64)) <= ROUNDING).all():
        raise NetprobeError(
            f"{what} has zeros on its diagonal and nothing negative, as distances have: {REMEDY}, with ones on the "
            "diagonal"
        )


def _places(images: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the blocks on the diagonal and above it."""
    sides = [slice(begun, min(begun + BLOCK, images)) for begun in range(0, images, BLOCK)]
    return itertools.combinations_with_replacement(sides, 2)


def _similarities(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float64)).clamp(-1, 1)
