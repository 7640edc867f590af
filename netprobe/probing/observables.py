"""What is accumulated at a site while the model runs: small states, updated inside the hook, merged exactly.

Metrics say which observables they need (`Metric.observables`); two metrics that need the same one share it.
Everything an observable sees is an `Observation`: the tensors of one site, for one batch of images, under every
condition at once.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from netprobe.probing.reductions import condition_norms, location_hoyer, norms_and_hoyer
from netprobe.probing.streaming import ImageTable, Moments
from netprobe.sites import Site
from netprobe.uncertainty import BLOCKS

__all__ = ["ConditionMoments", "Layout", "Observable", "Observation", "PerImage"]


@dataclass(frozen=True)
class Observation:
    """The tensor of one site for one batch, shape (conditions * batch, ...), condition by condition, clean first.

    `images` holds the data-set position of each of the batch's images.
    """

    site: Site
    tensor: Tensor
    images: Tensor
    conditions: int

    @cached_property
    def rows(self) -> Tensor:
        """Shape (conditions, batch, locations, channels): one row of channel activations per location or token."""
        tensor, axis = self.tensor, self.site.channel_axis
        shape = tensor.shape
        if len(shape) > 2 and axis != len(shape) - 1:
            tensor = tensor.permute(*range(axis), *range(axis + 1, len(shape)), axis)
        return tensor.reshape(self.conditions, len(self.images), -1, shape[axis] if len(shape) > 1 else 1)

    @cached_property
    def flat(self) -> Tensor:
        """Shape (conditions, batch, units): every unit of the layer, in the order in which the rows hold them."""
        return self.rows.flatten(2)


@dataclass(frozen=True)
class Layout:
    """The shape of a probe: how many images the data set has, how many make one jackknife block (0: no blocks), and the
    precision in which the model runs."""

    images: int
    block: int = 0
    dtype: str = "float32"

    @classmethod
    def blocked(cls, images: int, dtype: str = "float32") -> Layout:
        """With `BLOCKS` blocks."""
        return cls(images, -(-images // BLOCKS), dtype)


class Observable(ABC):
    """One running statistic at one site.

    Its `key` says what it is: of several with equal keys one is kept and shared, the one with most `detail`.
    """

    key: tuple
    detail: int = 0

    @abstractmethod
    def update(self, observation: Observation) -> None:
        """Take in one batch."""

    @abstractmethod
    def merge(self, other: Observable) -> None:
        """Take in all that `other`, of the same key, has seen of other images."""

    @abstractmethod
    def state(self) -> dict[str, dict[str, Tensor]]:
        """The whole state as named tensors, for writing to a file."""

    @abstractmethod
    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take over a state written by `state()`."""

    def bytes(self, site: Site, conditions: int) -> int:
        """Size of the state that does not grow with the images, where it is worth counting."""
        return 0


class PerImage(Observable):
    """An observable that is a few numbers per image."""

    def __init__(self) -> None:
        self.table = ImageTable()

    def merge(self, other: PerImage) -> None:
        self.table.merge(other.table)

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {"table": self.table.state()}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.table = ImageTable.restore(state["table"])


class Norms(PerImage):
    """||a||_p of the clean tensor and ||a' - a||_p of every perturbed one, per image, over all its units.

    values   (image, 1 + perturbations, order): the clean norms first, then those of the differences
    """

    def __init__(self, orders: tuple[str, ...] = ("1", "2", "inf")) -> None:
        super().__init__()
        self.orders = orders
        self.key = ("norms", *orders)

    def update(self, observation: Observation) -> None:
        self.table.update(observation.images, condition_norms(observation.rows, self.orders))


class LocationHoyer(PerImage):
    """Squared-Hoyer ratio across channels at every location, averaged over the locations of each image.

        H(a) = ((||a||_1 / ||a||_2)^2 - 1) / (C - 1),   a in R^C

    values   (image, condition, 2): mean of H over the locations where a is not all zero (NaN if there is none, or C =
             1), and the share of locations where it is
    """

    key = ("hoyer",)

    def update(self, observation: Observation) -> None:
        self.table.update(observation.images, location_hoyer(observation.rows))


