"""ZOO: its slopes against autograd, its queries counted, its steps against Carlini-Wagner's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netprobe.perturb import ImageGenerator
from netprobe.perturb.libraries import UnitBox
from netprobe.perturb.zoo import ZOO, _Descent, coordinate_slopes, outward


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 20), nn.Tanh(), nn.Linear(20, 4)).eval().requires_grad_(False)


@pytest.mark.parametrize("count", [3, 24])
def test_slopes_are_the_gradient_at_the_chosen_coordinates(model, count):
    """In float64; symmetric differences are off by h^2 f'''/6. Calls of 512 points hold several images, or one."""
    model, w = model.double(), torch.randn(7, 24, dtype=torch.float64)
    chosen = torch.rand(7, 24).argsort(1)[:, :count]

    def score(points, rows):
        return model(outward(points)).mul(torch.arange(4)).sum(1) * (1 + rows)

    w.requires_grad_()
    gradient = torch.autograd.grad(score(w, torch.arange(7)).sum(), w)[0]
    found = coordinate_slopes(lambda p, r: score(p, r).detach(), w.detach(), chosen, 1e-4)
    torch.testing.assert_close(found, gradient.gather(1, chosen), rtol=1e-6, atol=1e-9)


def test_every_score_is_counted(model):
    """Two passes of the model, and per step 2 x 5 + 1 of its copy, and one at the end of a round."""
    x = torch.rand(3, 2, 4, 3)
    y = model(x).argmax(1)
    attack = ZOO(steps=4, coordinates=5, binary_search_steps=2, initial_const=1e-6, abort_early=False)
    outcome = attack.fool(model, x, y, generator=ImageGenerator(0, range(3)))
    assert outcome.forwards.tolist() == [1 + 2 * (4 * 11 + 1)] * 3
    assert not outcome.fooled.any() and not outcome.backwards.any()


def test_it_comes_near_what_gradients_find(model):
    """All 24 coordinates in each step: ZOO is Carlini-Wagner with other rounding. 20 % for another search of c."""
    pytest.importorskip("foolbox", reason="foolbox is not installed: pip install netprobe-torch[attacks]")
    from netprobe.perturb.minimum_norm import CarliniWagner

    x = 0.3 + 0.4 * torch.rand(4, 2, 4, 3)
    y = model(x).argmax(1)
    settings = {"steps": 150, "binary_search_steps": 4, "initial_const": 1.0, "stepsize": 0.02, "abort_early": False}
    ours = ZOO(coordinates=24, **settings).fool(model, x, y, generator=ImageGenerator(0, range(4)))
    theirs = CarliniWagner(**settings).fool(model, x, y, generator=None)
    assert ours.fooled.all() and theirs.fooled.all()
    sizes = [(outcome.x - x).flatten(1).norm(dim=1) for outcome in (ours, theirs)]
    torch.testing.assert_close(*sizes, rtol=0.2, atol=0)


def test_a_coordinate_has_moments_and_a_clock_of_its_own(model):
    """Adam's first direction is the sign of the gradient, whenever a coordinate's turn comes first."""
    x = torch.rand(2, 2, 4, 3)
    surrogate = UnitBox(model, ZOO().box, x.dtype)
    descent = _Descent(ZOO(), surrogate, x, model(x).argmax(1), torch.ones(2), None)
    rows, gradient = torch.arange(2), torch.tensor([[0.3, -0.2], [-5.0, 0.01]])
    for chosen in ([[0, 1], [7, 3]], [[2, 5], [1, 0]]):
        direction = descent._adam(rows, torch.tensor(chosen), gradient)
        torch.testing.assert_close(direction, gradient.sign(), rtol=1e-4, atol=0)
    again = descent._adam(rows, torch.tensor([[0, 1], [7, 3]]), -gradient)
    # moments after g, -g: first 0.9 * 0.1 g - 0.1 g = -0.01 g, over 1 - 0.81; second, corrected, g^2
    torch.testing.assert_close(again, -0.01 / 0.19 * gradient.sign(), rtol=1e-3, atol=0)


def test_images_without_progress_leave_a_round(model):
    """With c = 0 the loss is the distance, 0 at the start: nothing to gain."""
    x = torch.rand(3, 2, 4, 3)
    y = model(x).argmax(1)
    attack = ZOO(steps=50, coordinates=2, binary_search_steps=1, initial_const=0.0)
    outcome = attack.fool(model, x, y, generator=ImageGenerator(0, range(3)))
    assert (outcome.forwards < 1 + 50 * 5).all()
