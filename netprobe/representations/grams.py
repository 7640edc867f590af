"""Everything that inner products of a layer's activations can tell, about any centre, from one centred Gram matrix.

With u the mean activation of every unit over images, K_ij = <f_i - u, f_j - u>. About another centre m,

    <f_i - m, f_j - m> = K_ij + s_i + s_j,    s_i = <f_i - u, u - m> + ||u - m||^2 / 2

so a vector for each centre is enough, and the subtraction that loses digits is made before the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from netprobe.errors import unknown
from netprobe.probing.kernels import KernelReduction, Kernels, SliceStore
from netprobe.sites import Site

CENTRES = ("channel", "unit", "none")
"""What is subtracted: the mean of a channel over images and locations, that of every unit over images, or nothing."""
MEASURES = ("cosine", "correlation", "euclidean")
ROUND_OFF = 64 * float(np.finfo(np.float64).eps)
"""A centred activation is zero when its square is below this share of that of the activation."""


@dataclass(frozen=True)
class Gram:
    """Of one site under one condition: the centred kernel (image, image), float64, the shift of every centre, and
    `sums`, the sum over units of f_i - u; `mean` is the mean of u over units, `units` how many there are.
    """

    kernel: np.ndarray
    shifts: dict[str, np.ndarray]
    sums: np.ndarray
    mean: float
    units: int

    def about(self, centre: str) -> np.ndarray:
        """Inner products of the activations about `centre`, one of CENTRES."""
        return self.kernel + np.add.outer(self.shifts[centre], self.shifts[centre])

    def matrix(self, measure: str, centre: str) -> np.ndarray:
        """What `similarity` describes, (image, image)."""
        if measure not in MEASURES:
            raise unknown("measure", measure, MEASURES)
        if centre not in CENTRES:
            raise unknown("centre", centre, CENTRES)
        return {"cosine": self._cosine, "correlation": self._correlation, "euclidean": self._distance}[measure](centre)

    def _cosine(self, centre: str) -> np.ndarray:
        return self._normalised(self.about(centre))

    def _correlation(self, centre: str) -> np.ndarray:
        """Between the activations of two images, over units: the cosine of what each deviates from its own mean."""
        means = self.sums / self.units + (self.mean if centre == "none" else 0.0)
        return self._normalised(self.about(centre) - self.units * np.outer(means, means))

    def _distance(self, _centre: str) -> np.ndarray:
        squares = np.diag(self.kernel)
        distance = np.sqrt(np.maximum(np.add.outer(squares, squares) - 2 * self.kernel, 0))
        np.fill_diagonal(distance, 0)
        return distance

    def _normalised(self, products: np.ndarray) -> np.ndarray:
        squares = np.diag(products)
        usable = squares > ROUND_OFF * np.diag(self.about("none"))
        norms = np.sqrt(np.where(usable, squares, np.nan))
        cosine = np.clip(products / np.outer(norms, norms), -1, 1)
        np.fill_diagonal(cosine, np.where(usable, 1, np.nan))
        return cosine


@dataclass(eq=False)
class _Sums:
    """What slices of units add up to, for all conditions, with v = u - r and r the u of the same channel at the first
    location: differences of means far from zero keep their digits."""

    first: Tensor  # r (condition, channel)
    products: Tensor  # <f_i - u, v> (condition, image)
    channels: Tensor  # sum over the locations of a channel of f_i - u (condition, channel, image)
    means: Tensor  # the same of v (condition, channel)
    square: Tensor  # ||v||^2 (condition,)
    locations: int

    @classmethod
    def zeros(cls, conditions: int, site: Site, images: int, device: torch.device) -> _Sums:
        c, n = site.channels, images
        zeros = [
            torch.zeros(shape, dtype=torch.float64, device=device)
            for shape in ((conditions, c), (conditions, n), (conditions, c, n), (conditions, c), (conditions,))
        ]
        return cls(*zeros, locations=site.units // c)

    def add(self, start: int, chunk: Tensor) -> None:
        """Take in a chunk (condition, unit, image) whose first unit has the number `start`; channels take turns."""
        u = chunk.mean(-1)
        chunk -= u[..., None]
        number = torch.arange(start, start + chunk.shape[1], device=chunk.device)
        channel, early = number % self.first.shape[1], number < self.first.shape[1]
        self.first[:, number[early]] = u[:, early]
        v = u - self.first[:, channel]
        self.products += torch.einsum("cu,cui->ci", v, chunk)
        self.channels.index_add_(1, channel, chunk)
        self.means.index_add_(1, channel, v)
        self.square += v.square().sum(-1)

    def shifts(self) -> dict[str, Tensor]:
        """s_i of every centre, (condition, image)."""
        return {
            "unit": torch.zeros_like(self.products),
            "channel": self._shift(-self.means / self.locations),
            "none": self._shift(self.first),
        }

    def _shift(self, more: Tensor) -> Tensor:
        """s_i when u - m is v + `more` (condition, channel)."""
        products = self.products + torch.einsum("cm,cmi->ci", more, self.channels)
        squares = self.square + (more * (2 * self.means + self.locations * more)).sum(-1)
        return products + squares.clamp_min(0)[:, None] / 2

    def mean(self) -> Tensor:
        """The mean of u over units, (condition,)."""
        return (self.first + self.means / self.locations).mean(-1)


@dataclass(eq=False)
class Grams(KernelReduction):
    """Keeps a `Gram` of every condition.

    State: 8 (N^2 + 4 N) bytes a site and condition; while a site is read, 8 C N more for its C channels.
    """

    key = ("grams",)
    results: dict[str, np.ndarray] = field(default_factory=dict)
    _sums: _Sums | None = None

    def pairs(self, conditions: Sequence[str]) -> set[tuple[int, int]]:
        return {(c, c) for c in range(len(conditions))}

    def see(self, store: SliceStore) -> None:
        site = store.part.site
        for start, chunk in store.chunks():
            if start == 0:
                self._sums = _Sums.zeros(len(chunk), site, chunk.shape[-1], chunk.device)
            self._sums.add(start, chunk)

    def reduce(self, kernels: Kernels, conditions: Sequence[str]) -> dict[str, np.ndarray]:
        sums, self._sums = self._sums, None
        shifts, channels = sums.shifts(), sums.channels.shape[1]
        found = {"units": torch.tensor(channels * sums.locations), "mean": sums.mean(), "sums": sums.channels.sum(1)}
        found |= {f"{centre} shift": shift for centre, shift in shifts.items()}
        found |= {f"{c} kernel": kernels[c, c] for c in range(len(conditions))}
        return {name: value.cpu().numpy() for name, value in found.items()}

    def gram(self, condition: int) -> Gram:
        """That of the condition with this number, 0 clean."""
        found = self.results
        shifts = {centre: found[f"{centre} shift"][condition] for centre in CENTRES}
        mean, sums = float(found["mean"][condition]), found["sums"][condition]
        return Gram(found[f"{condition} kernel"], shifts, sums, mean, int(found["units"]))
