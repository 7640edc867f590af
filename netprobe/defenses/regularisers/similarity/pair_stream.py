"""Pairs of images in shuffled order, all that a range keeps, again and again: from any point on, without a list."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from netprobe.defenses.regularisers.similarity.shuffled import shuffled
from netprobe.errors import NetprobeError
from netprobe.representations.pairs import pair_count, pairs_at
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import SimilarityRange

SAMPLE = 4096
"""Pairs by which the share that is kept is estimated."""
FEW = 0.02
"""Share of kept pairs below which they are listed, 8 bytes each, rather than met by chance."""
PASSES = 1 << 20
"""Keys of permutations for one seed."""


class Pairs(NamedTuple):
    """Places of images (K,) int64, the targets of their similarity (K,) float64, and where the stream goes on."""

    first: Tensor
    second: Tensor
    target: Tensor
    cursor: int


class PairStream:
    """The pairs i < j that `chosen` keeps, each once in every pass, every pass in an order of its own.

    A cursor counts the candidates that were met; `take(cursor, k)` is a function of its arguments, so that whoever
    keeps the cursor can go on from it. All pairs are candidates, and those that are not kept are passed over; where
    fewer than 2 % are kept, those alone are, found once by looking at all pairs.

    State: for a list 8 bytes a kept pair, at most 2 % of all; else none beside that of `similarity`.
    """

    def __init__(self, similarity: PixelSimilarity, chosen: SimilarityRange, seed: int) -> None:
        self.similarity, self.chosen, self.seed = similarity, chosen, seed
        self._listed: tuple[Tensor, Tensor] | None = None
        self.count = pair_count(len(similarity))
        self.share = self._estimated_share()
        if self.share < FEW:
            self._list()

    def _estimated_share(self) -> float:
        _, _, values = self._candidates(0, min(SAMPLE, self.count))
        return float(self.chosen.keeps(values).double().mean())

    def _list(self) -> None:
        self._listed = self.similarity.kept_pairs(self.chosen)
        self.count, self.share = len(self._listed[0]), 1.0
        if not self.count:
            raise NetprobeError(
                f"none of the pairs of {len(self.similarity):,} images is kept ({self.chosen}): "
                "choose another threshold, another range, or more images"
            )

    def take(self, cursor: int, k: int) -> Pairs:
        """The next `k` kept pairs from `cursor` on."""
        found: list[Pairs] = []
        missing = k
        while missing:
            found.append(self._some(cursor, missing))
            cursor, missing = found[-1].cursor, missing - len(found[-1].first)
        first, second, target = (torch.cat(parts) for parts in list(zip(*found, strict=True))[:3])
        return Pairs(first, second, target, cursor)

    def _some(self, cursor: int, most: int) -> Pairs:
        """Up to `most` kept pairs among the next candidates."""
        met = 1 + int(1.2 * most / max(self.share, FEW))
        first, second, values = self._candidates(cursor, met)
        kept = self.chosen.keeps(values).nonzero()[:most, 0]
        passed = int(kept[-1]) + 1 if len(kept) == most else met
        return Pairs(first[kept], second[kept], self.chosen.targets(values[kept]), cursor + passed)

    def _candidates(self, cursor: int, met: int) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates from `cursor` on, at the ends of two images each, and their similarities."""
        places, parts = torch.arange(cursor, cursor + met), []
        for turn in range(cursor // self.count, (cursor + met - 1) // self.count + 1):
            within = places[places // self.count == turn] % self.count
            parts.append(shuffled(within, self.count, self.seed * PASSES + turn))
        first, second = self._pair(torch.cat(parts))
        return first, second, self.similarity.pairs(first, second)

    def _pair(self, ranks: Tensor) -> tuple[Tensor, Tensor]:
        if self._listed is None:
            return pairs_at(ranks, len(self.similarity))
        first, second = self._listed
        return first[ranks].long(), second[ranks].long()
