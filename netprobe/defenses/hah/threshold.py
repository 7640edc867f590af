"""The adaptive threshold of HaH blocks: every channel keeps the places where it is strongest."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from netprobe.defenses.hah.selecting import kth_smallest
from netprobe.errors import NetprobeError, unknown
from netprobe.perturb.backward import in_gradient

RULES = ("keep", "mean", "none")
PASSES = ("own", "through")
ROUNDING = 1e-9
"""So that a share of a whole number of places is that number: (1 - 0.9) 10 is 0.9999999999999998 in floats."""


class AdaptiveThreshold(nn.Threshold):
    """o = z where z > tau, else 0; tau (N, C, 1, 1) is told from every channel of every image (N, C, H, W) by itself.

        keep   tau is the k-th smallest of the H W values, k = floor((1 - keep) H W): at most H W - k places remain, 205
               of 1024 at keep = 0.2. Where k values or more are 0 and none is below, tau = 0: the positives remain
        mean   tau is their mean
        none   o = z

    The same in train and eval mode, without state. No gradient goes through tau: that of o is that of z where o = z.
    Where k = 0 (too few places) nothing is thresholded. Cekic, Bakiskan and Madhow, arXiv 2202.13074, eq. 3.

    A gradient that stops at four places of five may mask what there is to find. So attacks try two backward passes
    (`perturb.backward`): "own", the true gradient, and "through", as if every place had been kept.

    >>> import torch
    >>> from netprobe.defenses.hah import AdaptiveThreshold
    >>> AdaptiveThreshold(keep=0.5)(torch.tensor([1.0, 2, 3, 4]).view(1, 1, 2, 2))
    tensor([[[[0., 0.],
              [3., 4.]]]])
    """

    stands_alone = True

    def __init__(self, keep: float = 0.2, rule: str = "keep") -> None:
        super().__init__(0.0, 0.0)  # a threshold and what takes the place of the rest; sites know it as an activation
        if rule not in RULES:
            raise unknown("rule of the threshold", rule, RULES)
        if not 0 < keep <= 1:
            raise NetprobeError(f"keep={keep!r}: the share of places that a channel keeps is above 0 and at most 1")
        self.keep, self.rule = float(keep), rule
        self.backward_passes = () if rule == "none" else PASSES
        self._through = False

    def forward(self, z: Tensor) -> Tensor:
        tau = self.tau(z)
        if tau is None:
            return z
        kept = _Kept.apply(z, tau)
        return in_gradient(kept, z) if self._through and torch.is_grad_enabled() else kept

    @contextlib.contextmanager
    def backward_surrogate(self, name: str = PASSES[0]) -> Iterator[None]:
        """Inside, gradients are those of the backward pass of that name."""
        before, self._through = self._through, name == "through"
        try:
            yield
        finally:
            self._through = before

    def tau(self, z: Tensor) -> Tensor | None:
        """The thresholds (N, C, 1, 1); None: there are none."""
        if self.rule == "mean":
            return z.detach().mean((2, 3), keepdim=True)
        k = math.floor((1 - self.keep) * math.prod(z.shape[2:]) + ROUNDING)
        if self.rule == "none" or k == 0:
            return None
        return kth_smallest(z.flatten(2), k).unsqueeze(-1)

    def extra_repr(self) -> str:
        return f"rule={self.rule}" + (f", keep={self.keep:g}" if self.rule == "keep" else "")


class _Kept(torch.autograd.Function):
    """z where z > tau, else 0 (NaN where z is). All that is kept for the gradient is the result, as what follows does.

    On a CPU `threshold_backward`, a where c > 0 and else 0, is vectorised; `torch.where` and masks are not.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, z: Tensor, tau: Tensor) -> Tensor:
        o = torch.ops.aten.threshold_backward(z, z - tau, 0)
        ctx.save_for_backward(o)
        return o

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (o,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, o.detach().abs(), 0), None
