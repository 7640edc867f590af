"""All singular values of a periodic convolution: one small matrix a frequency.

On the periodic grid the Fourier transform makes the convolution block diagonal (Sedghi, Gupta and Long 2019). With
W(w) = sum_t W[t] exp(-i w d t), the block of output frequency w is the C_out x s^2 C_in matrix

    A(w) = [W(w_1) ... W(w_S)] / sqrt(S),   the S = s^2 input frequencies that alias to w under stride s (2-D).

What makes it fast: a real kernel has A(-w) = conj A(w), so half of the frequencies do, and count twice; the transform
is a product with the few taps instead of an FFT of a padded kernel; A A^H comes straight from the kernel's
autocorrelation, G(w) = sum_lag R[lag] exp(-i w lag), where of a strided kernel only lags that are multiples of s
remain; at self-conjugate frequencies it is real; and frequencies are spread over threads, each with one BLAS thread,
because LAPACK's own do nothing for small matrices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from netprobe.errors import NetprobeError
from netprobe.weights.matrices import DTYPE, ERROR, by_gram, by_svd, gram, unresolved
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import SingularValues
from netprobe.weights.threads import one_thread
from netprobe.weights.windows import disjoint, window_values

CHUNK_BYTES = 1 << 24
"""Blocks handled at a time by one thread."""

SMALL = 64
"""Up to so many channels eigenvalues in float64 take less time than singular values in float32."""

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Frequencies:
    """Frequencies w = 2 pi index / size of a grid, (frequency, axis), one of each conjugate pair.

    `real` ones are their own conjugates and count once, the others twice.
    """

    index: Tensor
    real: bool

    @property
    def multiplicity(self) -> int:
        """How often each counts."""
        return 1 if self.real else 2

    def chunks(self, size: int) -> Iterator[Frequencies]:
        """Pieces of at most `size` frequencies."""
        return (Frequencies(index, self.real) for index in self.index.split(size) if len(index))


def half_spectrum(size: tuple[int, ...]) -> tuple[Frequencies, Frequencies]:
    """The self-conjugate frequencies of a grid, and one of each pair of the others."""
    index = torch.cartesian_prod(*map(torch.arange, size)).reshape(-1, len(size))
    strides = torch.tensor([math.prod(size[axis + 1 :]) for axis in range(len(size))])
    mine = index @ strides
    partner = (-index % torch.tensor(size)) @ strides
    return Frequencies(index[mine == partner], True), Frequencies(index[mine < partner], False)


@dataclass(frozen=True, eq=False)
class Symbol:
    """The blocks A(w) of a periodic operator and their Gram matrices, in one precision."""

    operator: ConvOperator
    dtype: torch.dtype

    @cached_property
    def taps(self) -> Tensor:
        """The kernel as (tap, group, C_out, C_in). With stride 1, transposed if need be to have C_out <= C_in:
        A(w) and its transpose have the same singular values."""
        weight = self.operator.weight.detach().cpu().to(self.dtype).flatten(2).movedim(-1, 0)
        taps = weight.reshape(len(weight), self.operator.groups, -1, weight.shape[-1])
        flip = self.aliases.shape[0] == 1 and taps.shape[-2] > taps.shape[-1]
        return (taps.mT if flip else taps).contiguous()

    @cached_property
    def offsets(self) -> Tensor:
        """Place of every tap in input samples, (tap, axis)."""
        taps = torch.cartesian_prod(*map(torch.arange, self.operator.kernel)).reshape(-1, self.operator.axes)
        return taps * torch.tensor(self.operator.dilation)

    @cached_property
    def aliases(self) -> Tensor:
        """What to add to an output frequency's index for the input frequencies that alias to it, (alias, axis)."""
        steps = torch.cartesian_prod(*map(torch.arange, self.operator.stride)).reshape(-1, self.operator.axes)
        return steps * torch.tensor(self.operator.output_size)

    def _phases(self, index: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of w . offset, (frequency, offset)."""
        size = torch.tensor(self.operator.input_size)
        turns = ((index[:, None] * offsets) % size).double() / size
        angle = 2 * math.pi * turns.sum(-1)
        return angle.cos().to(self.dtype), angle.sin().to(self.dtype)

    def blocks(self, frequencies: Frequencies) -> Tensor:
        """A(w), (frequency, group, C_out, alias * C_in)."""
        index = (frequencies.index[:, None] + self.aliases).flatten(0, 1)
        cos, sin = self._phases(index, self.offsets)
        real, taps = frequencies.real and len(self.aliases) == 1, self.taps.flatten(1) / math.sqrt(len(self.aliases))
        blocks = cos @ taps if real else torch.complex(cos @ taps, -sin @ taps)
        blocks = blocks.reshape(len(frequencies.index), len(self.aliases), *self.taps.shape[1:])
        return blocks.permute(0, 2, 3, 1, 4).flatten(3)

    @cached_property
    def _pairs(self) -> dict[tuple[int, ...], list[tuple[int, int]]]:
        """Pairs of taps by their lag, one of each lag and its negative; only lags that survive the stride."""
        pairs: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        places = self.offsets.tolist()
        for (i, one), (j, other) in itertools.product(enumerate(places), repeat=2):
            lag = tuple(a - b for a, b in zip(one, other, strict=True))
            if lag >= (0,) * len(lag) and not any(n % s for n, s in zip(lag, self.operator.stride, strict=True)):
                pairs.setdefault(lag, []).append((i, j))
        return pairs

    @cached_property
    def autocorrelation(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lags (lag, axis), and the even and odd parts of R[lag] = sum_{t - t' = lag} W[t] W[t']^T, flattened."""
        even, odd = [], []
        for lag, pairs in self._pairs.items():
            first, second = (self.taps[list(half)].permute(1, 2, 0, 3).flatten(2) for half in zip(*pairs, strict=True))
            product = first @ second.mT
            even.append(product + product.mT if any(lag) else product)
            odd.append(product.mT - product)
        return torch.tensor(list(self._pairs)), torch.stack(even).flatten(1), torch.stack(odd).flatten(1)

    def by_lags(self, frequencies: int) -> bool:
        """Whether the autocorrelation is the cheaper way to the Gram matrices of that many frequencies."""
        _, _, rows, columns = self.taps.shape
        aliases = len(self.aliases)
        if rows > aliases * columns:  # the smaller side is that of the inputs, where aliases do not add up
            return False
        directly = 4 * rows * aliases * columns * (rows + len(self.taps)) * frequencies
        pairs = sum(map(len, self._pairs.values()))
        return 2 * rows * rows * (pairs * columns + 4 * len(self._pairs) * frequencies) < directly

    def grams(self, frequencies: Frequencies, by_lags: bool) -> Tensor:
        """A(w) A(w)^H, or A(w)^H A(w) if that is smaller, (frequency, group, side, side)."""
        if not by_lags:
            return gram(self.blocks(frequencies))
        lags, even, odd = self.autocorrelation
        cos, sin = self._phases(frequencies.index, lags)
        flat = cos @ even if frequencies.real else torch.complex(cos @ even, sin @ odd)
        _, groups, rows, _ = self.taps.shape
        return flat.reshape(-1, groups, rows, rows)


def fourier_values(
    operator: ConvOperator, precision: str = "double", threads: int | None = None, advance: Advance | None = None
) -> SingularValues:
    """All singular values of a periodic convolution, with stride, dilation and groups.

    precision   "single": error below 5e-6 of the largest value; "double": 1e-10; "full": 1e-13 (see `matrices.ERROR`)
    threads     how many frequencies to do at a time; by default as many as torch has threads
    advance     called with the share of the work that was done, now and then

    Runs on the CPU. Cost: prod(output size) / 2 Hermitian eigenproblems of side min(C_out, s^2 C_in) / groups; 1x1
    kernels need a single SVD. Memory: the kernel's autocorrelation and 16 MiB a thread, or one block where larger.
    Raises NetprobeError where the operator is not periodic (see `ConvOperator.made_circular`).
    """
    if not operator.periodic:
        raise NetprobeError("the Fourier method needs a periodic operator whose stride divides its size")
    if disjoint(operator):
        return window_values(operator, precision)
    if precision == "single" and _sooner_in_double(operator):
        precision = "double"
    symbol = Symbol(operator, DTYPE[precision])
    halves = half_spectrum(operator.output_size)
    solve = _solver(symbol, precision, sum(len(half.index) for half in halves))
    found = [(half, _spread(solve, half, _chunk(symbol, half), threads, advance)) for half in halves if len(half.index)]
    if precision == "double":
        _refine(symbol, found)
    parts = [(values, half.multiplicity) for half, values in found]
    return SingularValues.gathered(parts, operator.count, "circular", ERROR[precision])


def _sooner_in_double(operator: ConvOperator) -> bool:
    """Whether eigenvalues of float64 Gram matrices come sooner than an SVD of the float32 blocks.

    Small ones do, and those of a strided operator, whose aliases add up in a small matrix instead of a wide block.
    """
    return set(operator.stride) != {1} or max(operator.weight.shape[:2]) <= SMALL


def coarse_values(operator: ConvOperator, threads: int | None = None, advance: Advance | None = None) -> SingularValues:
    """Upper bounds of all singular values of a periodic convolution, from float32 eigenproblems.

    A margin of the eigenproblem's side times float32's epsilon, of the largest eigenvalue, makes every value a bound:
    some six times what rounding was seen to do with 64 to 512 channels. It is 3e-5 of the norm at the top and 8e-3 at
    the bottom with 512 channels.
    """
    if disjoint(operator):
        exact = window_values(operator)
        return SingularValues(exact.values + exact.error * exact.largest, exact.multiplicity, exact.method, exact.error)
    symbol = Symbol(operator, torch.float32)
    halves = half_spectrum(operator.output_size)
    by_lags = symbol.by_lags(sum(len(half.index) for half in halves))

    def solve(frequencies: Frequencies) -> Tensor:
        return by_gram(symbol.grams(frequencies, by_lags)).double()

    parts = [(_spread(solve, half, _chunk(symbol, half), threads, advance), half.multiplicity) for half in halves]
    values = SingularValues.gathered([part for part in parts if part[0].numel()], operator.count, "circular", 0.0)
    margin = max(32, _side(symbol)) * torch.finfo(torch.float32).eps
    raised = (values.values**2 + margin * values.largest**2) ** 0.5
    return SingularValues(raised, values.multiplicity, "circular", margin**0.5)


def _side(symbol: Symbol) -> int:
    """Side of the eigenproblems."""
    _, _, rows, columns = symbol.taps.shape
    return min(rows, columns * len(symbol.aliases))


def _solver(symbol: Symbol, precision: str, frequencies: int) -> Callable[[Frequencies], Tensor]:
    if precision != "double" or 1 in symbol.taps.shape[2:]:
        return lambda part: by_svd(symbol.blocks(part)).double()
    by_lags = symbol.by_lags(frequencies)
    return lambda part: by_gram(symbol.grams(part, by_lags))


def _chunk(symbol: Symbol, frequencies: Frequencies) -> int:
    """Frequencies at a time: pieces small enough for the cache, and enough of them to share among threads."""
    block = symbol.taps[0].numel() * len(symbol.aliases) * 16
    return max(1, min(CHUNK_BYTES // block, math.ceil(len(frequencies.index) / 16)))


def _spread(
    solve: Callable[[Frequencies], Tensor],
    frequencies: Frequencies,
    chunk: int,
    threads: int | None,
    advance: Advance | None,
) -> Tensor:
    """`solve` over all frequencies, chunk by chunk, several chunks at a time: (frequency, group, value)."""
    pieces = list(frequencies.chunks(chunk))
    if not pieces:
        return torch.empty(0)
    results = []
    for values in _mapped(solve, pieces, threads or torch.get_num_threads()):
        results.append(values)
        if advance:
            advance(len(values) * frequencies.multiplicity)
    return torch.cat(results)


def _mapped(solve: Callable, pieces: list, threads: int) -> Iterator[Tensor]:
    """As `map`, on that many threads with one BLAS thread each."""
    if min(threads, len(pieces)) <= 1:
        yield from map(solve, pieces)
        return
    with one_thread(), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(solve, pieces)


def _refine(symbol: Symbol, found: list[tuple[Frequencies, Tensor]]) -> None:
    """Do again by SVD the frequencies with values that their Gram matrix cannot resolve."""
    largest = max(float(values.max()) for _, values in found)
    for frequencies, values in found:
        again = unresolved(values, largest).any(-1)
        for piece in again.nonzero().flatten().split(_chunk(symbol, frequencies)):
            if len(piece):
                values[piece] = by_svd(symbol.blocks(Frequencies(frequencies.index[piece], frequencies.real)))
