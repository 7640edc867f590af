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
from netprobe.defenses.front_end import Defended
from netprobe.defenses.natural import entropy
from netprobe.defenses.polarizing.bumps import Bumps
from netprobe.defenses.polarizing.layers import PixelQuantiser, PolarizingFrontEnd
from netprobe.defenses.polarizing.polarization import polarization
from netprobe.fields import real, whole
from netprobe.outputs import logits_of
from netprobe.perturb.gradient import PGD

THRESHOLDS = {"fashion-mnist": 0.3}
"""Of data sets whose threshold is not 0.5."""
BUDGETS = {"fashion-mnist": 0.1}
"""Of data sets whose eps is not 0.3."""
VALIDATION_STEPS = 10


@dataclass(frozen=True, kw_only=True, repr=False)
class TernaryDefense(Defense):
    """A classifier behind a quantiser to -1, 0 and 1."""

    threshold: float | None = field(
        default=None,
        metadata=real(0, optional=True, help="c of the quantiser; none: 0.3 for fashion-mnist, otherwise 0.5"),
    )
    eps: float | None = field(
        default=None,
        metadata=real(
            0, optional=True, help="Linf budget of the validation attack; none: 0.1 for fashion-mnist, otherwise 0.3"
        ),
    )
    sharpness: float = field(default=8.0, metadata=real(0, help="k of the smooth backward pass tanh(k (z - c))"))

    def completed(self, data: Data) -> Self:
        threshold = THRESHOLDS.get(data.name, 0.5) if self.threshold is None else self.threshold
        eps = BUDGETS.get(data.name, 0.3) if self.eps is None else self.eps
        return dataclasses.replace(self, threshold=threshold, eps=eps)

    def validation_attack(self) -> PGD:
        """PGD-10 from a random start, through every declared backward pass."""
        return PGD(self.budget, steps=VALIDATION_STEPS)

    def views(self, stages: Mapping[str, nn.Module], data: Data) -> dict[str, xr.Dataset]:
        return {"polarization": polarization(stages, data, self.budget, progress=False)}

    @property
    def budget(self) -> float:
        return 0.3 if self.eps is None else self.eps

    @property
    def cut(self) -> float:
        return 0.5 if self.threshold is None else self.threshold


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
    spread_width: float = field(default=0.35, metadata=real(0, help="s1, width of the bump at 0"))
    gap_width: float = field(default=0.15, metadata=real(0, help="s2, width of the bumps at the thresholds"))

    def completed(self, data: Data) -> Self:
        channels = data.shape[0] if self.image_channels is None else self.image_channels
        return dataclasses.replace(super().completed(data), image_channels=channels)

    @property
    def draws(self) -> bool:
        return False

    def channels(self, channels: int) -> int:
        return self.filters

    def build(self, model: nn.Module) -> Defended:
        front = PolarizingFrontEnd(self.filters, self.size, self.cut, self.image_channels or 1, self.sharpness)
        return Defended(front, model)

    def stages(self, epochs: int) -> tuple[int, ...]:
        return (0, epochs // 3, 2 * epochs // 3) if epochs >= 3 else (0,)

    def begin_epoch(self, model: Defended, epoch: int, epochs: int) -> None:
        stages = self.stages(epochs)
        stage = sum(first <= epoch for first in stages)
        model.front.train_quantised(stage == len(stages))
        model.front.filters.requires_grad_(stage < len(stages))
        model.front.bumps = self.bumps(epoch, epochs)

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
        front = model.front
        if front.bumps is None:
            return entropy(model, x, y)
        z = front.polarized(x)
        logits = logits_of(model.classifier(front.quantise(z)), len(x))
        clean, bump = cross_entropy(logits, y), front.bumps(z)
        return {"loss": clean + front.bumps.weight * bump, "logits": logits, "clean_loss": clean, "bump": bump}


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
