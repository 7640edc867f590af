"""Square Attack against a slow loop over images and queries, its shapes by hand, and the reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from netprobe.perturb import GEOMETRIES, ImageGenerator
from netprobe.perturb.randomness import uniform
from netprobe.perturb.square import AHEAD, PLACE, Square, _bump, _pair, _tiled_bumps
from netprobe.perturb.windows import Windows, planes, sides

SHAPE = (5, 2, 9, 7)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(126, 20), nn.Tanh(), nn.Linear(20, 4)).double().eval()


def slow_square(model, x, label, eps, queries, images):
    """Linf Square on one image (1, C, H, W), spelled out; the image, whether it fooled, the scores it asked for."""

    def margin(point):
        logits = model(point)[0]
        return (logits[label] - max(z for j, z in enumerate(logits) if j != label)).item()

    streams, (channels, height, width) = ImageGenerator(9, images), x.shape[1:]
    stripes = uniform(x[:, :, :1], streams)[0, :, 0]
    best = x.clone()
    for c in range(channels):
        for column in range(width):
            best[0, c, :, column] += eps if stripes[c, column] >= 0.5 else -eps
    best = best.clamp(0, 1)
    value, asked = margin(best), 1
    for query in range(1, queries):
        if value <= 0:
            break
        if (query - 1) % AHEAD == 0:
            drawn = uniform(x.new_empty(1, AHEAD, PLACE + channels), streams)[0]
        u = drawn[(query - 1) % AHEAD]
        share = 0.8
        for halving in (10, 50, 200):
            share /= 2 if query - 1 > halving else 1
        side = max(round(math.sqrt(share * height * width)), 1)
        assert side <= min(height, width)
        top, left = int(u[0] * (height - side + 1)), int(u[1] * (width - side + 1))
        point = best.clone()
        for c in range(channels):
            sign = 1 if u[PLACE + c] >= 0.5 else -1
            for i in range(top, top + side):
                for j in range(left, left + side):
                    point[0, c, i, j] = (x[0, c, i, j] + sign * eps).clamp(0, 1)
        asked += 1
        if margin(point) < value:
            best, value = point, margin(point)
    return best, value <= 0, asked


@torch.no_grad()
def test_linf_is_the_slow_loop(model):
    """In float64; 1e-12 for x + (b - x). The model is asked once at first and once for a candidate that fools."""
    x, images = torch.rand(SHAPE, dtype=torch.float64), [4, 0, 7, 30, 2]
    y = model(x).argmax(1)
    outcome = Square(0.05, queries=230).fool(model, x, y, generator=ImageGenerator(9, images), slots=2)
    assert 0 < outcome.fooled.sum() < 5  # else nothing was tested of one of the two
    for i, image in enumerate(images):
        found, fooled, asked = slow_square(model, x[i : i + 1], y[i].item(), 0.05, 230, [image])
        assert fooled == outcome.fooled[i]
        assert outcome.forwards[i] == 1 + asked + int(fooled)
        torch.testing.assert_close(outcome.x[i : i + 1], found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@torch.no_grad()
def test_l2_and_l1_end_on_the_ball_with_a_margin_that_random_points_do_not_have(model, norm):
    """Away from the box nothing is clipped; 500 random points of the ball are no match for 300 steps of search."""
    x = 0.4 + 0.2 * torch.rand(SHAPE, dtype=torch.float64)
    y, eps = model(x).argmax(1), {"l2": 0.15, "l1": 0.5}[norm]
    outcome = Square(eps, norm=norm, queries=300).fool(model, x, y, generator=ImageGenerator(9, range(5)))
    torch.testing.assert_close(
        GEOMETRIES[norm].size(outcome.x - x), torch.full((5,), eps, dtype=torch.float64), rtol=1e-6, atol=0
    )

    def margins(points):
        logits = model(points)
        return logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)

    points = torch.stack([margins(x + GEOMETRIES[norm].random_point(x, eps, None)) for _ in range(500)])
    assert ((margins(outcome.x) < points.amin(0)) | outcome.fooled).all()


def test_an_l1_perturbation_keeps_its_norm_at_the_edge_of_the_box():
    """Plain clipping would take what points out of the box; the nearest point of ball and box does not lose it."""
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[0, 0, 0, 0] = 0.9
    delta = torch.zeros_like(x)
    delta[0, 0, 0, :2] = torch.tensor([2.0, 0.8])
    filled = Square(0.5, norm="l1").filled(x, delta)
    # 0.1 fits at the first coordinate; the other gets the 0.4 that are left of 0.5.
    torch.testing.assert_close((filled - x)[0, 0, 0, :2], torch.tensor([0.1, 0.4]).double(), rtol=0, atol=1e-6)


def test_shares_are_halved_after_the_published_queries():
    attack = Square(0.1)
    after = (0, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2001, 4001, 8001)
    assert [0.8 / attack.share(1 + i) for i in after] == [*(1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 64, 128, 512)]


def test_windows_are_squares_where_they_fit_and_keep_their_area_where_not():
    assert sides(0.8, 32, 32) == (29, 29)
    assert sides(0.8 / 512, 32, 32) == (1, 1)
    assert sides(0.8 / 512, 32, 32, least=3, odd=True) == (3, 3)
    assert sides(0.05, 32, 32, least=3, odd=True) == (7, 7)
    assert sides(0.5, 1, 40) == (1, 20)
    assert sides(0.5, 40, 1) == (20, 1)
    assert sides(1.0, 7, 2) == (7, 2)


def test_windows_reach_every_place_and_write_what_they_read():
    u = torch.linspace(0, 1 - 2**-24, 60)
    there = Windows.at(u, u.flip(0), (2, 3), (5, 7))
    assert there.top.unique().tolist() == [0, 1, 2, 3] and there.left.unique().tolist() == [0, 1, 2, 3, 4]
    x = torch.rand(60, 2, 5, 7)
    assert torch.equal(there.written(x, there.read(x)), x)
    marked = there.written(torch.zeros_like(x), torch.ones(60, 2, 2, 3))
    assert torch.equal(marked, there.mask().expand_as(x).float())
    assert torch.equal(there.read(x)[7], x[7, :, there.top[7] : there.top[7] + 2, there.left[7] : there.left[7] + 3])


def test_planes_of_every_kind_of_input():
    shapes = {(4, 9): (4, 1, 1, 9), (4, 2, 9): (4, 2, 1, 9), (4, 3, 5, 6): (4, 3, 5, 6), (4, 3, 2, 5, 6): (4, 6, 5, 6)}
    for shape, expected in shapes.items():
        assert planes(torch.zeros(shape)).shape == expected


def test_bumps_by_hand():
    """Of 3 x 3: 1 + 1/4 in the middle and 1/4 around it, over the norm."""
    bump = torch.full((3, 3), 0.25)
    bump[1, 1] = 1.25
    torch.testing.assert_close(_bump((3, 3), "l2"), bump / bump.norm())
    pair = _pair((6, 4), "l1", 0)[0, 0]
    assert pair.abs().sum() == pytest.approx(1) and pair.sum() == pytest.approx(0, abs=1e-6)
    assert (pair[:3] > 0).all() and (pair[3:] < 0).all()
    torch.testing.assert_close(_pair((4, 4), "l2", 1), _pair((4, 4), "l2", 0).mT)


@pytest.mark.parametrize("size", [(32, 32), (7, 2), (1, 37), (1, 1), (28, 28)])
def test_tiles_fill_the_image(size):
    tiles = _tiled_bumps(torch.zeros(3, 2, *size), ImageGenerator(0, range(3)), "l2")
    assert tiles.shape == (3, 2, *size)
    assert (tiles != 0).float().mean() > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5), ("l1", 12.0)])
def test_at_least_as_strong_as_the_reference(data_root, norm, eps):
    """The PGD-trained net, 48 images, 500 queries: not more survivors than the reference by over 3, chance of draws."""
    reference = pytest.importorskip("pyautoattack.square", reason="pip install netprobe-torch[attacks]")
    import netprobe as npb
    from netprobe import data as npdata

    checkpoint = next((data_root / "checkpoints").glob("resnet_sgd_*PGD*"))
    model = npb.load("resnet32_thin", checkpoint, normalize="cifar10")
    data = npdata.load("cifar10-jpeg", limit=48, root=data_root)
    x, y = data.inputs, data.labels
    ours = Square(eps, norm=norm, queries=500).fool(model, x, y, generator=ImageGenerator(0, range(48)), slots=48)
    theirs = reference.SquareAttack(
        model, norm={"linf": "Linf", "l2": "L2", "l1": "L1"}[norm], n_queries=500, eps=eps, seed=0, resc_schedule=False
    )
    with torch.no_grad():
        stand = model(theirs.perturb(x, y)).argmax(1) == y
    assert (~ours.fooled).sum() <= stand.sum() + 3
