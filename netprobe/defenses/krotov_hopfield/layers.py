"""Layers that were learnt by the local rule, and stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from netprobe.defenses.krotov_hopfield.rule import signed_power


class Local(nn.Module):
    """What `LocalLinear` and `LocalConv2d` share: the weights that inputs meet are

        W^_mu = sign(W_mu) |W_mu|^(p - 1) for a unit mu that is kept, 0 for one that is pruned.

    The state dict holds
        weight    W (H, ...) as it was learnt, pruned units too; it needs no gradient
        kept      (H,) which units are not pruned
        cutoff    the variance of W_mu from which on units are pruned; infinity: none
        attempts  (A, 3) of every attempt to learn W `Attempt`'s numbers, -1 for those that were not needed
    and `effective_weight()` is W^, which analyses of weights read. h is computed in float32 at least, also under
    autocast: powers of it follow.
    """

    weight: nn.Parameter
    kept: Tensor
    cutoff: Tensor
    attempts: Tensor
    powered: Tensor

    def _begin(self, p: float, attempts: int) -> None:
        """Random weights N(0, 1), nothing pruned."""
        self.p = p
        self.register_buffer("kept", torch.ones(len(self.weight), dtype=torch.bool))
        self.register_buffer("cutoff", torch.tensor(torch.inf))
        self.register_buffer("attempts", torch.full((attempts, 3), -1.0))
        nn.init.normal_(self.weight.requires_grad_(False))
        self.register_buffer("powered", self.effective_weight(), persistent=False)
        self.register_load_state_dict_post_hook(_refreshed)

    def effective_weight(self) -> Tensor:
        """W^, of the shape of W; differentiable."""
        return signed_power(self.weight, self.p) * self.kept.view(-1, *[1] * (self.weight.ndim - 1))

    @torch.no_grad()
    def put(self, weight: Tensor, kept: Tensor, cutoff: float, attempts: Iterable[tuple[float, ...]] = ()) -> None:
        """Take over what was learnt: `weight` (H, D)."""
        self.weight.copy_(weight.view_as(self.weight))
        self.kept.copy_(kept)
        self.cutoff.fill_(cutoff)
        for row, numbers in zip(self.attempts, attempts, strict=False):
            row.copy_(torch.tensor(numbers))
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Make W^ anew, after W was changed by other means than `put` and `load_state_dict`."""
        self.powered = self.effective_weight()

    def made(self) -> Tensor:
        """What came of the attempts that were made to learn it, (A, 3): none of an untrained layer."""
        return self.attempts[self.attempts[:, 0] >= 0]

    def _met(self) -> Tensor:
        """W^, with a gradient if someone trains W after all."""
        return self.effective_weight() if self.weight.requires_grad else self.powered

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p:g}"


def _refreshed(layer: Local, _keys: object) -> None:
    layer.refresh()


class LocalLinear(Local, nn.Linear):
    """h = x W^T with W^ = sign(W) |W|^(p - 1), without bias: (..., D) -> (..., H)."""

    @classmethod
    def like(cls, layer: nn.Linear, p: float, attempts: int = 1) -> Self:
        """One in place of `layer`, of the same width, with weights of its own."""
        made = cls(layer.in_features, layer.out_features, bias=False)
        made._begin(p, attempts)
        return made.to(layer.weight).train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return linear(x.to(self.weight.dtype), self._met())


class LocalConv2d(Local, nn.Conv2d):
    """Convolution by W^ = sign(W) |W|^(p - 1), without bias: every place's h is that of a linear layer on its patch."""

    @classmethod
    def like(cls, layer: nn.Conv2d, p: float, attempts: int = 1) -> Self:
        """One in place of `layer`, of the same geometry, with weights of its own."""
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        made = cls(*sizes, bias=False, padding_mode=layer.padding_mode)
        made._begin(p, attempts)
        return made.to(layer.weight).train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self._conv_forward(x.to(self.weight.dtype), self._met(), None)
