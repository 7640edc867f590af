"""What all our perturbations are: frozen settings, checked when made, and a box that inputs stay in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.fields import Checked, real
from netprobe.perturb.geometry import Box


@dataclass(frozen=True, kw_only=True, repr=False)
class Perturbation(Checked, ABC):
    """Change inputs: p(model, x, y, generator=g) -> x'.

    Parameters
    ----------
    model : the network, (N, ...) -> logits (N, K); left as found. Noise does not use it.
    x : (N, ...) float32 or float64, in [low, high]; not modified.
    y : (N,) true labels. Noise does not use them.
    generator : an `ImageGenerator` makes the result of an image independent of its batch; any other
        torch.Generator draws for the batch as a whole; None is torch's global generator.

    Returns
    -------
    x' of the shape, dtype and device of x, in [low, high], detached.
    """

    name: ClassVar[str]  # in specs and on the command line
    title: ClassVar[str]  # in results and legends
    strength: ClassVar[str]  # the setting that says how strong it is; 0 is the identity
    example: ClassVar[str] = "8/255"  # a strength, as one would write it

    low: float = field(default=0.0, metadata=real(help="smallest value of an input"))
    high: float = field(default=1.0, metadata=real(help="largest value of an input"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low < self.high:
            raise NetprobeError(f"{type(self).__name__}: low={self.low:g} must be below high={self.high:g}")

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor: ...

    @property
    def family(self) -> str:
        """What results and legends call it: perturbations of one family differ in strength."""
        return self.title

    @property
    def box(self) -> Box:
        """The values that inputs may have."""
        return Box(self.low, self.high)

    def check_inputs(self, x: Tensor) -> None:
        """Refuse what would be silently wrong: whole numbers, half precision, values outside the box."""
        if x.ndim < 2 or x.numel() == 0:
            raise NetprobeError(f"inputs must be (N, ...) and not empty, not of shape {tuple(x.shape)}")
        if x.dtype not in (torch.float32, torch.float64):
            raise NetprobeError(
                f"inputs must be float32 or float64, not {x.dtype}: half precision cannot hold a small eps"
            )
        if not self.box.holds(x):
            raise NetprobeError(
                f"inputs must be in [{self.low:g}, {self.high:g}], but go from {x.min():.4g} to "
                f"{x.max():.4g}: normalise inside the model (netprobe.load(..., normalize=...)), "
                "or set the perturbation's low and high (waveforms: low=-1)"
            )

    def check_input_units(self, setting: str) -> None:
        """Refuse a `setting` wider than the box: the usual mistake is to give 8 for 8/255."""
        value, width = getattr(self, setting), self.high - self.low
        if value > width:
            raise NetprobeError(
                f"{type(self).__name__}.{setting}={value:g} is more than the whole range "
                f"[{self.low:g}, {self.high:g}] of an input: it is in input units, "
                f"did you mean {value:g}/255 ({value / 255:.4g})?"
            )

    def changed_settings(self) -> dict[str, object]:
        """The settings that are not the default, and always the strength, which comes first."""
        return {self.strength: getattr(self, self.strength), **super().changed_settings()}
