"""Frobenius and operator norm of linear maps that are known by J v and J^T u alone, of many images at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from netprobe.geometry.linearised import LocalMap
from netprobe.outputs import widened
from netprobe.perturb.geometry import unit
from netprobe.perturb.randomness import ImageGenerator, normal
from netprobe.weights.bidiagonal import Bidiagonalisation, random_start

TOGETHER = 8
"""Vectors at a time."""

EVERY = 4
MOST_STEPS = 200


@dataclass(frozen=True)
class Norm:
    """One number an image (N,), and its error (N,): 0 where it is exact up to the rounding of the network itself."""

    value: Tensor
    error: Tensor


def exact_frobenius(j: LocalMap) -> Norm:
    """||J||_F from all rows, or all columns where those are fewer."""
    total = sum(widened(part).square().sum((0, 2)) for part in _sides(j))
    return Norm(total.sqrt(), torch.zeros_like(total))


def exact_norms(j: LocalMap) -> tuple[Norm, Norm]:
    """||J||_F and ||J||_2 from the eigenvalues of the smaller of J J^T and J^T J, (N, m, m) float64."""
    back = j.forward if j.units <= j.values else j.backward
    gram = torch.cat([widened(back(part)) for part in _sides(j)]).movedim(1, 0)
    squares = torch.linalg.eigvalsh((gram + gram.mT) / 2).clamp_min(0)
    none = torch.zeros_like(squares[:, 0])
    return Norm(squares.sum(1).sqrt(), none), Norm(squares[:, -1].sqrt(), none)


def _sides(j: LocalMap):
    """The rows of J, some at a time (K, N, values), or its columns (K, N, units) where those are fewer."""
    count, apply = (j.units, j.backward) if j.units <= j.values else (j.values, j.forward)
    for some in torch.arange(count, device=j.a.device).split(TOGETHER):
        basis = torch.nn.functional.one_hot(some, count).to(j.a.dtype)
        yield apply(basis[:, None].expand(-1, len(j.a), -1))


def estimated_frobenius(j: LocalMap, draws: int, generator: ImageGenerator) -> Norm:
    """||J||_F from `draws` random projections, and its standard error.

        ||J||_F^2 ~ C mean_k ||J^T w_k||^2,   w_k uniform on the unit sphere of R^C, C the units

    Unbiased; the relative standard deviation is about sqrt(2 / (draws r)) with r directions of J that count. Hoffman et
    al., arXiv 1908.02729. The generator's draws are an image's own.
    """
    squares = torch.cat([_projections(j, min(TOGETHER, draws - k), generator) for k in range(0, draws, TOGETHER)])
    mean = squares.mean(0)
    value = mean.sqrt()
    return Norm(value, squares.std(0) / math.sqrt(draws) / (2 * value).clamp_min(torch.finfo(value.dtype).tiny))


def _projections(j: LocalMap, count: int, generator: ImageGenerator) -> Tensor:
    """C ||J^T w||^2 for each of `count` vectors w, (count, N)."""
    drawn = normal(j.a.new_empty(len(j.a), count * j.units), generator).view(len(j.a) * count, j.units)
    w = unit(drawn).view(len(j.a), count, j.units).movedim(1, 0)
    return j.units * widened(j.backward(w)).square().sum(2)


def operator_norm(j: LocalMap, tolerance: float, seed: int) -> Norm:
    """||J||_2 by Golub-Kahan-Lanczos steps, all images in step, until each is within `tolerance` of itself.

    Some singular value is no farther from the value than the error, which is the residual; nearly always it is the
    largest, and then the value is below it by much less. NaN where 200 steps were not enough.
    """
    operator = _Operator(j)
    run = Bidiagonalisation(operator, random_start(operator, len(j.a), 1, seed))
    for step in range(1, MOST_STEPS + 1):
        run.step()
        if step % EVERY == 0 or step == min(j.units, j.values):
            theta, residual = run.largest()
            if (residual <= tolerance * theta).all():
                break
    value, error = torch.from_numpy(theta), torch.from_numpy(residual)
    return Norm(value.where(error <= tolerance * value, torch.nan), error)


class _Operator:
    """J of every image as what Lanczos steps are made of: from the smaller side to the larger and back."""

    def __init__(self, j: LocalMap) -> None:
        self.weight, self.small_shape = j.a, (min(j.units, j.values),)
        self._there, self._back = (j.forward, j.backward) if j.values <= j.units else (j.backward, j.forward)

    def forward(self, v: Tensor) -> Tensor:
        return self._there(v).detach().clone()

    def backward(self, u: Tensor) -> Tensor:
        return self._back(u).detach().clone()
