"""A convolution as the linear operator it is: a kernel, a grid of inputs and a grid of outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netprobe.errors import NetprobeError
from netprobe.weights.matrices import by_gram, gram

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True, eq=False)
class ConvOperator:
    """The linear map of a convolution, without its bias.

        y[o, i] = sum_{c, t} W[o, c, t] x[c, s i + d t - p],     i < output_size, t < kernel size (every axis alike)

    where x is 0 outside of its grid, or periodic if `circular`. `weight` is (C_out, C_in / groups, *kernel). A
    transposed convolution is the adjoint of such a map and has its singular values; a linear layer is a kernel of
    size 1 on a grid of size 1. `before` is the padding p in front; that behind follows from the sizes.
    """

    weight: Tensor
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    groups: int = 1
    circular: bool = False

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.input_size)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps along every axis."""
        return tuple(self.weight.shape[2:])

    @property
    def rows(self) -> int:
        """Numbers in an output."""
        return self.weight.shape[0] * math.prod(self.output_size)

    @property
    def columns(self) -> int:
        """Numbers in an input."""
        return self.weight.shape[1] * self.groups * math.prod(self.input_size)

    @property
    def count(self) -> int:
        """How many singular values it has: the smaller side."""
        return min(self.rows, self.columns)

    @property
    def macs(self) -> int:
        """Multiply-adds of one application."""
        return self.weight.numel() * math.prod(self.output_size)

    @property
    def extent(self) -> tuple[int, ...]:
        """Inputs between the first and the last tap of the kernel, both included."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """Padded inputs that the whole output reads, from the first to the last."""
        return tuple(s * (m - 1) + e for s, m, e in zip(self.stride, self.output_size, self.extent, strict=True))

    def positions(self, axis: int) -> Tensor:
        """Input coordinate of every (output position, tap) along `axis`, before any wrapping: (output, tap)."""
        i, t = torch.arange(self.output_size[axis]), torch.arange(self.kernel[axis])
        return self.stride[axis] * i[:, None] + self.dilation[axis] * t - self.before[axis]

    def inside(self, axis: int) -> Tensor:
        """Which of `positions` read an input rather than padding: (output, tap), bool."""
        at = self.positions(axis)
        return torch.ones_like(at, dtype=torch.bool) if self.circular else (at >= 0) & (at < self.input_size[axis])

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> ConvOperator:
        """The same operator in another precision or place."""
        return dataclasses.replace(self, weight=self.weight.to(device or self.weight.device, dtype))

    def blocks(self) -> Iterator[ConvOperator]:
        """One operator a group: the whole is block diagonal, its singular values are theirs together."""
        for weight in self.weight.chunk(self.groups):
            yield dataclasses.replace(self, weight=weight, groups=1)

    def apply(self, x: Tensor) -> Tensor:
        """A x for a batch of inputs (N, C_in, *input_size): (N, C_out, *output_size)."""
        if self._plain:
            return CONV[self.axes](x, self.weight, None, self.stride, self.before, self.dilation, self.groups)
        return CONV[self.axes](self._padded(x), self.weight, None, self.stride, 0, self.dilation, self.groups)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y for a batch of outputs (N, C_out, *output_size): (N, C_in, *input_size)."""
        if self._plain and self._mirrored is not None:
            padding = [e - 1 - p for e, p in zip(self.extent, self.before, strict=True)]
            return CONV[self.axes](y, self._mirrored, None, 1, padding, self.dilation)
        transpose = CONV_TRANSPOSE[self.axes]
        if self._plain:
            return transpose(y, self.weight, None, self.stride, self.before, self._unread, self.groups, self.dilation)
        return self._unpadded(transpose(y, self.weight, None, self.stride, 0, 0, self.groups, self.dilation))

    @cached_property
    def _plain(self) -> bool:
        """Whether torch's own zero padding, alike on both sides, gives just these outputs."""
        sizes = zip(self.input_size, self.output_size, self.stride, self.before, self.extent, strict=True)
        return not self.circular and all(p >= 0 and m == (n + 2 * p - e) // s + 1 for n, m, s, p, e in sizes)

    @cached_property
    def _mirrored(self) -> Tensor | None:
        """The kernel whose convolution is the adjoint, which is faster than a transposed one; stride 1 only."""
        fits = all(p < e for p, e in zip(self.before, self.extent, strict=True))
        if self.groups > 1 or set(self.stride) != {1} or not fits:
            return None
        return self.weight.transpose(0, 1).flip(tuple(range(2, self.weight.ndim))).contiguous()

    @property
    def _behind(self) -> list[int]:
        """Padding behind, along every axis; negative where the last inputs are not read."""
        return [r - p - n for r, p, n in zip(self.reach, self.before, self.input_size, strict=True)]

    @property
    def _unread(self) -> list[int]:
        """Inputs at the end that symmetric padding leaves unread; less than a stride."""
        return [p - behind for p, behind in zip(self.before, self._behind, strict=True)]

    def _edges(self, sign: int) -> list[int]:
        """Both paddings in the order of `F.pad`, last axis first."""
        pairs = list(zip(self.before, self._behind, strict=True))
        return [sign * edge for pair in reversed(pairs) for edge in pair]

    def _wrapped(self, axis: int) -> Tensor:
        """For every padded input along `axis`, the input it is a copy of."""
        at = torch.arange(self.reach[axis], device=self.weight.device) - self.before[axis]
        return at % self.input_size[axis]

    def _padded(self, x: Tensor) -> Tensor:
        if not self.circular:
            return F.pad(x, self._edges(1))
        for axis in range(self.axes):
            x = x.index_select(2 + axis, self._wrapped(axis))
        return x

    def _unpadded(self, padded: Tensor) -> Tensor:
        if not self.circular:
            return F.pad(padded, self._edges(-1))
        for axis in range(self.axes):
            shape = list(padded.shape)
            shape[2 + axis] = self.input_size[axis]
            padded = padded.new_zeros(shape).index_add_(2 + axis, self._wrapped(axis), padded)
        return padded

    @property
    def tall(self) -> bool:
        """Whether inputs are the smaller side."""
        return self.columns <= self.rows

    def forward(self, v: Tensor) -> Tensor:
        """From the smaller side to the larger: A v if the operator is tall, else A^T v."""
        return self.apply(v) if self.tall else self.adjoint(v)

    def backward(self, u: Tensor) -> Tensor:
        """From the larger side back to the smaller."""
        return self.adjoint(u) if self.tall else self.apply(u)

    @property
    def small_shape(self) -> tuple[int, ...]:
        """Shape of one element of the smaller side."""
        if self.tall:
            return (self.weight.shape[1] * self.groups, *self.input_size)
        return (self.weight.shape[0], *self.output_size)

    @cached_property
    def frobenius(self) -> float:
        """||A||_F, analytic: every tap counts as often as it reads an input rather than padding."""
        weight = self.weight.detach().cpu().double()
        uses = torch.ones((), dtype=torch.float64)
        for axis in range(self.axes):
            if self.circular and self.extent[axis] > self.input_size[axis]:
                weight = self._folded(weight, axis)
            uses = uses[..., None] * self.inside(axis).sum(0)[: weight.shape[2 + axis]]
        return math.sqrt(float((weight.square().sum((0, 1)) * uses).sum()))

    def _folded(self, weight: Tensor, axis: int) -> Tensor:
        """The kernel with the taps added up that read the same input of a short periodic axis."""
        source = self.dilation[axis] * torch.arange(self.kernel[axis]) % self.input_size[axis]
        places, index = source.unique(return_inverse=True)
        shape = list(weight.shape)
        shape[2 + axis] = len(places)
        return weight.new_zeros(shape).index_add_(2 + axis, index, weight)

    @cached_property
    def kernel_bound(self) -> float:
        """sqrt(number of taps) ||W reshaped to (C_out, C_in * taps)||_2: an upper bound of the norm, never the norm."""
        matrices = self.weight.detach().cpu().double().flatten(1).reshape(self.groups, -1, self.weight[0].numel())
        largest = by_gram(gram(matrices)).max()  # which a Gram matrix does not hurt
        return math.sqrt(math.prod(self.kernel)) * float(largest)

    @property
    def periodic(self) -> bool:
        """Whether it is a circular convolution on the whole grid, which the Fourier transform makes block diagonal."""
        sizes = zip(self.input_size, self.output_size, self.stride, strict=True)
        return self.circular and all(m * s == n for n, m, s in sizes)

    def made_circular(self) -> ConvOperator:
        """The published convention: the same kernel and stride on the periodic grid, whatever the padding was.

        Raises NetprobeError where a stride does not divide the size: then there is no such operator.
        """
        for n, s in zip(self.input_size, self.stride, strict=True):
            if n % s:
                raise NetprobeError(
                    f"stride {s} does not divide the input size {n}, so the periodic convolution is not defined; "
                    "use padding='own'"
                )
        size = tuple(n // s for n, s in zip(self.input_size, self.stride, strict=True))
        return dataclasses.replace(self, output_size=size, circular=True)


def operator_of(module: nn.Module, input_shape: Sequence[int], output_shape: Sequence[int]) -> ConvOperator:
    """The operator of a convolution, transposed convolution or linear layer for inputs (C, *size), or (..., C).

    The weights are those of `weight_of`. Raises NetprobeError for a padding mode that is neither zeros nor circular.
    """
    weight = weight_of(module).detach()
    if not isinstance(module, nn.modules.conv._ConvNd):
        one = (1,)
        return ConvOperator(weight[..., None], one, one, one, one, (0,))
    if module.padding_mode not in ("zeros", "circular"):
        raise NetprobeError(f"padding_mode={module.padding_mode!r} is neither 'zeros' nor 'circular'")
    axes = len(module.kernel_size)
    size, result = tuple(input_shape[-axes:]), tuple(output_shape[-axes:])
    if module.transposed:
        size, result = result, size
    circular = module.padding_mode == "circular"
    return ConvOperator(weight, size, result, module.stride, module.dilation, _before(module), module.groups, circular)


def weight_of(module: nn.Module) -> Tensor:
    """The weight that the layer's inputs meet, through which gradients flow.

    What its method `effective_weight` gives, if it has one (a layer that normalises its filters), else its `weight`.
    """
    return getattr(module, "effective_weight", lambda: module.weight)()


def _before(module: nn.Module) -> tuple[int, ...]:
    """Padding in front, along every axis; 'same' puts the smaller half there."""
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if module.padding == "same":
        return tuple(d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True))
    return tuple(module.padding)


def disagreement(module: nn.Module, operator: ConvOperator, input_shape: Sequence[int]) -> float:
    """How far the module's own forward is from the operator, relative: 0 up to rounding unless it does more.

    A subclass may standardise its weights, pad by itself or add an adapter: its weight alone then says nothing.
    """
    convolution = isinstance(module, nn.modules.conv._ConvNd)
    shape = input_shape[-operator.axes - 1 :] if convolution else input_shape
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(operator.weight)
    with torch.no_grad():
        try:
            linear = module(x) - module(torch.zeros_like(x))
        except (TypeError, RuntimeError):  # a forward with other arguments than a layer's
            return math.inf
        expected = _mapped(operator, module, x) if convolution else F.linear(x, operator.weight[..., 0])
    if linear.shape != expected.shape:
        return math.inf
    gap, size = (linear - expected).double().norm(), expected.double().norm()
    return float(gap / size) if size else float(gap)


def _mapped(operator: ConvOperator, module: nn.Module, x: Tensor) -> Tensor:
    return operator.adjoint(x) if module.transposed else operator.apply(x)
