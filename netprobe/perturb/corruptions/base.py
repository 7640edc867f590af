"""What all common corruptions are: a severity from 1 to 5 and two tables of constants, of small and of large images."""

from __future__ import annotations

import numbers
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.fields import choice, switch
from netprobe.perturb.base import Perturbation
from netprobe.perturb.geometry import Box

SEVERITIES = (1, 2, 3, 4, 5)
LARGE = 64
"""Images whose shorter side has this many pixels are corrupted with the constants of ImageNet-C, unless told."""


class Levels(NamedTuple):
    """The constants of severities 1 to 5 in CIFAR-10-C and in ImageNet-C."""

    cifar: tuple
    imagenet: tuple


def severity(*, help: str) -> dict:
    """Metadata of a severity: 1 to 5, or 0 for the identity."""

    def check(where: str, value: object) -> int:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value not in (0, *SEVERITIES):
            raise NetprobeError(f"{where} must be 1, 2, 3, 4 or 5, or 0 for unchanged images, not {value!r}")
        return int(value)

    return {"check": check, "help": help}


@dataclass(frozen=True, kw_only=True, repr=False)
class Corruption(Perturbation):
    """A common corruption of images (N, C, H, W) with one or three channels. Looks at neither model nor labels.

    Images of [low, high] are corrupted in [0, 1] and brought back; the result is clipped. Severity 0 is the identity.
    `constants` "auto" means those of CIFAR-10-C where the shorter side is below 64 pixels, else those of ImageNet-C.
    `eight_bit` rounds the result down to whole 1/255, as the benchmark's files do: darker by half a grey level.

    Reference: Hendrycks and Dietterich, ICLR 2019, and its public generator.
    """

    strength: ClassVar[str] = "severity"
    example: ClassVar[str] = "3"
    levels: ClassVar[Levels]
    channels: ClassVar[tuple[int, ...]] = (1, 3)

    severity: int = field(kw_only=False, metadata=severity(help="1 (mild) to 5; 0 leaves images as they are"))
    constants: str = field(
        default="auto", metadata=choice(("auto", *Levels._fields), help="whose severities; auto: by image size")
    )
    eight_bit: bool = field(default=False, metadata=switch(help="round down to 8 bits, as the benchmark's files do"))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        self.check_inputs(x)
        self.check_images(x)
        x = x.detach()
        if not self.severity:
            return x.clone()
        # In place, and without scaling by 1: large temporary tensors cost more than their arithmetic.
        unit, width = self.box == Box(), self.high - self.low
        changed = self.corrupted(x if unit else (x - self.low) / width, self.level(x), generator).clamp_(0, 1)
        changed = truncated(changed) if self.eight_bit else changed
        return changed if unit else self.box.clip(self.low + width * changed)

    @abstractmethod
    def corrupted(self, x: Tensor, level: Any, generator: torch.Generator | None) -> Tensor:
        """`x` in [0, 1], corrupted with the constants `level`: a new tensor, which may leave [0, 1]."""

    def constants_for(self, x: Tensor) -> str:
        """Whose constants images like `x` get: "cifar" or "imagenet"."""
        return self.constants if self.constants != "auto" else Levels._fields[min(x.shape[-2:]) >= LARGE]

    def level(self, x: Tensor) -> Any:
        """The constants of this severity for images like `x`."""
        return getattr(self.levels, self.constants_for(x))[self.severity - 1]

    def check_images(self, x: Tensor) -> None:
        """Refuse what is not a batch of images that this corruption is defined for."""
        if x.ndim != 4 or x.shape[1] not in self.channels:
            known = " or ".join(map(str, self.channels))
            raise NetprobeError(
                f"{self.name} is for images (N, C, H, W) with C = {known} channels, not for shape {tuple(x.shape)}"
            )


def truncated(x: Tensor) -> Tensor:
    """`x` in [0, 1] rounded down to whole 1/255; what is a whole 1/255 but for float32 round-off stays."""
    return (255 * x + 1e-3).floor() / 255


def grey(x: Tensor) -> Tensor:
    """Luma 0.299 R + 0.587 G + 0.114 B, (N, 1, H, W); grey images are their own."""
    if x.shape[1] == 1:
        return x
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(-1, 1, 1)).sum(1, keepdim=True)
