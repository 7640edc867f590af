"""Attacks of other libraries: how they are imported, and how they see a model."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import torch
from torch import Tensor, nn

from netprobe.errors import MissingLibrary
from netprobe.outputs import logits_of
from netprobe.perturb.geometry import Box


def needed(module: str, attack: str) -> ModuleType:
    """The module of an optional library; a `MissingLibrary` that says how to get it where there is none."""
    library = module.partition(".")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a library's own imports are warned of is not the user's business
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise MissingLibrary(
            f"{attack} comes from the library {library}, which is not installed: pip install netprobe-torch[attacks]"
        ) from None


class UnitBox(nn.Module):
    """A model as the libraries want it: inputs scaled from `box` to [0, 1], logits as a float32 tensor.

    Counts the images that go through, forwards and backwards: `passes` since it was last asked.
    """

    def __init__(self, model: nn.Module, box: Box, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.box, self.dtype = model, box, dtype
        self.forwards = self.backwards = 0
        self.eval()

    @property
    def width(self) -> float:
        return self.box.high - self.box.low

    def forward(self, u: Tensor) -> Tensor:
        logits = logits_of(self.model(self.outer(u)), len(u)).float()
        self.forwards += len(u)
        if logits.requires_grad:
            logits.register_hook(self._note_backward)
        return logits

    def inner(self, x: Tensor) -> Tensor:
        """Inputs as the library sees them, float32 in [0, 1]."""
        return ((x - self.box.low) / self.width).clamp(0, 1).float()

    def outer(self, u: Tensor) -> Tensor:
        """Inputs as the model sees them."""
        return self.box.clip(self.box.low + self.width * u.to(self.dtype))

    def moved(self, x: Tensor, found: Tensor) -> Tensor:
        """`x` changed as the library changed `inner(x)`; what it left alone stays as it is, bit for bit."""
        return self.box.clip(x + self.width * (found - self.inner(x)).to(self.dtype))

    def passes(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Forward and backward passes for each of the images with labels `y`: their mean, rounded up."""
        counted = tuple(torch.full_like(y, -(-count // len(y))) for count in (self.forwards, self.backwards))
        self.forwards = self.backwards = 0
        return counted

    def _note_backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def library_seed(generator: torch.Generator | None) -> int:
    """A seed for what draws from torch's global generator: its numbers do depend on the batch."""
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(2**31, (1,), generator=generator, device=device))
