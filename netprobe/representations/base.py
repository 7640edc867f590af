"""What similarities of images are, wherever they come from: of any pairs, without a matrix of all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from netprobe.representations.ranges import SimilarityRange

BLOCK = 1024
"""Images of a side of a block of the matrix: 8 MiB of float64."""


class Block(NamedTuple):
    """The similarities (rows, columns) of the images `rows` with the images `columns`."""

    rows: Tensor
    columns: Tensor
    similarity: Tensor

    @property
    def upper(self) -> Tensor:
        """Where i < j."""
        return self.rows[:, None] < self.columns


class PairSimilarity(ABC):
    """How similar every two of N images are, float64 in [-1, 1]; NaN where that is not known.

    Places of images are on the CPU, similarities where the images are.
    """

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """S of the images at the places `first` with those at `second`, int64 tensors of one shape (K,)."""

    @abstractmethod
    def matrix(self, images: Tensor | None = None) -> Tensor:
        """S among the images at these places, None all, (K, K) float64."""

    @abstractmethod
    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        """The matrix above its diagonal in blocks of `size` by `size` images; those on the diagonal hold more."""

    def kept_pairs(self, chosen: SimilarityRange) -> tuple[Tensor, Tensor]:
        """All pairs i < j that `chosen` keeps, int32, row by row within blocks.

        Cost: all pairs are looked at, 8 bytes are held for each that is kept. Meant for ranges that keep few ("high");
        draw from ranges that keep most by `pairs_at` and `chosen.keeps`.
        """
        found: list[tuple[Tensor, Tensor]] = []
        for block in self.blocks():
            kept = chosen.keeps(block.similarity).cpu() & block.upper
            rows, columns = kept.nonzero(as_tuple=True)
            found.append((block.rows[rows].int(), block.columns[columns].int()))
        first, second = zip(*found, strict=True)
        return torch.cat(first), torch.cat(second)
