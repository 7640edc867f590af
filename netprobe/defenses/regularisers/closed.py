"""Jacobians of a first linear layer, and of an activation after it, in closed form."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from netprobe.defenses.regularisers.base import Penalty, Step, Subject, wide
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.models.shallow import PowerReLU
from netprobe.sites import Site, listening
from netprobe.weights.layers import CONVOLUTIONS, LINEAR
from netprobe.weights.operators import ConvOperator, disagreement, operator_of, weight_of

ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign),
    *(nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Tanhshrink, PowerReLU),
)
"""Activations whose every output depends on its own input alone."""

ROUNDING = 1e-4
"""Largest relative difference between what a layer does and the linear map of its weight."""


class ClosedForm(Penalty):
    """R = 1/B sum_b sum_i a'(h_bi)^2 ||W_i||^2, h = W x (+ bias), W_i the i-th row; without activation a' = 1."""

    def __init__(self, site: Site, layer: Site, operator: ConvOperator, transposed: bool) -> None:
        super().__init__()
        self.at, self.layer, self.operator, self.transposed = site, layer, operator, transposed
        self.activated = site.module != layer.module
        self.sites = (layer,) if self.activated else ()

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        norms = self.row_norms(model.get_submodule(self.layer.module)).broadcast_to(self.layer.shape)
        if not self.activated:
            return norms.sum()
        h = step.values[self.layer.name]
        with torch.enable_grad():
            h = h if h.requires_grad else h.requires_grad_()
            activated = model.get_submodule(self.at.module)(h.clone())  # which may work in place
            (slope,) = torch.autograd.grad(activated.sum(), h, create_graph=True)
        return (wide(slope).square() * norms).sum() / len(h)

    def row_norms(self, module: nn.Module) -> Tensor:
        """||W_i||^2 of every output i of one sample: the map of the squared weights, on ones."""
        squared = dataclasses.replace(self.operator, weight=wide(weight_of(module)).square())
        if squared.weight.ndim == 2:
            return squared.weight.sum(1)
        grid = squared.output_size if self.transposed else squared.input_size
        channels = squared.weight.shape[0] if self.transposed else squared.weight.shape[1] * squared.groups
        ones = squared.weight.new_ones(1, channels, *grid)
        return (squared.adjoint(ones) if self.transposed else squared.apply(ones))[0]


def closed_form(subject: Subject, site: Site, variable: Site) -> ClosedForm | None:
    """The closed form for the Jacobian of what is at `site` with respect to `variable`; None where there is none.

    There is one where `site` is the output of a linear layer or convolution that is given `variable` itself, but for
    its shape, or of an elementwise activation of that output. Both are told by the modules in between and by a pass of
    random inputs in train mode, in which nothing may change a bit.
    """
    linear = _linear_before(subject, site)
    if linear is None or not _nothing_between(subject, variable, linear):
        return None
    ends = [_entering(subject, linear), *([_entering(subject, site)] if site is not linear else [])]
    if None in ends or not _same(subject, [(variable, ends[0]), *((linear, end) for end in ends[1:])]):
        return None
    module = subject.model.get_submodule(linear.module)
    try:
        operator = operator_of(module, ends[0].shape, linear.shape)
    except NetprobeError:  # a padding that is neither zeros nor circular
        return None
    with undisturbed(subject.model):
        if disagreement(module, operator, ends[0].shape) > ROUNDING:
            return None
    return ClosedForm(site, linear, operator, getattr(module, "transposed", False))


def _linear_before(subject: Subject, site: Site) -> Site | None:
    """The site itself if it is the output of a linear layer, or the one before an elementwise activation."""
    if site.where != "output" or _calls(subject, site) > 1:
        return None
    if site.lineage & (LINEAR | CONVOLUTIONS):
        return site
    if type(subject.model.get_submodule(site.module)) not in ELEMENTWISE:
        return None
    before = [s for s in subject.sites if s.where == "output" and s.leaf and s.order < site.order]
    if before and before[-1].lineage & (LINEAR | CONVOLUTIONS) and _calls(subject, before[-1]) == 1:
        return before[-1]
    return None


def _calls(subject: Subject, site: Site) -> int:
    return sum(s.module == site.module and s.where == "output" for s in subject.sites)


def _entering(subject: Subject, site: Site) -> Site | None:
    entering = [s for s in subject.sites if s.module == site.module and s.where == "input"]
    return entering[0] if len(entering) == 1 else None


def _nothing_between(subject: Subject, variable: Site, linear: Site) -> bool:
    """Whether no layer works between the two but such as change the shape."""
    passed = [s for s in subject.sites if variable.order < s.order < linear.order and s.leaf and s.where == "output"]
    return all(s.kind in ("Flatten", "Unflatten", "Identity") for s in passed)


def _same(subject: Subject, pairs: list[tuple[Site, Site]]) -> bool:
    """Whether the tensors of each pair are one, bit for bit, in train mode at random inputs."""
    seen: dict[str, Tensor] = {}
    x = torch.rand(subject.example.shape, generator=torch.Generator().manual_seed(0)).to(subject.example)
    sites = list({site.name: site for pair in pairs for site in pair}.values())
    with undisturbed(subject.model) as model, torch.no_grad():
        model.train()
        with listening(model, sites, lambda site, tensor: seen.update({site.name: tensor.clone()})):
            model(x)
    return all(torch.equal(seen[one.name].flatten(1), seen[other.name].flatten(1)) for one, other in pairs)