class NormsAndHoyer:
    """The `Norms` and the `LocationHoyer` of one site, updated from one reading of its tensor."""

    def __init__(self, norms: Norms, hoyer: LocationHoyer) -> None:
        self.norms, self.hoyer = norms, hoyer

    def update(self, observation: Observation) -> None:
        """Take in one batch."""
        norms, hoyer = norms_and_hoyer(observation.rows, self.norms.orders)
        self.norms.table.update(observation.images, norms)
        self.hoyer.table.update(observation.images, hoyer)


def in_one_reading(observables: Sequence[Observable]) -> list[Observable | NormsAndHoyer]:
    """What to update instead of the `observables` of one site, so that its tensor is read as seldom as possible."""
    norms = [o for o in observables if isinstance(o, Norms)]
    hoyer = [o for o in observables if isinstance(o, LocationHoyer)]
    if not (norms and hoyer):
        return list(observables)
    most = max(norms, key=lambda o: len(o.orders))
    return [NormsAndHoyer(most, *hoyer), *(o for o in observables if o not in (most, *hoyer))]


class ConditionMoments(Observable):
    """Mean and covariance under every condition, of the channel rows ("channel") or of their mean per image ("pooled").

    With `block` images to a block the moments are kept block by block, so that a jackknife can leave each out in turn;
    0 keeps everything together. Blocks are of data-set positions, so they do not depend on the batching.
    """

    def __init__(self, unit: str = "channel", block: int = 0) -> None:
        self.unit = unit
        self.block = block
        self.key = ("moments", unit)
        self.detail = int(block > 0)
        self._moments: dict[tuple[int, int], Moments] = {}

    def update(self, observation: Observation) -> None:
        rows = observation.rows if self.unit == "channel" else observation.rows.mean(2, keepdim=True)
        for block, members in block_members(observation.images, self.block):
            for condition in range(observation.conditions):
                self._at(condition, block, rows).update(rows[condition, members].flatten(0, 1))

    def _at(self, condition: int, block: int, rows: Tensor) -> Moments:
        if (condition, block) not in self._moments:
            # one shift for all blocks makes joining them and leaving them out plain sums
            shift = next((m.shift for (c, _), m in self._moments.items() if c == condition), None)
            self._moments[condition, block] = Moments(rows.shape[-1], rows.device, shift)
        return self._moments[condition, block]

    def merge(self, other: ConditionMoments) -> None:
        for place, moments in other._moments.items():
            self._moments.setdefault(place, Moments(moments.size, moments.total.device)).merge(moments)

    def moments(self, condition: int) -> Moments:
        """Moments of all images under `condition`."""
        parts = [m for (c, _), m in self._moments.items() if c == condition]
        some = next(iter(self._moments.values()))
        total = Moments(some.size, some.total.device)
        for part in parts:
            total.merge(part)
        return total

    def jackknife(self, condition: int) -> Iterator[Moments]:
        """Moments of all images but those of one block, block by block; nothing if they were not kept apart."""
        if self.block:
            total = self.moments(condition)
            for place in sorted(place for place in self._moments if place[0] == condition):
                yield total.without(self._moments[place])

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {f"{condition},{block}": m.state() for (condition, block), m in self._moments.items()}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        places = {tuple(map(int, place.split(","))): value for place, value in state.items()}
        self._moments = {place: Moments.restore(value) for place, value in places.items()}

    def bytes(self, site: Site, conditions: int) -> int:
        return 8 * site.channels**2 * conditions * (BLOCKS if self.block else 1)


@functools.lru_cache(maxsize=2)
def block_members(images: Tensor, block: int) -> list[tuple[int, Tensor | slice]]:
    """Every jackknife block that some of `images` are in, and where in the batch; 0: all in one block.

    A tensor hashes by identity, so all sites of one batch share one answer.
    """
    if not block:
        return [(0, slice(None))]
    blocks = images // block
    inside = {number: torch.nonzero(blocks == number).flatten() for number in blocks.unique().tolist()}
    return [(number, _as_slice(places)) for number, places in inside.items()]


def _as_slice(places: Tensor) -> Tensor | slice:
    """Neighbours in the batch, as always when the data set is read in order, as a slice, which needs no copy."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places
