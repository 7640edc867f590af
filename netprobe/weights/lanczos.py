"""The distribution of all singular values from a few convolutions: stochastic Lanczos quadrature.

Golub-Kahan bidiagonalisation started at a random unit vector v gives, after m steps, an m x m bidiagonal matrix whose
singular values theta_j and squared first components tau_j of its right singular vectors are a Gauss quadrature of the
spectral measure of v; the mean over v is the distribution of singular values (Golub and Meurant 1994; Ubaru, Chen and
Saad 2017). All start vectors run as one batch of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import SingularValues, distance

RESOLUTION = 4096
"""Equal shares into which an estimated distribution is cut."""


ATOM = 6
"""Times the weight of its neighbours that makes a node a value of its own; where the distribution is smooth they differ
by at most 4, at an edge."""

ROUNDING = 1e-6
"""Least error that is claimed, over the largest value; also how near nodes are copies of one value."""

STEPS = 40
MOST_STEPS = 400

NORM_RESIDUAL = 1e-5
"""Residual over the norm at which some singular value is surely as near as 1e-5."""

AGREEMENT = 2e-6
"""How near the largest nodes of all start vectors must be to one another to be believed at three times that residual,
where their error, the square of the residual over the gap to the next value, is small but for very close values."""


def probes_for(count: int) -> int:
    """Start vectors enough for an error of about 0.5 % of the largest value: large operators average by themselves."""
    return 4 if count < 1 << 13 else 2


def lanczos_values(
    operator: ConvOperator,
    probes: int | None = None,
    steps: int = STEPS,
    seed: int = 0,
    norm: bool = True,
    advance: Callable[[float], None] | None = None,
) -> SingularValues:
    """The distribution of all singular values, with the estimate of its error, and the norm.

    probes, steps   start vectors (by default 2 or 4, by size) and convolutions there and back of each
    norm            whether to go on until the largest value is right to 1e-5

    `error` estimates the Wasserstein distance to the true distribution, over the largest value: how far half of the
    steps would have been, and twice what start vectors scatter, which is known (variance 2 F (1 - F) / (N + 2) of the
    share F of values below a point). In practice it errs by 0.2 to 0.5 %, half of that estimate. The largest of
    `values` is the norm, from below.

    Runs in the precision and on the device of the operator's weight, through convolutions alone. Memory: four batches
    of start vectors.
    """
    run = Bidiagonalisation(operator, probes or probes_for(operator.count), seed)
    for _ in range(min(steps, operator.count)):
        run.step()
        if advance:
            advance(1)
    nodes = run.nodes()
    found = distribution(nodes, operator)
    error = distance(found, distribution(run.nodes(max(1, len(run.alpha) // 2)), operator)) + 2 * _scatter(found, run)
    largest = _norm(run, advance) if norm else float(nodes[0].max())
    values = np.minimum(found.values, largest)
    values[0] = largest
    return SingularValues(values, found.multiplicity, "lanczos", max(error / largest, ROUNDING) if largest else 0.0)


class Bidiagonalisation:
    """Golub-Kahan-Lanczos of random start vectors, without reorthogonalisation.

    Starts on the smaller side, so that the measure is that of all singular values. Losing orthogonality repeats nodes
    and shares their weight among the copies; the distribution is not hurt, while keeping it would cost 3 to 10 times as
    much. `alpha` and `beta` are lists of (probe,) tensors, a step each.
    """

    def __init__(self, operator: ConvOperator, probes: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)  # on the CPU, so that the device makes no difference
        start = torch.randn(probes, *operator.small_shape, generator=generator, dtype=operator.weight.dtype)
        self.operator = operator
        self.v, _ = _normalised(start.to(operator.weight.device), 0.0)
        self.u: Tensor | None = None
        self.alpha: list[Tensor] = []
        self.beta: list[Tensor] = []

    def step(self) -> None:
        """One convolution there and one back."""
        u = self.operator.forward(self.v)
        if self.u is not None:
            u = u.sub_(self.u.mul_(_along(self.beta[-1], u)))
        self.u, alpha = _normalised(u, self._noise)
        self.alpha.append(alpha)
        v = self.operator.backward(self.u).sub_(self.v.mul_(_along(alpha, self.v)))
        self.v, beta = _normalised(v, self._noise)
        self.beta.append(beta)

    @property
    def _noise(self) -> Tensor | float:
        """Lengths that are mere rounding, of each probe: the Krylov space is exhausted there."""
        return 8 * torch.finfo(self.v.dtype).eps * self.alpha[0] if self.alpha else 0.0

    def nodes(self, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Nodes of the Gauss quadratures after `steps`, ascending, and their weights, each (probe, node)."""
        alpha, beta = (torch.stack(part[:steps]).double().cpu().numpy() for part in (self.alpha, self.beta))
        m = np.arange(len(alpha))
        bidiagonal = np.zeros((alpha.shape[1], len(m), len(m)))
        bidiagonal[:, m, m], bidiagonal[:, m[:-1], m[1:]] = alpha.T, beta[:-1].T
        _, theta, right = np.linalg.svd(bidiagonal)
        return theta[:, ::-1], np.square(right[:, ::-1, 0])

    def largest(self) -> tuple[np.ndarray, np.ndarray]:
        """Largest node of every probe and |A^T u - theta v|: some singular value is as near to it as that.

        From the last components of the leading eigenvectors of B B^T. A copy of the largest that is about to appear
        comes with a large residual of its own: among nodes that are the same up to rounding the smallest counts.
        """
        alpha, beta = (torch.stack(part).double().cpu().numpy().T for part in (self.alpha, self.beta))
        found = [_top(a, b) for a, b in zip(alpha, beta, strict=True)]
        return np.array([theta for theta, _ in found]), np.array([residual for _, residual in found])


