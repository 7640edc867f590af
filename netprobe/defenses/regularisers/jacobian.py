"""The squared Frobenius norm of a Jacobian."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.defenses.regularisers.base import Penalty, Regulariser, Step, Subject, Sum, wide
from netprobe.defenses.regularisers.closed import closed_form
from netprobe.errors import NetprobeError
from netprobe.fields import pattern, real, switch, whole
from netprobe.perturb.randomness import normal
from netprobe.sites import Site, select

SCALED = "scaled"


@dataclass(frozen=True, kw_only=True, repr=False)
class Jacobian(Regulariser):
    """R = 1/B sum_b ||J_b||_F^2, J_b = d z_b / d x_b, z (width C) what is at `site`, x what is at `wrt`.

        R^ = C / (n B) sum_{i=1..n} sum_b ||J_b^T w_bi||^2,   w_bi uniform on the unit sphere of R^C,   E R^ = R

    In closed form, exact and free of noise, where `site` is the output of a linear layer or convolution that is given x
    itself (then R = ||W||_F^2, the same for all x), or of an elementwise activation a = f(h) right after it (R = 1/B
    sum_b sum_i f'(h_bi)^2 ||W_i||^2).

    Parameters
    ----------
    site : where z is, any number of numbers an image; several joined by "+" add up.
    wrt : with respect to what. "input": what the network is given, in [0, 1] for images, so that layers of its own
        that scale it (`normalize`, `scale`) are part of J. "scaled": what its first linear layer or convolution is
        given, behind all scaling, which is what the publications' networks were given as input. Or any other site,
        such as "conv2:in".
    projections : n, w per image; 0: all C unit vectors of R^C in turn, exact and C times as dear as one.
    closed : whether to use the closed form where there is one.

    Notes
    -----
    Unit: that of z over that of x, squared. No factor 1/2, which the reference library has. J is that of the forward
    pass in train mode on what the defense trains on: where batch norm stands before `site`, images interact, and a row
    of the gradient of sum_b w_b z_b is taken for J_b^T w_b, as everywhere. A piecewise linear network has a gradient of
    R only through its weights.
    Cost: n backward passes from `site` to `wrt`, each differentiated again: for a whole network about 2 n times a plain
    step. Under autocast these are made in the reduced precision of the forward pass; norms are float32.
    Hoffman, Roberts and Yaida, arXiv 1908.02729. Holzhausen et al., arXiv 2405.00679: coupling 1e-3, n = 3, z the
    pre-activation `hidden` of a single hidden layer, with respect to the scaled image (their code normalises only one
    of three projections, which comes to a coupling of 3.3e-4).
    """

    name: ClassVar[str] = "jacobian"
    title: ClassVar[str] = "Jacobian"

    coupling: float = field(default=1e-3, metadata=real(0, help="what the norm is multiplied with; 0: only record it"))
    site: str = field(default="output", metadata=pattern(help="where z is, as for `netprobe layers --sites`"))
    wrt: str = field(default="input", metadata=pattern(help="with respect to what: input, scaled, or a site"))
    projections: int = field(default=3, metadata=whole(0, help="random directions an image; 0: every unit vector"))
    closed: bool = field(default=True, metadata=switch(help="use the closed form where there is one"))

    def penalty(self, subject: Subject) -> Penalty:
        variable = self._variable(subject)
        return Sum(self._at(subject, site, variable) for site in subject.named(self.site))

    def _variable(self, subject: Subject) -> Site:
        if self.wrt == SCALED:
            entering = select(subject.sites, "weighted:in")
        else:
            entering = subject.named(self.wrt)
            if len(entering) > 1:
                names = ", ".join(site.name for site in entering)
                raise NetprobeError(f"wrt={self.wrt!r} must be one site, not {len(entering)} ({names})")
        return entering[0]

    def _at(self, subject: Subject, site: Site, variable: Site) -> Penalty:
        if site.order < variable.order:
            raise NetprobeError(
                f"what is at {site.name!r} is made before what is at wrt={variable.name!r}, and so does not depend on "
                "it: choose a later site, or wrt=input"
            )
        known = closed_form(subject, site, variable) if self.closed else None
        return known or Projected(site, variable, self.projections)

    def recorded(self) -> tuple[str, str, str]:
        about = f"mean of ||d z / d x||_F^2, z at {self.site}, x at {self.wrt}, as the weights were at every step"
        return "squared Jacobian norm", "1", about


class Projected(Penalty):
    """The estimate by random projections, or by all unit vectors."""

    def __init__(self, site: Site, variable: Site, projections: int) -> None:
        super().__init__()
        self.site, self.variable, self.projections = site, variable, projections
        self.sites, self.variables, self.draws = (site,), (variable,), projections > 0

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        z, x = wide(step.values[self.site.name]).flatten(1), step.variables[self.variable.name]
        if not z.requires_grad:
            raise NetprobeError(f"no gradient comes from {self.site.name!r} to {self.variable.name!r}: choose others")
        norms = [_squared_norm(z, w, x) for w in self._directions(z, step.generator)]
        return torch.stack(norms).sum() * (z.shape[1] / (len(norms) * len(z)))

    def _directions(self, z: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Unit vectors (B, C), an image's own in each row."""
        for _ in range(self.projections):
            w = normal(z.detach(), generator)
            yield w / w.norm(dim=1, keepdim=True)
        if not self.projections:
            yield from torch.eye(math.prod(z.shape[1:]), dtype=z.dtype, device=z.device)


def _squared_norm(z: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """sum_b ||J_b^T w_b||^2, which can be differentiated again."""
    (gradient,) = torch.autograd.grad((z * w).sum(), x, create_graph=True, materialize_grads=True)
    return wide(gradient).square().sum()
