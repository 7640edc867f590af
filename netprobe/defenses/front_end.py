"""Front ends: layers before a classifier that quantise or drop what they see, with the attacks that this calls for."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from netprobe.outputs import logits_of, widened

BYPASS = "bypass"
"""The backward pass that leaves the front end out: the attack sees the classifier alone."""


class FrontEnd(nn.Module, ABC):
    """A layer (N, ...) -> (N, ...) whose true gradient says nothing, so that attacks need another.

    backward_passes  names of the backward passes that attacks may use, the strongest first (`perturb.backward`). Values
                     are the same in all of them, but for "bypass": there the attack is made on the classifier alone.
                     Whether the model is fooled is always asked of the model as it is.
    realisations     how many passes of a random front end are averaged for a prediction; 1: none

    To write one: `transform`, which asks `followed` which gradient it is to have.
    """

    backward_passes: tuple[str, ...] = ()
    realisations: int = 1

    def __init__(self) -> None:
        super().__init__()
        self._attacked: str | None = None

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """What the classifier sees."""

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x)

    @property
    def followed(self) -> str | None:
        """The backward pass to follow now: None outside of attacks, and where no gradient is asked for."""
        return self._attacked if torch.is_grad_enabled() else None

    @contextlib.contextmanager
    def backward_surrogate(self, name: str | None = None) -> Iterator[None]:
        """Inside, gradients are those of the backward pass of that name, or of the first."""
        before, self._attacked = self._attacked, name or self.backward_passes[0]
        try:
            yield
        finally:
            self._attacked = before


class Defended(nn.Module):
    """`classifier` behind `front`: logits (N, K) of inputs in [0, 1].

    Where the front end is random and no gradient is asked for, in eval mode, logits are those of an ensemble, of E its
    `realisations`: log(1/E sum_e softmax(f_e(x))). Gradients are those of single realisations.
    """

    def __init__(self, front: FrontEnd, classifier: nn.Module) -> None:
        super().__init__()
        self.front = front
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        if self.front.followed == BYPASS:
            return self.classifier(x)
        if self.training or torch.is_grad_enabled() or self.front.realisations == 1:
            return self.classifier(self.front(x))
        passes = [logits_of(self.classifier(self.front(x)), len(x)) for _ in range(self.front.realisations)]
        mean = torch.stack([widened(logits).softmax(1) for logits in passes]).mean(0)
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log().to(passes[0].dtype)
