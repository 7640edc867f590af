"""The distribution of all singular values from a few convolutions: stochastic Lanczos quadrature.

Golub-Kahan bidiagonalisation started at a random unit vector v gives, after m steps, an m x m bidiagonal matrix whose
singular values theta_j and squared first components tau_j of its right singular vectors are a Gauss quadrature of the
spectral measure of v; the mean over v is the distribution of singular values (Golub and Meurant 1994; Ubaru, Chen and
Saad 2017). All start vectors run as one block, and so as one batch of convolutions: what block Lanczos finds of the
operator, a band matrix, gives every vector's own quadrature, and the norm sooner than vectors by themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netprobe.weights.bidiagonal import ROUNDING, Bidiagonalisation, random_start
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import SingularValues, distance

RESOLUTION = 4096
"""Equal shares into which an estimated distribution is cut."""


ATOM = 6
"""Times the weight of its neighbours that makes a node a value of its own; where the distribution is smooth they differ
by at most 4, at an edge."""

STEPS = 40
MOST_STEPS = 400

NORM_ERROR = 1e-5
"""Of the norm, over itself."""

CHECKED = 5
"""Steps between looks at the norm."""

PESSIMISM = 10
"""What is proven of the norm's error is often 50 times as much: so many times NORM_ERROR will do where growth ends."""


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
    probes = min(probes or probes_for(operator.count), operator.count)
    run = Bidiagonalisation(operator, random_start(operator, 1, probes, seed))
    steps = min(steps, operator.count)
    _go_on(run, steps, advance)
    b = run.matrix()[0]
    found = distribution(quadratures(b, probes, steps), operator)
    coarse = distribution(quadratures(b, probes, max(1, steps // 2)), operator)
    error = distance(found, coarse) + 2 * _scatter(found, probes)
    largest = _norm(run, advance) if norm else float(run.largest()[0][0])
    values = np.minimum(found.values, largest)
    values[0] = largest
    return SingularValues(values, found.multiplicity, "lanczos", max(error / largest, ROUNDING) if largest else 0.0)


def _go_on(run: Bidiagonalisation, steps: int, advance: Callable[[float], None] | None) -> None:
    """That many more steps."""
    for _ in range(steps):
        run.step()
        if advance:
            advance(1)


def quadratures(b: np.ndarray, probes: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of the Gauss quadrature of every start vector after `steps`, ascending, and their weights, (probe, node).

    The bidiagonalisation of B from one of its first unit vectors is that of A from the start vector.
    """
    bidiagonal, rounding = np.zeros((probes, steps, steps)), 1e-14 * np.abs(b).max()
    v, u, beta = np.eye(probes, len(b)), 0.0, 0.0
    for k in range(steps):
        u, alpha = _unit(v @ b.T - beta * u, rounding)
        v, beta = _unit(u @ b - alpha * v, rounding)
        bidiagonal[:, k, k : k + 2] = np.hstack([alpha, beta])[:, : steps - k]
    _, theta, right = np.linalg.svd(bidiagonal)
    return theta[:, ::-1], np.square(right[:, ::-1, 0])


def _unit(rows: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """Every row over its length, and the lengths; zeros where that is mere rounding."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    length = np.where(length > rounding, length, 0.0)
    return rows / np.where(length > 0, length, np.inf), length


def _norm(run: Bidiagonalisation, advance: Callable[[float], None] | None) -> float:
    """The largest singular value: steps go on until it is right to NORM_ERROR.

    Further steps only add copies of what is known, so rounding cannot raise the value by more than a few 1e-7.
    """
    seen = [_largest(run)]
    while len(run.alpha) < MOST_STEPS and not _settled(seen, alone=run.v.shape[1] == 1):
        _go_on(run, CHECKED, advance)
        seen.append(_largest(run))
    return seen[-1][0]


def _settled(seen: list[tuple[float, float]], alone: bool) -> bool:
    """Whether the last of `seen`, values and what is proven of their errors, is known well enough.

    Either this is proven; or it nearly is, and two looks have won less: errors fall by far more than half in the time.
    Growth by itself would not do, for it pauses where a second value is about to be told from the first; and it says
    nothing `alone`, of a single start vector.
    """
    theta, error = seen[-1]
    won = theta - seen[-3][0] if len(seen) > 2 and not alone else np.inf
    return error <= NORM_ERROR or (error <= PESSIMISM * NORM_ERROR and won <= NORM_ERROR * theta)


def _largest(run: Bidiagonalisation) -> tuple[float, float]:
    """The largest singular value of B and how far it may be below the operator's, over itself.

    With j singular pairs of B, residuals R and a gap eta between theta_1^2 and the other eigenvalues of A^T A, the
    largest eigenvalue is above theta_1^2 by at most 2 r^2 / (eta + sqrt(eta^2 + 4 r^2)), r = ||Theta R||_2 (Li and Li
    2005). The gap is taken to the next singular value of B, and j is what gives the least. Behind a single start vector
    a value could hide that is near the largest: there is no gap to rely on, and the bound is r.
    """
    block = run.v.shape[1]
    theta, residual = (part[0] for part in run.leading(2 * block + 2))
    theta, residual = _distinct(theta, residual)
    square, moved = theta**2, theta[:, None] * residual
    r = np.array([np.linalg.norm(moved[:j], 2) for j in range(1, len(theta) + 1)])
    eta = square[0] - np.append(square[1:], square[0]) if block > 1 else np.zeros(len(square))
    above = 2 * r**2 / np.maximum(eta + np.hypot(eta, 2 * r), np.finfo(float).tiny)
    return float(theta[0]), float(above.min() / max(2 * square[0], np.finfo(float).tiny))


def _distinct(theta: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without copies of a value, of which the one with the shortest residual is kept."""
    value = np.cumsum(-np.diff(theta, prepend=theta[0]) > ROUNDING * theta[0])
    order = np.lexsort((np.linalg.norm(residual, axis=1), value))
    first = order[np.unique(value, return_index=True)[1]]
    return theta[first], residual[first]


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


def _scatter(found: SingularValues, probes: int) -> float:
    """Standard deviation over start vectors of the cumulative distribution, integrated over the values."""
    share = np.arange(1, RESOLUTION) / RESOLUTION
    deviation = np.sqrt(2 * share * (1 - share) / ((found.count + 2) * probes))
    return float(deviation @ -np.diff(found.values))
