"""Front ends that quantise to -1, 0 and 1: what learnt filters say of their patch, or the pixels themselves."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv2d

from netprobe.defenses.front_end import FrontEnd
from netprobe.defenses.polarizing.bumps import Bumps
from netprobe.defenses.quantiser import SURROGATES, quantise
from netprobe.errors import NetprobeError
from netprobe.perturb.backward import in_gradient

TINY = 1e-12
"""Keeps a filter of zeros from dividing by zero."""


class TernaryFrontEnd(FrontEnd):
    """q(z) = 1/2 sgn(z - c) + 1/2 sgn(z + c) of what `polarized` gives; c the threshold.

    In train mode the classifier sees z itself while bumps push it away (`begin`); in eval mode always q(z).
    """

    backward_passes = SURROGATES

    def __init__(self, threshold: float, sharpness: float = 8.0) -> None:
        super().__init__()
        self.threshold, self.sharpness = float(threshold), float(sharpness)
        self._pushed_by: Bumps | None = None

    def polarized(self, x: Tensor) -> Tensor:
        """z (N, K, H, W), |z| <= max |x|."""
        raise NotImplementedError

    def transform(self, x: Tensor) -> Tensor:
        return self.quantise(self.polarized(x))

    def quantise(self, z: Tensor) -> Tensor:
        """q(z), with the gradient that attacks follow; z itself in training without the quantiser."""
        if self.training and self._pushed_by is not None:
            return z
        surrogate = self.followed if self.followed in SURROGATES else None
        return quantise(z, (-self.threshold, self.threshold), surrogate, self.sharpness)

    def begin(self, bumps: Bumps | None) -> None:
        """Train from now on with these regularisers and without the quantiser, or with it and without them."""
        self._pushed_by = bumps

    @property
    def pushed_by(self) -> Bumps | None:
        """The regularisers of training as it is now."""
        return self._pushed_by

    def extra_repr(self) -> str:
        return f"threshold={self.threshold:g}, sharpness={self.sharpness:g}"


class PolarizingFrontEnd(TernaryFrontEnd):
    """q(z_k), z_k = (w_k * x) / ||w_k||_1: (N, channels, H, W) in [0, 1] -> (N, filters, H, W) in {-1, 0, 1}.

    By Hoelder |z_k| <= max |x|, and a change of x by at most eps changes z_k by at most eps: q cannot change where z
    is farther than eps from both thresholds (proposition 1). w_k: bias-free filters with as many zeros around the image
    as keep its size. The L1 norm is a part of the graph, so that only a filter's direction is learnt. Bakiskan 2022,
    section 4.1; number of filters and padding from the public code.

    Backward passes: "smooth" and "identity" replace the quantiser's gradient; "front-end" that of the whole layer by
    x repeated for every filter, divided by their number.

    >>> import torch
    >>> from netprobe.defenses.polarizing import PolarizingFrontEnd
    >>> front = PolarizingFrontEnd(filters=2, size=3).eval()
    >>> z = front(torch.rand(1, 1, 8, 8))
    >>> z.shape, set(z.unique().tolist()) <= {-1.0, 0.0, 1.0}
    (torch.Size([1, 2, 8, 8]), True)
    """

    backward_passes = (*SURROGATES, "front-end")

    def __init__(
        self, filters: int = 25, size: int = 5, threshold: float = 0.5, channels: int = 1, sharpness: float = 8.0
    ) -> None:
        super().__init__(threshold, sharpness)
        if size % 2 == 0:
            raise NetprobeError(f"polarizing filters must have an odd size, such as 5, not {size}: images keep theirs")
        self.filters = nn.Conv2d(channels, filters, size, padding=size // 2, bias=False)
        nn.init.kaiming_uniform_(self.filters.weight, nonlinearity="relu")

    def polarized(self, x: Tensor) -> Tensor:
        weight = self.filters.weight
        norms = weight.abs().sum((1, 2, 3), keepdim=True) + TINY
        return conv2d(x, weight / norms, padding=self.filters.padding)  # cheaper than to divide what comes out

    def transform(self, x: Tensor) -> Tensor:
        exact = super().transform(x)
        if self.followed != "front-end":
            return exact
        same = x.mean(1, keepdim=True).expand_as(exact) / exact.shape[1]
        return in_gradient(exact, same)


class PixelQuantiser(TernaryFrontEnd):
    """q(x), pixel by pixel: what of a polarizing front end's robustness needs no learnt filters."""

    def polarized(self, x: Tensor) -> Tensor:
        return x
