"""Image-by-image Gram matrices (linear kernels) of whole layers, exact, within a stated memory budget.

The covariance over all d units of a layer has the same non-zero eigenvalues as K / (N - 1), where K = X X^T is the N
x N Gram matrix of the N centred activation vectors. K needs every image's activations at once, so layers are taken a
group at a time, one extra pass over the (stored) inputs per group; a layer too large for the budget is cut into
slices of units, whose kernels add up. Nothing is sketched: random projections of spectra bias their slopes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netprobe.errors import NetprobeError
from netprobe.probing.observables import Layout, Observable, Observation
from netprobe.probing.streaming import CHUNK, add_gram, symmetric
from netprobe.sites import Site

Kernels = Mapping[tuple[int, int], Tensor]
"""Centred kernels K_ij = X_i X_j^T (image, image), float64, by the pair of conditions i <= j."""


class KernelReduction(Observable):
    """An observable that is computed from the kernels of a site, all at once, when its pass is over.

    It sees no batches, and parts of a data set cannot be merged: kernels link every image with every other.
    """

    results: dict[str, np.ndarray]

    def __init__(self) -> None:
        self.results = {}

    @abstractmethod
    def pairs(self, conditions: Sequence[str]) -> set[tuple[int, int]]:
        """The pairs of conditions whose kernels it reads."""

    def see(self, store: SliceStore) -> None:
        """Take in a slice of units before it is let go, slice by slice in order; most read the kernels alone."""

    @abstractmethod
    def reduce(self, kernels: Kernels, conditions: Sequence[str]) -> dict[str, np.ndarray]:
        """The numbers to keep."""

    def update(self, observation: Observation) -> None:
        """Nothing: the kernels come at the end."""

    def merge(self, other: KernelReduction) -> None:
        raise NetprobeError(
            f"{self.key[0]} needs the Gram matrix of all images at once, so parts of a data set cannot be "
            "merged; run it on the whole data set, or leave 'unit' spectra and 'cka' out of the parts"
        )

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {"results": {name: torch.from_numpy(np.asarray(value)) for name, value in self.results.items()}}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.results = {name: value.numpy() for name, value in state["results"].items()}


@dataclass(frozen=True)
class Slice:
    """Units `start`..`stop` of a site."""

    site: Site
    start: int
    stop: int


def plan(sites: Sequence[Site], images: int, conditions: int, budget: int, dtype: torch.dtype) -> list[list[Slice]]:
    """Group the units of `sites` into passes that hold at most `budget` bytes of activations each."""
    need = dtype.itemsize * images * conditions
    width = budget // need
    if sites and width < 1:
        raise NetprobeError(
            f"memory={budget} bytes is below the {need} that one unit of {images} images needs; raise it"
        )
    passes: list[list[Slice]] = []
    room = 0
    for site in sites:
        units, start = site.units, 0
        while start < units:
            if not room:
                passes.append([])
                room = width
            taken = min(units - start, room)
            passes[-1].append(Slice(site, start, start + taken))
            start, room = start + taken, room - taken
    return passes


class SliceStore:
    """The activations of one slice, all images under every condition, (condition, unit, image)."""

    def __init__(
        self, part: Slice, images: int, conditions: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        self.part = part
        self._values = torch.empty(conditions, part.stop - part.start, images, device=device, dtype=dtype)

    def update(self, observation: Observation, first: int) -> None:
        """Take in a batch whose first image is at place `first`."""
        units = observation.flat[..., self.part.start : self.part.stop]
        self._values[..., first : first + units.shape[1]] = units.transpose(1, 2)

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """The values (condition, unit, image), float64 copies of a cache-sized chunk of units at a time, each with the
        number of its first unit."""
        step = max(1, 8 * CHUNK // self._values.shape[-1])
        for start in range(0, self._values.shape[1], step):
            yield self.part.start + start, self._values[:, start : start + step].to(torch.float64, copy=True)

    def add_to(self, kernels: dict[tuple[int, int], Tensor]) -> None:
        """Add the slice's share to every kernel, in float64."""
        for _, chunk in self.chunks():
            chunk -= chunk.mean(-1, keepdim=True)
            for (i, j), kernel in kernels.items():
                if i == j:
                    add_gram(kernel, chunk[i])
                else:
                    kernel.addmm_(chunk[i].T, chunk[j])


def completed(kernels: dict[tuple[int, int], Tensor]) -> Kernels:
    """Both triangles of the symmetric ones."""
    return {(i, j): symmetric(k) if i == j else k for (i, j), k in kernels.items()}


def leave_out(images: int) -> list[np.ndarray]:
    """The places that stay when each block of images is left out in turn, the blocks of `Layout.blocked`."""
    block = Layout.blocked(images).block
    return [np.delete(np.arange(images), slice(start, start + block)) for start in range(0, images, block)]


def recentred(kernel: Tensor) -> Tensor:
    """The kernel of the same vectors about their own mean: H K H, H = I - 1/N."""
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
