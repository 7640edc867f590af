"""The code of a batch of images: few coefficients a patch, held by number and value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Code:
    """The coefficients of m x m patches of N images over L atoms, at most K of them a patch not zero.

    values  (N, m, m, K) coefficients
    index   (N, m, m, K) the atoms they belong to, each at most once a patch
    atoms   L
    """

    values: Tensor
    index: Tensor
    atoms: int

    def dense(self) -> Tensor:
        """All coefficients, (N, L, m, m) with channels last in memory."""
        zeros = self.values.new_zeros(*self.values.shape[:-1], self.atoms)
        return zeros.scatter(-1, self.index, self.values).permute(0, 3, 1, 2)

    @classmethod
    def joined(cls, parts: list[Code]) -> Code:
        """The codes of several batches, one after the other."""
        if len(parts) == 1:
            return parts[0]
        values, index = (torch.cat([getattr(part, name) for part in parts]) for name in ("values", "index"))
        return cls(values, index, parts[0].atoms)
