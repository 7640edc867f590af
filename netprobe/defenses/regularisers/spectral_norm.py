"""Operator norms of the layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.defenses.regularisers.base import Penalty, Regulariser, Step, Subject, Survey, wide
from netprobe.errors import NetprobeError
from netprobe.fields import choice, pattern, real, whole
from netprobe.processes import Processes
from netprobe.weights.layers import CONVOLUTIONS, LINEAR, Layer, choose, find_layers
from netprobe.weights.operators import ConvOperator, disagreement, operator_of, weight_of

BLOCK = 4
"""Vectors that are iterated together: the error of the largest value falls by (s_5 / s_1)^2 a step, not (s_2 / s_1)^2.
"""
TOLERANCE, MOST = 1e-4, 300
"""As an epoch begins: iterations go on until a norm grows by less than this share of itself, ten at a time."""
ROUNDING = 1e-3
REDUCTIONS = ("sum", "max")


@dataclass(frozen=True, kw_only=True, repr=False)
class SpectralNorm(Regulariser):
    """R = sum_l ||A_l||_2^2, or the largest of these: A_l the matrix of layer l, its bias left out.

    Of a convolution that is the operator on the whole image, with its stride, padding, dilation and groups, as
    `netprobe weights` has it, and not the norm of its reshaped kernel. Batch norm is not part of A.

    The norm is found by block power iteration through the layer itself: a block of 4 vectors v on the smaller side, v
    <- orth(A^T A v), then the best vector in their span. It goes on from where it was, `iterations` a step; when an
    epoch begins, until the value grows by less than 1e-4. Then R = ||A v||^2 with v fixed, whose gradient is 2 s_1 u_1
    v_1^T. It is never above the norm; below it by 1e-3 at most, as measured on convolutions.

    layers : which, as for `netprobe weights --layers`; patterns joined by "+". reduce : "sum" or "max".

    Unit: that of the layer's output over its input, squared. Cost a step: 8 (iterations + 1) images through each layer
    and back. Refused: a layer that does more than its weight says. Yoshida and Miyato, arXiv 1705.10941 (with a factor
    1/2, and reshaped kernels).
    """

    name: ClassVar[str] = "spectral-norm"
    title: ClassVar[str] = "spectral norm"

    coupling: float = field(default=1e-2, metadata=real(0, help="what the term is multiplied with; 0: only record it"))
    layers: str = field(default="weighted", metadata=pattern(help="which layers, as for `netprobe weights --layers`"))
    reduce: str = field(default="sum", metadata=choice(REDUCTIONS, help="what is made of the squared norms"))
    iterations: int = field(default=1, metadata=whole(1, help="power iterations a step"))

    def penalty(self, subject: Subject) -> Penalty:
        every = [layer for layer in find_layers(subject.model, subject.example) if layer.lineage & KINDS]
        chosen = choose(every, self.layers if self.layers.startswith("re:") else self.layers.split("+"))
        return Norms((Leading(layer, _operator(layer, subject), self.iterations) for layer in chosen), self.reduce)

    def recorded(self) -> tuple[str, str, str]:
        which = {"sum": "sum over layers", "max": "largest of the layers"}[self.reduce]
        return "squared operator norms", "1", f"{which} ({self.layers}) of ||A||_2^2, as the weights were at every step"


KINDS = CONVOLUTIONS | LINEAR


def _operator(layer: Layer, subject: Subject) -> ConvOperator:
    """The map of a layer, checked against the layer."""
    if not layer.usable:
        raise NetprobeError(f"layer {layer.name!r} cannot be regularised: {layer.note}")
    module = layer.of(subject.model)
    operator = operator_of(module, layer.input_shape, layer.output_shape)
    if disagreement(module, operator, layer.input_shape) > ROUNDING:
        raise NetprobeError(f"layer {layer.name!r} does more than its weight says: leave it out with '~{layer.name}'")
    return operator


class Norms(Penalty):
    """The sum or the largest of squared norms."""

    def __init__(self, layers: Iterable[Leading], reduce: str) -> None:
        super().__init__()
        self.layers, self.reduce = nn.ModuleList(layers), reduce

    def begin_epoch(self, model: nn.Module, survey: Survey, together: Processes) -> None:
        for layer in self.layers:
            layer.settle(model)

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        squares = torch.stack([layer(model) for layer in self.layers])
        return squares.sum() if self.reduce == "sum" else squares.amax()


class Leading(nn.Module):
    """||A||_2^2 of one layer, and the `vectors` (block, ...) that its iteration goes on from, the leading one first."""

    vectors: Tensor

    def __init__(self, layer: Layer, operator: ConvOperator, iterations: int) -> None:
        super().__init__()
        self.path, self.iterations = layer.path, iterations
        self.operator = dataclasses.replace(operator, weight=torch.empty(()))  # the weight is the layer's, as of now
        shape = operator.small_shape
        start = torch.randn(min(BLOCK, operator.count), *shape, generator=torch.Generator().manual_seed(0))
        self.tall = operator.tall
        self.register_buffer("vectors", start.to(operator.weight.device))

    def now(self, model: nn.Module) -> ConvOperator:
        """The layer's map with the weight that it has now, through which gradients flow."""
        weight = wide(weight_of(model.get_submodule(self.path)))
        return dataclasses.replace(self.operator, weight=weight[..., None] if weight.ndim == 2 else weight)

    @torch.no_grad()
    def settle(self, model: nn.Module) -> None:
        """Iterate until the norm is found."""
        operator, last = self.now(model), 0.0
        for _ in range(0, MOST, 10):
            norm = float(self.iterate(operator, 10))
            if norm <= last * (1 + TOLERANCE):
                return
            last = norm

    @torch.no_grad()
    def iterate(self, operator: ConvOperator, times: int) -> Tensor:
        """Move the vectors on; the squared norm that they tell."""
        v = self.vectors.to(operator.weight)
        for _ in range(times):
            v = _orthonormal(operator.backward(operator.forward(v)))
        image = operator.forward(v).flatten(1)
        values, turned = torch.linalg.eigh(image @ image.T)  # ascending
        v = torch.tensordot(turned.flip(1).T, v, 1)
        self.vectors.copy_(v)
        return values[-1]

    def forward(self, model: nn.Module) -> Tensor:
        self.iterate(self.now(model), self.iterations)
        operator = self.now(model)  # anew: one remembers what it has computed, here without gradients
        return operator.forward(self.vectors[:1].to(operator.weight)).square().sum()


def _orthonormal(block: Tensor) -> Tensor:
    """An orthonormal basis of what the block spans; a zero operator leaves any."""
    return torch.linalg.qr(block.flatten(1).T)[0].T.reshape(block.shape)
