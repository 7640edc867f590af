"""Pairs of images in shuffled order, all that a range keeps, again and again: from any point on, without a list."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from netprobe.defenses.regularisers.similarity.shuffled import shuffled
from netprobe.errors import NetprobeError
from netprobe.representations.base import PairSimilarity
from netprobe.representations.pairs import pair_count, pairs_at
from netprobe.representations.ranges import SimilarityRange

SAMPLE = 4096
"""Pairs by which the share that is kept is estimated."""
FEW = 0.02
"""Share of kept pairs below which they are listed, 8 bytes each, rather than met by chance."""
BLOCK = 1024
"""Candidates that are looked at together: many small operations once for many steps."""
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

    State: a block of candidates; for a list 8 bytes a kept pair, at most 2 % of all; and that of `similarity`.
    """

    def __init__(self, similarity: PairSimilarity, chosen: SimilarityRange, seed: int) -> None:
        self.similarity, self.chosen, self.seed = similarity, chosen, seed
        self._listed: tuple[Tensor, Tensor] | None = None
        self._latest: tuple[int, tuple[Tensor, Tensor, Tensor, Tensor]] | None = None
        self.count = pair_count(len(similarity))
        if self._estimated_share() < FEW:
            self._list()

    def _estimated_share(self) -> float:
        _, _, values = self._candidates(0, min(SAMPLE, self.count))
        return float(self.chosen.keeps(values).double().mean())

    def _list(self) -> None:
        self._listed = self.similarity.kept_pairs(self.chosen)
        self.count = len(self._listed[0])
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
        """Up to `most` kept pairs of the block of candidates that `cursor` is in."""
        number, begun = divmod(cursor, BLOCK)
        first, second, target, kept = self._block(number)
        at = kept[kept >= begun][:most]
        passed = int(at[-1]) + 1 if len(at) == most else BLOCK
        return Pairs(first[at], second[at], target[at], number * BLOCK + passed)

    def _block(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Candidates: the places of two images each, their targets; and which are kept. The latest is remembered."""
        if self._latest is None or self._latest[0] != number:
            first, second, values = self._candidates(number * BLOCK, BLOCK)
            kept = self.chosen.keeps(values).nonzero()[:, 0]
            self._latest = number, (first, second, self.chosen.targets(values), kept)
        return self._latest[1]

    def _candidates(self, cursor: int, met: int) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates from `cursor` on: the places of two images each, and their similarities."""
        places, parts = torch.arange(cursor, cursor + met), []
        for turn in range(cursor // self.count, (cursor + met - 1) // self.count + 1):
            within = places[places // self.count == turn] % self.count
            parts.append(shuffled(within, self.count, self.seed * PASSES + turn))
        first, second = self._pair(torch.cat(parts))
        return first, second, self.similarity.pairs(first, second).cpu()

    def _pair(self, ranks: Tensor) -> tuple[Tensor, Tensor]:
        if self._listed is None:
            return pairs_at(ranks, len(self.similarity))
        first, second = self._listed
        return first[ranks].long(), second[ranks].long()