def _top(alpha: np.ndarray, beta: np.ndarray) -> tuple[float, float]:
    """Largest singular value of one bidiagonal matrix and its residual."""
    diagonal = alpha**2 + np.append(beta[:-1] ** 2, 0)
    few = (max(0, len(alpha) - 4), len(alpha) - 1)
    squares, left = scipy.linalg.eigh_tridiagonal(diagonal, beta[:-1] * alpha[1:], select="i", select_range=few)
    same = squares >= squares[-1] * (1 - 2 * ROUNDING)
    return float(np.sqrt(max(squares[-1], 0))), float(np.abs(left[-1, same]).min() * beta[-1])


def _norm(run: Bidiagonalisation, advance: Callable[[float], None] | None) -> float:
    """The largest singular value: steps go on until it has a small residual in the run of every start vector.

    Every one, because a start vector that hardly contains the largest value finds the second first. Further steps
    only add copies of what is known, so rounding cannot raise the value by more than a few 1e-7.
    """
    theta, residual = run.largest()
    while not _settled(theta, residual) and len(run.alpha) < MOST_STEPS:
        for _ in range(5):
            run.step()
            if advance:
                advance(1)
        theta, residual = run.largest()
    return float(theta.max())


def _settled(theta: np.ndarray, residual: np.ndarray) -> bool:
    agree = len(theta) > 1 and np.ptp(theta) <= AGREEMENT * theta.max()
    return bool((residual <= (3 if agree else 1) * NORM_RESIDUAL * theta).all())


def _along(scale: Tensor, vectors: Tensor) -> Tensor:
    """One number a vector, shaped to scale them."""
    return scale.to(vectors).reshape(-1, *[1] * (vectors.ndim - 1))


def _normalised(vectors: Tensor, noise: Tensor | float) -> tuple[Tensor, Tensor]:
    """Unit vectors and their former lengths; those not longer than `noise` become zero."""
    length = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    length = torch.where(length > noise, length, 0.0)
    inverse = torch.where(length > 0, 1 / length, 0.0)
    return vectors.mul_(_along(inverse, vectors)), length


def distribution(nodes: tuple[np.ndarray, np.ndarray], operator: ConvOperator) -> SingularValues:
    """The mean distribution of several quadratures as RESOLUTION equal shares; its `error` is not known here."""
    theta, weights = nodes
    weights = _matched(theta, weights, operator.frobenius**2 / operator.count)
    curves = [_cumulative(x, w) for x, w in zip(theta, weights, strict=True)]
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    mean = np.mean([np.interp(grid, x, y, left=0.0, right=1.0) for x, y in curves], axis=0)
    values = np.interp(1 - (np.arange(RESOLUTION) + 0.5) / RESOLUTION, np.maximum.accumulate(mean), grid)
    return SingularValues(values, np.full(RESOLUTION, operator.count / RESOLUTION), "lanczos", np.nan)


def _cumulative(theta: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (value, share of mass up to it) between which the distribution of one quadrature is interpolated.

    At node j the share is that of the nodes below and half its own, the middle of what Gauss quadrature allows
    (Chebyshev, Markov and Stieltjes): twice as near to the truth as the steps themselves. But a node much heavier than
    its neighbours stands for a value of that multiplicity, such as the zeros of dead filters, and stays a step.
    """
    first = np.flatnonzero(np.diff(theta, prepend=-np.inf) > 1e-5 * theta[-1])  # copies of a node count as one
    theta, weights = theta[first], np.add.reduceat(weights, first)
    beside = np.maximum(np.append(weights[1:], 0), np.append(0, weights[:-1]))
    atom = weights > ATOM * beside
    half = np.where(atom, 0.5, 0.0) * weights
    middle, width = np.cumsum(weights) - weights / 2, np.where(atom, 1e-9, 0.0) * theta[-1]
    return np.ravel([theta - width, theta + width], "F"), np.ravel([middle - half, middle + half], "F")


def _matched(theta: np.ndarray, weights: np.ndarray, energy: float) -> np.ndarray:
    """`weights` tilted linearly in theta^2 until their mean of theta^2 is `energy`, which is known: ||A||_F^2 / N.

    A control variate: it takes away a third of the scatter.
    """
    square, probes = np.square(theta), len(theta)
    mean = np.sum(weights * square) / probes
    variance = np.sum(weights * np.square(square - mean)) / probes
    if variance <= 1e-12 * mean**2:
        return weights
    tilted = weights * np.maximum(1 + (energy - mean) * (square - mean) / variance, 0)
    return tilted / tilted.sum(axis=1, keepdims=True)


def _scatter(found: SingularValues, run: Bidiagonalisation) -> float:
    """Standard deviation over start vectors of the cumulative distribution, integrated over the values."""
    share = np.arange(1, RESOLUTION) / RESOLUTION
    deviation = np.sqrt(2 * share * (1 - share) / ((found.count + 2) * len(run.alpha[0])))
    return float(deviation @ -np.diff(found.values))
