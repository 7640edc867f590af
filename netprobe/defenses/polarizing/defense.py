"""Training with a polarizing front end in three stages, and with quantised pixels, its control."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from netprobe.data import Data
from netprobe.defenses.base import Defense
from netprobe.defenses.crafting import VALIDATION_STEPS
from netprobe.defenses.front_end import Defended
from netprobe.defenses.natural import entropy
from netprobe.defenses.polarizing.bumps import Bumps
from netprobe.defenses.polarizing.layers import PixelQuantiser, PolarizingFrontEnd
from netprobe.defenses.polarizing.polarization import polarization
from netprobe.errors import NetprobeError
from netprobe.fields import real, whole
from netprobe.outputs import logits_of
from netprobe.perturb.gradient import PGD

PAPER = {"threshold": 0.5, "eps": 0.3}
OF_DATA = {"fashion-mnist": {"threshold": 0.3, "eps": 0.1}}
"""Threshold and budget of the papers: for MNIST, and for data sets that have others."""


@dataclass(frozen=True, kw_only=True, repr=False)
class TernaryDefense(Defense):
    """A classifier behind a quantiser to -1, 0 and 1."""

    threshold: float | None = field(
        default=None,
        metadata=real(0, 1, inside=True, optional=True, help="c of the quantiser; none: 0.5, fashion-mnist 0.3"),
    )
    eps: float | None = field(
        default=None,
        metadata=real(0, 1, optional=True, help="Linf budget of the validation attack; none: 0.3, fashion-mnist 0.1"),
    )
    sharpness: float = field(
        default=8.0, metadata=real(0, inside=True, help="k of the smooth backward pass tanh(k (z - c))")
    )

    def completed(self, data: Data) -> Self:
        if data.kind != "image":
            raise NetprobeError(f"{self.name} is for images in [0, 1], not for a {data.kind} of shape {data.shape}")
        known = PAPER | OF_DATA.get(data.name, {})
        left = {name: value for name, value in known.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **left)

    def validation_attack(self) -> PGD:
        """PGD-10 from a random start, through every declared backward pass."""
        return PGD(self.budget, steps=VALIDATION_STEPS)

    def views(self, stages: Mapping[str, nn.Module], data: Data) -> dict[str, xr.Dataset]:
        return {"polarization": polarization(stages, data, self.budget, progress=False)}

    @property
    def budget(self) -> float:
        """`eps`, or what it is while the data are not known."""
        return PAPER["eps"] if self.eps is None else self.eps

    @property
    def cut(self) -> float:
        """`threshold`, or what it is while the data are not known."""
        return PAPER["threshold"] if self.threshold is None else self.threshold


@dataclass(frozen=True, kw_only=True, repr=False)
class PolarizingDefense(TernaryDefense):
    """L = CE(f(x), y) + lambda(t) mean B(z), z the front end's outputs before the quantiser; three equal stages.

        stage 1   B1(z) = exp(-z^2 / 2 s1^2), lambda from 0 in equal steps an epoch to just below 1; no quantiser
        stage 2   B2(z) = exp(-(z - c)^2 / 2 s2^2) + exp(-(z + c)^2 / 2 s2^2), lambda from 0 anew; no quantiser
        stage 3   quantiser on, filters frozen, CE alone: the classifier adapts

    The mean is over batch, filters and positions, as in the public code (the text divides by filters alone). The
    quantiser's gradient being zero, filters learn without it. Training accuracy is that of what is trained (in stages 1
    and 2 without the quantiser), validation accuracy that of the finished network, with it: poor before stage 3. The
    classifier needs `filters` input channels, which a network built by name gets. Bakiskan 2022, section 4.1.
    """

    name: ClassVar[str] = "polarizing"
    title: ClassVar[str] = "polarizing front end"

    filters: int = field(default=25, metadata=whole(1, help="number of filters"))
    size: int = field(default=5, metadata=whole(1, help="side of a filter, odd"))
    image_channels: int | None = field(default=None, metadata=whole(1, optional=True, help="of images; none: as given"))
    spread_width: float = field(default=0.35, metadata=real(0, inside=True, help="s1, width of the bump at 0"))
    gap_width: float = field(
        default=0.15, metadata=real(0, inside=True, help="s2, width of the bumps at the thresholds")
    )

    def completed(self, data: Data) -> Self:
        channels = data.shape[0] if self.image_channels is None else self.image_channels
        return dataclasses.replace(super().completed(data), image_channels=channels)

    @property
    def draws(self) -> bool:
        return False

    def channels(self, channels: int) -> int:
        return self.filters

    def build(self, model: nn.Module) -> Defended:
        first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
        if first is not None and first.in_channels != self.filters:
            raise NetprobeError(
                f"the classifier takes {first.in_channels} channels, but the front end gives {self.filters}: build it "
                f"with in_channels={self.filters}, or set filters={first.in_channels}"
            )
        front = PolarizingFrontEnd(self.filters, self.size, self.cut, self.image_channels or 1, self.sharpness)
        return Defended(front, model)

    def stages(self, epochs: int) -> tuple[int, ...]:
        if epochs < 3:
            raise NetprobeError(f"{self.name} has three stages, which {epochs} epochs cannot hold: train for 3 or more")
        return (0, epochs // 3, 2 * epochs // 3)

    def begin_epoch(self, model: Defended, epoch: int, epochs: int) -> None:
        stages = self.stages(epochs)
        stage = sum(first <= epoch for first in stages)
        model.front.filters.requires_grad_(stage < len(stages))
        model.front.begin(self.bumps(epoch, epochs))

    def bumps(self, epoch: int, epochs: int) -> Bumps | None:
        """What pushes outputs away in that epoch; None in the last stage."""
        bounds = (*self.stages(epochs), epochs)
        stage = sum(first <= epoch for first in bounds) - 1
        if stage + 2 == len(bounds):
            return None
        weight = (epoch - bounds[stage]) / (bounds[stage + 1] - bounds[stage])
        return Bumps(weight, *(((0.0,), self.spread_width), ((-self.cut, self.cut), self.gap_width))[stage])

    def loss(
        self, model: Defended, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        front, bumps = model.front, model.front.pushed_by
        if bumps is None:
            return entropy(model, x, y)
        z = front.polarized(x)
        logits = logits_of(model.classifier(front.quantise(z)), len(x))
        clean, bump = cross_entropy(logits, y), bumps(z)
        return {"loss": clean + bumps.weight * bump, "logits": logits, "clean_loss": clean, "bump": bump}


@dataclass(frozen=True, kw_only=True, repr=False)
class PixelQuantisation(TernaryDefense):
    """L = CE(f(q(x)), y): pixels quantised to 0 and 1 at c, nothing learnt before the classifier.

    The control that no claim of learnt polarization can do without: on MNIST it is on a par with it.
    """

    name: ClassVar[str] = "pixel-quantisation"
    title: ClassVar[str] = "pixel quantisation"

    @property
    def draws(self) -> bool:
        return False

    def build(self, model: nn.Module) -> Defended:
        return Defended(PixelQuantiser(self.cut, self.sharpness), model)

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        return entropy(model, x, y)
