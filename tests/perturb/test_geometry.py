"""Balls of three norms: projections against optimisers, random points against their distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from netprobe.perturb.geometry import GEOMETRIES, L1, L2, Box, Linf
from netprobe.perturb.randomness import ImageGenerator

SHAPE = (4, 3, 5, 2)
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
every_norm = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


def vectors(*shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sizes_by_hand():
    delta = torch.tensor([[[3.0, -4.0]], [[0.0, 0.5]]])
    assert Linf().size(delta).tolist() == [4.0, 0.5]
    assert L2().size(delta).tolist() == [5.0, 0.5]
    assert L1().size(delta).tolist() == [7.0, 0.5]


def nearest(v: np.ndarray, norm: str, eps: float) -> np.ndarray:
    """The nearest point of the ball, by a general optimiser on delta = p - n with p, n >= 0."""
    d = len(v)
    inside = {
        "l1": lambda z: eps - z.sum(),
        "l2": lambda z: eps**2 - ((z[:d] - z[d:]) ** 2).sum(),
        "linf": lambda z: eps - np.abs(z[:d] - z[d:]),
    }[norm]
    found = optimize.minimize(
        lambda z: ((z[:d] - z[d:] - v) ** 2).sum(),
        np.zeros(2 * d) + 1e-3,
        bounds=[(0, None)] * (2 * d),
        constraints=[{"type": "ineq", "fun": inside}],
        options={"maxiter": 500, "ftol": 1e-14},
    )
    return found.x[:d] - found.x[d:]


@pytest.mark.parametrize("eps", [0.1, 1.0, 2.5])
@every_norm
def test_projection_is_the_nearest_point(geometry, eps):
    """1e-4: what SLSQP reaches."""
    v = vectors(6, 5)
    expected = np.stack([nearest(row.numpy(), geometry.name, eps) for row in v])
    np.testing.assert_allclose(geometry.project(v, eps).numpy(), expected, atol=1e-4)


def test_l1_projection_by_hand():
    # (3, -1, 0.5) on the ball of radius 2: the threshold is (3 + 1 - 2) / 2 = 1, which leaves (2, 0, 0).
    delta = torch.tensor([[3.0, -1.0, 0.5], [0.5, -0.5, 0.25]])
    assert L1().project(delta, 2.0).tolist() == [[2.0, 0.0, 0.0], [0.5, -0.5, 0.25]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_norm
def test_projection_laws(geometry, dtype):
    delta = vectors(*SHAPE, scale=3).to(dtype)
    delta[1] = 0
    delta[2] /= 1000
    inside = geometry.project(delta, 1.5)
    assert inside.dtype == dtype
    assert (geometry.size(inside.double()) <= 1.5 * (1 + 1e-6)).all()  # float32 rounds by 6e-8, thirty times a row
    assert torch.equal(inside[1:3], delta[1:3])
    torch.testing.assert_close(geometry.project(inside, 1.5), inside, rtol=1e-6, atol=0)
    torch.testing.assert_close(geometry.project(delta[3:], 1.5), inside[3:], rtol=1e-6, atol=0)
    assert (geometry.project(delta, 0.0) == 0).all()


def test_l1_projection_stays_exact_in_many_dimensions():
    """150,000 float32 coordinates, pushed a thousand times too far out."""
    delta = vectors(2, 3, 224, 224).float()
    size = L1().size(L1().project(delta, 100.0).double())
    torch.testing.assert_close(size, torch.full((2,), 100.0, dtype=torch.float64), rtol=1e-6, atol=0)


@every_norm
def test_steepest_step_climbs_as_far_as_any_step_of_its_norm(geometry):
    """Of all steps of norm 1 the best gains the dual norm of the gradient; L1 moves one of these 30 coordinates."""
    gradient, x = vectors(*SHAPE), torch.full(SHAPE, 0.5, dtype=torch.float64)
    step = geometry.steepest(gradient, x, Box())
    gain = (gradient * step).flatten(1).sum(1)
    dual = torch.linalg.vector_norm(gradient.flatten(1), DUAL[geometry.name], dim=1)
    torch.testing.assert_close(gain, dual, rtol=1e-12, atol=0)
    torch.testing.assert_close(geometry.size(step), torch.ones(4, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1e-25, 1e25, 0.0])
@every_norm
def test_steepest_step_at_extreme_gradients(geometry, scale):
    """1e-25 squared is 0 in float32, 1e25 squared is infinite: the step must not care. Zero stays zero, not NaN."""
    gradient = vectors(*SHAPE).float()
    step = geometry.steepest(gradient * scale, torch.full(SHAPE, 0.5), Box())
    expected = geometry.steepest(gradient, torch.full(SHAPE, 0.5), Box()) * (scale > 0)
    torch.testing.assert_close(step, expected, rtol=1e-5, atol=0)


def test_one_flat_image_does_not_stop_the_others():
    gradient = vectors(*SHAPE)
    gradient[1] = 0
    for geometry in GEOMETRIES.values():
        step = geometry.steepest(gradient, torch.full(SHAPE, 0.5), Box())
        assert (geometry.size(step) > 0.99).tolist() == [True, False, True, True]


def test_l1_step_by_hand():
    gradient = torch.tensor([[3.0, -2.0, 1.0, 0.5]])
    middle = torch.full((1, 4), 0.5)
    assert L1(share=0.25).steepest(gradient, middle, Box()).tolist() == [[1, 0, 0, 0]]
    assert L1(share=0.5).steepest(gradient, middle, Box()).tolist() == [[0.5, -0.5, 0, 0]]
    # The first coordinate is at the top already, the second at the bottom: the step passes both over.
    assert L1(share=0.25).steepest(gradient, torch.tensor([[1.0, 0.0, 0.2, 0.2]]), Box()).tolist() == [[0, 0, 1, 0]]
    # Fewer free coordinates than the share asks for: the step of norm 1 goes to those that there are.
    assert L1(share=1.0).steepest(gradient, torch.tensor([[1.0, 0.0, 1.0, 0.2]]), Box()).tolist() == [[0, 0, 0, 1]]
    assert L1(share=1.0).steepest(gradient, torch.tensor([[1.0, 0.0, 1.0, 1.0]]), Box()).tolist() == [[0, 0, 0, 0]]


def test_box_knows_which_way_is_out():
    x, direction = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5, 0.5]), torch.tensor([-1.0, 1.0, -1.0, 1.0, 1.0, 0.0])
    assert Box().open(x, direction).tolist() == [False, True, True, False, True, False]
    assert Box().holds(x) and not Box().holds(x + 0.01) and not Box().holds(torch.tensor([torch.nan]))


@every_norm
def test_clip_after_projection_stays_in_the_ball(geometry):
    x = torch.rand(200, 12, dtype=torch.float64)
    delta = geometry.project(vectors(200, 12), 0.8)
    clipped = Box().clip(x + delta) - x
    assert (geometry.size(clipped) <= 0.8 + 1e-12).all()
    assert (clipped.abs() <= delta.abs() + 1e-15).all()


@pytest.mark.parametrize("shape", [(2000, 3), (2000, 2, 1, 4)], ids=str)
@every_norm
def test_random_points_fill_the_ball_uniformly(geometry, shape):
    """A uniform point is within r * eps with probability r^d; each image's radius is its own.

    Thresholds: a right implementation fails a Kolmogorov-Smirnov test at 0.001 for one seed in 1000; this is one seed.
    """
    d = int(np.prod(shape[1:]))
    points = geometry.random_point(torch.empty(shape), 0.3, ImageGenerator(5, range(shape[0])))
    radius = geometry.size(points.double()) / 0.3
    assert points.dtype == torch.float32 and radius.max() <= 1 + 1e-6
    assert stats.kstest(radius.numpy() ** d, "uniform").pvalue > 0.001


VIEWS = {
    "coordinate": lambda points: points[:, 1],
    "size of a coordinate": lambda points: points[:, 0].abs(),
    "largest coordinate": lambda points: points.abs().amax(1),
    "sum": lambda points: points.sum(1),
    "difference": lambda points: points[:, 0] - points[:, 2],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@every_norm
def test_random_points_have_uniform_directions(geometry, view):
    """Against uniform points of the cube that happen to be in the ball. A level of 0.001, for this one seed."""
    points = geometry.random_point(torch.empty(40_000, 3), 1.0, torch.Generator().manual_seed(6)).double()
    cube = 2 * torch.rand(200_000, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64) - 1
    kept = cube[geometry.size(cube) <= 1]
    assert stats.ks_2samp(view(points).numpy(), view(kept).numpy()).pvalue > 0.001


def test_geometries_are_values():
    assert Linf() == Linf() and L1() != L1(share=0.5) and len({L2(), L2()}) == 1
    assert {name: geometry.name for name, geometry in GEOMETRIES.items()} == {n: n for n in ("linf", "l2", "l1")}
