"""Random noise: Gaussian, uniform, salt and pepper. None of them looks at the model or the labels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.fields import real, switch
from netprobe.perturb.base import Perturbation
from netprobe.perturb.geometry import GEOMETRIES
from netprobe.perturb.randomness import normal, uniform


@dataclass(frozen=True, kw_only=True, repr=False)
class Noise(Perturbation):
    """A perturbation that `noisy` defines on inputs alone."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        self.check_inputs(x)
        x = x.detach()
        return self.noisy(x, generator) if getattr(self, self.strength) else x.clone()

    @abstractmethod
    def noisy(self, x: Tensor, generator: torch.Generator | None) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, repr=False)
class GaussianNoise(Noise):
    """x' = clip(x + std * n), n ~ N(0, 1) independent in every coordinate.

    The clip makes the noise smaller than `std` at the edges of the box; with clip=False x' may leave the box.

    >>> import torch
    >>> import netprobe as npb
    >>> noise, x = npb.GaussianNoise(0.1), torch.full((2, 3, 32, 32), 0.5)
    >>> noisy = noise(None, x, None, generator=npb.perturb.ImageGenerator(seed=0, images=[7, 8]))
    >>> round(float((noisy - x).std()), 2)
    0.1
    >>> alone = noise(None, x[1:], None, generator=npb.perturb.ImageGenerator(seed=0, images=[8]))
    >>> torch.equal(alone, noisy[1:])  # noise belongs to an image, not to its batch
    True
    """

    name: ClassVar[str] = "gaussian"
    title: ClassVar[str] = "Gaussian noise"
    strength: ClassVar[str] = "std"

    std: float = field(kw_only=False, metadata=real(0, help="standard deviation, in input units"))
    clip: bool = field(default=True, metadata=switch(help="keep the result in [low, high]"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip:
            self.check_input_units("std")

    def noisy(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        noisy = x + self.std * normal(x, generator)
        return self.box.clip(noisy) if self.clip else noisy


@dataclass(frozen=True, kw_only=True, repr=False)
class UniformNoise(Noise):
    """x' = clip(x + u), u ~ U[-eps, eps) independent in every coordinate: a random point of the Linf ball."""

    name: ClassVar[str] = "uniform"
    title: ClassVar[str] = "uniform noise"
    strength: ClassVar[str] = "eps"

    eps: float = field(kw_only=False, metadata=real(0, help="largest change of a coordinate, in input units"))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_input_units("eps")

    def noisy(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.box.clip(x + GEOMETRIES["linf"].random_point(x, self.eps, generator))


@dataclass(frozen=True, kw_only=True, repr=False)
class SaltAndPepper(Noise):
    """Every coordinate becomes `low` or `high`, each with probability amount / 2.

    The channels of a pixel are replaced independently, as by the impulse noise of ImageNet-C.
    """

    name: ClassVar[str] = "salt-and-pepper"
    title: ClassVar[str] = "salt and pepper"
    strength: ClassVar[str] = "amount"

    amount: float = field(kw_only=False, metadata=real(0, 1, help="expected share of the coordinates replaced"))

    def noisy(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        u = uniform(x, generator)
        salted = torch.where(u < self.amount, self.high, x)
        return torch.where(u < self.amount / 2, self.low, salted)
