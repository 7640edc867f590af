"""The polarizing front end: what Hoelder promises, and the gradients it gives to whom."""

import pytest
import torch
from torch import nn

from netprobe.defenses.front_end import Defended
from netprobe.defenses.polarizing import PixelQuantiser, PolarizingFrontEnd, bumps
from netprobe.defenses.polarizing.bumps import Bumps
from netprobe.errors import NetprobeError
from netprobe.perturb import PGD, ImageGenerator
from netprobe.perturb.backward import surrogates
from netprobe.perturb.frozen import frozen


@pytest.fixture
def front():
    torch.manual_seed(0)
    return PolarizingFrontEnd(filters=6, size=3, threshold=0.3, channels=2).eval()


@pytest.fixture
def x():
    return torch.rand(5, 2, 7, 6, generator=torch.Generator().manual_seed(1))


def one_by_one(front, x):
    """z by the definition, position by position."""
    weight, size = front.filters.weight, front.filters.weight.shape[-1]
    padded = nn.functional.pad(x, [size // 2] * 4)
    z = torch.zeros(len(x), len(weight), *x.shape[2:])
    for k, w in enumerate(weight):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                patch = padded[:, :, i : i + size, j : j + size]
                z[:, k, i, j] = (patch * w).sum((1, 2, 3)) / w.abs().sum()
    return z


def gradient(model, x):
    z = x.clone().requires_grad_()
    weights = torch.rand(model(x).shape, generator=torch.Generator().manual_seed(2))
    return torch.autograd.grad((weights * model(z)).sum(), z)[0], weights


def test_it_is_the_definition(front, x):
    torch.testing.assert_close(front.polarized(x), one_by_one(front, x))


def test_outputs_are_no_larger_than_the_largest_pixel(front):
    aligned = (front.filters.weight > 0).float()  # the worst case: every product positive
    for x in (torch.rand(50, 2, 7, 6), aligned, 1 - aligned):
        assert front.polarized(x).abs().max() <= x.max() * (1 + 1e-6)


def test_the_scale_of_a_filter_does_not_matter(front, x):
    before, levels = front.polarized(x), front(x)
    with torch.no_grad():
        front.filters.weight *= torch.tensor([0.1, 3.0, 7.0, 1e-3, 1e3, 1.0]).view(-1, 1, 1, 1)
    torch.testing.assert_close(front.polarized(x), before)
    assert torch.equal(front(x), levels)


def test_a_filter_has_no_gradient_along_itself(front, x):
    """Only its direction is learnt: the norm is a part of the graph."""
    weight = front.filters.weight
    (slope,) = torch.autograd.grad(front.polarized(x).square().sum(), weight)
    assert slope.abs().max() > 1
    torch.testing.assert_close((slope * weight).sum((1, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
def test_proposition_1(front, eps):
    """A change of at most eps moves z by at most eps: q changes only where z is that near to a threshold."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(200, 2, 7, 6, generator=generator)
    corner = torch.where(torch.rand(x.shape, generator=generator) < 0.5, -eps, eps)
    z, changed = front.polarized(x), front.polarized(x + corner)
    assert (changed - z).abs().max() <= eps * (1 + 1e-5)
    near = (z.abs() - front.threshold).abs() <= eps * (1 + 1e-5)
    other = front(x) != front(x + corner)
    assert other.any()
    assert not (other & ~near).any()


def test_ideal_images_cannot_be_attacked():
    """Pixels 0 and 1, filters of one pixel, c = 0.5: no attack with eps < 0.5 changes what the classifier sees."""
    torch.manual_seed(4)
    front = PolarizingFrontEnd(filters=3, size=3, threshold=0.5)
    with torch.no_grad():
        front.filters.weight.zero_()
        for k, (row, column) in enumerate([(1, 1), (0, 2), (2, 1)]):
            front.filters.weight[k, 0, row, column] = 0.2 * (k + 1)
    model = Defended(front, nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 4))).eval()
    x = torch.randint(0, 2, (40, 1, 6, 6)).float()
    y = model(x).argmax(1)
    found = PGD(0.49, steps=20).fool(model, x, y, generator=ImageGenerator(0, range(40)))
    assert not found.fooled.any()
    assert found.backwards.min() == 3 * 20  # three backward passes were followed to the end
    assert (found.x - x).abs().max() > 0.4


def test_plain_autograd_sees_nothing(front, x):
    assert not gradient(front, x)[0].any()


@pytest.mark.parametrize("name", PolarizingFrontEnd.backward_passes)
def test_backward_passes_leave_values_alone(front, x, name):
    with frozen(front, name):
        assert torch.equal(front(x.clone().requires_grad_()), front(x))


def test_the_gradient_of_each_backward_pass(front, x):
    z = front.polarized(x).detach()
    along = {
        "identity": torch.ones_like(z),
        "smooth": 4 / torch.cosh(8 * (z - 0.3)) ** 2 + 4 / torch.cosh(8 * (z + 0.3)) ** 2,
    }
    for name, slope in along.items():
        with surrogates(front, name):
            found, weights = gradient(front, x)
        at = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad((front.polarized(at) * weights * slope).sum(), at)
        torch.testing.assert_close(found, expected)
    with surrogates(front, "front-end"):
        found, weights = gradient(front, x)
    torch.testing.assert_close(found, weights.mean(1, keepdim=True).expand(-1, 2, -1, -1) / 2)


def test_the_first_is_used_unless_another_is_named(front, x):
    def inside(*name):
        with surrogates(front, *name):
            return gradient(front, x)[0]

    assert torch.equal(inside(), inside("smooth"))
    assert not torch.equal(inside(), inside("identity"))


def test_quantised_pixels(x):
    front = PixelQuantiser(0.5).eval()
    assert torch.equal(front(x), (x > 0.5).float())


def test_in_training_without_the_quantiser_outputs_are_as_they_are(front, x):
    front.begin(Bumps(0.5, (0.0,), 0.35))
    assert set(front(x).unique().tolist()) <= {-1, 0, 1}
    assert torch.equal(front.train()(x), front.polarized(x))


@pytest.mark.parametrize("size", [2, 4])
def test_even_filters_are_refused(size):
    with pytest.raises(NetprobeError, match=f"odd size, such as 5, not {size}"):
        PolarizingFrontEnd(size=size)


@pytest.mark.parametrize("centres", [(0.0,), (-0.5, 0.5)])
def test_bumps(centres):
    z = torch.linspace(-1, 1, 60, dtype=torch.float64).view(3, 20).requires_grad_()
    expected = sum(torch.exp(-((z - c) ** 2) / (2 * 0.15**2)) for c in centres)
    torch.testing.assert_close(bumps(z, centres, 0.15), expected)
    mean = Bumps(1.0, centres, 0.15)
    torch.testing.assert_close(mean(z), expected.mean())
    torch.testing.assert_close(torch.autograd.grad(mean(z), z), torch.autograd.grad(expected.mean(), z))
    assert torch.autograd.gradcheck(mean, z)
