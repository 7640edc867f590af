"""Backward passes that layers declare for attacks: used inside attacks only, exact in value."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.perturb import APGD, PGD, BackwardPass, ImageGenerator, resolve
from netprobe.perturb.backward import declared_passes, in_gradient, surrogates
from netprobe.perturb.frozen import frozen
from netprobe.perturb.objective import Goal, slope
from netprobe.perturb.randomness import uniform


class Quantise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (4 * x).round() / 4 + x.sum() * 0  # connected, but with gradient 0 almost everywhere


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 5)).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(8, 3, 5, 2, generator=torch.Generator().manual_seed(2))


def gradient(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    z = x.clone().requires_grad_()
    return torch.autograd.grad(model(z).square().sum(), z)[0]


def test_exact_in_value_the_surrogates_gradient_inside_only(x):
    layer = BackwardPass(Quantise(), lambda x: 3 * x)
    plain = Quantise()(x)
    assert torch.equal(layer(x), plain)
    assert not gradient(layer, x).any()
    with frozen(layer):
        assert torch.equal(layer(x.clone().requires_grad_()), plain)
        torch.testing.assert_close(gradient(layer, x), 2 * plain * 3)
    assert not gradient(layer, x).any()


def test_straight_through_by_default(x):
    layer = BackwardPass(Quantise())
    with surrogates(layer):
        torch.testing.assert_close(gradient(layer, x), 2 * Quantise()(x))


def test_any_module_can_declare_its_own(x):
    class Own(Quantise):
        soft = False

        @contextlib.contextmanager
        def backward_surrogate(self):
            self.soft = True
            yield
            self.soft = False

        def forward(self, x):
            return x if self.soft else super().forward(x)

    model = nn.Sequential(Own(), nn.Flatten())
    with frozen(model):
        assert model[0].soft
    assert not model[0].soft


def test_it_ends_with_an_error_too(x):
    layer = BackwardPass(Quantise())
    with pytest.raises(RuntimeError, match="boom"), frozen(layer):
        assert layer.replaced
        raise RuntimeError("boom")
    assert not layer.replaced


@pytest.mark.parametrize("way", ["call", "fool"])
def test_attacks_go_through_a_quantiser(net, x, way):
    """Its own gradient is zero, so that plain PGD moves nowhere but by chance."""
    masked, declared = nn.Sequential(Quantise(), net), nn.Sequential(BackwardPass(Quantise()), net)
    y = masked(x).argmax(1)
    attack, fallen = PGD(0.3, steps=20), {}
    for name, model in (("masked", masked), ("declared", declared)):
        generator = ImageGenerator(0, range(len(x)))
        found = attack(model, x, y, generator=generator) if way == "call" else None
        found = attack.fool(model, x, y, generator=generator, slots=3).x if found is None else found
        fallen[name] = int((masked(found).argmax(1) != y).sum())
    assert fallen["declared"] > fallen["masked"]
    assert fallen["declared"] >= 6


def test_shapes_must_agree(x):
    layer = BackwardPass(Quantise(), nn.Flatten())
    with surrogates(layer), pytest.raises(ValueError, match=r"shape \(8, 30\) where the module gives \(8, 3, 5, 2\)"):
        layer(x.clone().requires_grad_())


class Choosy(Quantise):
    """Knows two ways back: one points uphill, the other downhill."""

    backward_passes = ("down", "up")
    way = None

    @contextlib.contextmanager
    def backward_surrogate(self, name=None):
        before, self.way = self.way, name or "down"
        yield
        self.way = before

    def forward(self, x):
        exact = super().forward(x)
        return in_gradient(exact, {None: 0 * x, "up": x, "down": -x}[self.way])


def test_a_backward_pass_is_chosen_by_name(x):
    layer = nn.Sequential(Choosy())
    assert declared_passes(layer) == ("down", "up")
    assert not gradient(layer, x).any()
    for name, sign in ((None, -1), ("down", -1), ("up", 1)):
        with frozen(layer, name):
            torch.testing.assert_close(gradient(layer, x), sign * 2 * Quantise()(x))
    assert layer[0].way is None


def test_modules_that_do_not_know_the_name_use_their_own(x):
    model = nn.Sequential(Choosy(), BackwardPass(Quantise(), lambda x: 3 * x))
    with surrogates(model, "up"):
        torch.testing.assert_close(gradient(model, x), 2 * 3 * Quantise()(Quantise()(x)))


def test_a_name_that_nobody_knows_is_an_error(net, x):
    with pytest.raises(NetprobeError, match=r"unknown backward pass 'sideways'.*down"):
        PGD(0.1, backward="sideways").fool(nn.Sequential(Choosy(), net), x, torch.zeros(8).long(), generator=None)
    plain = PGD(0.1, backward="sideways", random_start=False)  # a model that declares none has the gradient it has
    y = net(x).argmax(1)
    assert torch.equal(plain(net, x, y, generator=None), PGD(0.1, random_start=False)(net, x, y, generator=None))


@pytest.mark.parametrize("attack", [PGD(0.3, steps=10), APGD(0.3, steps=10)])
def test_an_image_stands_only_if_it_stands_every_backward_pass(net, x, attack):
    """The first way leads away from every error; trusting it alone would mistake a mask for robustness."""
    model = nn.Sequential(Choosy(), net).eval()
    y = model(x).argmax(1)

    def fooled(name):
        generator = ImageGenerator(0, range(len(x)))
        return dataclasses.replace(attack, backward=name).fool(model, x, y, generator=generator, slots=3)

    down, up, both = (fooled(name) for name in ("down", "up", None))
    assert int(up.fooled.sum()) > int(down.fooled.sum())
    assert torch.equal(both.broken_by == 0, down.fooled)
    assert int(both.fooled.sum()) >= int(up.fooled.sum())
    assert (model(both.x).argmax(1) != y).tolist() == both.fooled.tolist()
    standing = ~both.fooled
    assert torch.equal(both.backwards[standing], (down.backwards + up.backwards)[standing])


def test_called_it_follows_the_first(net, x):
    model = nn.Sequential(Choosy(), net).eval()
    y, attack = model(x).argmax(1), PGD(0.3, steps=5, random_start=False)
    first, named = (dataclasses.replace(attack, backward=b)(model, x, y, generator=None) for b in (None, "down"))
    assert torch.equal(first, named)


def test_spread_averages_gradients_around_the_point(net, x):
    """Each pass at a point of its own, drawn per image; at 0 it is the gradient at x."""
    y = net(x).argmax(1)
    found = slope(net, x, Goal(y), passes=3, spread=0.2, generator=ImageGenerator(5, range(8)))
    generator, gradients = ImageGenerator(5, range(8)), []
    for _ in range(3):
        point = (x + 0.2 * (2 * uniform(x, generator) - 1)).requires_grad_()
        (one,) = torch.autograd.grad(nn.functional.cross_entropy(net(point).double(), y, reduction="sum"), point)
        gradients.append(one)
    torch.testing.assert_close(found.gradient, sum(gradients) / 3)
    assert not torch.allclose(found.gradient, slope(net, x, Goal(y)).gradient)


def test_an_attack_with_spread_does_not_depend_on_the_batch(net, x):
    y = net(x).argmax(1)
    attack = PGD(0.5, norm="l2", steps=4, eot=2, spread=0.3)

    def fooled(slots):
        return attack.fool(net, x, y, generator=ImageGenerator(3, range(8)), slots=slots)

    together, apart = fooled(8), fooled(3)
    torch.testing.assert_close(together.x, apart.x, atol=1e-5, rtol=0)
    calm = PGD(0.5, norm="l2", steps=4, eot=2).fool(net, x, y, generator=ImageGenerator(3, range(8)))
    assert not torch.allclose(together.x, calm.x, atol=1e-3)


def test_a_single_way_is_named_too(net, x):
    class Single(Choosy):
        backward_passes = ("up",)

    for model, attack in (
        (nn.Sequential(Single(), net), PGD(0.3)),
        (nn.Sequential(Choosy(), net), PGD(0.3, backward="up")),
    ):
        y = model.eval()(x).argmax(1)
        found = attack.fool(model, x, y, generator=ImageGenerator(0, range(8)))
        assert found.fooled.any()
        assert torch.equal(found.broken_by, torch.where(found.fooled, 0, -1))


def test_every_way_has_the_same_random_target(net, x):
    """Else an image would be asked to reach several."""
    model, targets = nn.Sequential(Choosy(), net).eval(), []
    y = model(x).argmax(1)

    class Noting(PGD):
        def attempts(self, goal):
            targets.append(goal.labels)
            return 1

    Noting(0.01, target="random", steps=1).fool(model, x, y, generator=ImageGenerator(0, range(8)))
    assert len(targets) >= 2
    assert len({tuple(each.tolist()) for each in targets if len(each) == 8}) == 1


@pytest.mark.parametrize("spec", ["fab:eps=0.3", "deepfool:norm=l2", "fmn:norm=l2"])
def test_attacks_of_libraries_try_every_way_too(net, x, spec):
    pytest.importorskip(
        "pyautoattack" if spec.startswith("fab") else "foolbox", reason="pip install netprobe-torch[attacks]"
    )

    class Misleading(Choosy):
        backward_passes = ("down",)

    class Truthful(Choosy):
        backward_passes = ("up",)

        def backward_surrogate(self, name=None):
            return super().backward_surrogate("up")

    def fooled(front):
        model = nn.Sequential(front, net).eval()
        attack, y = resolve(spec), model(x).argmax(1)
        return attack.fool(model, x, y, generator=ImageGenerator(0, range(8)))

    down, up, both = (fooled(front()) for front in (Misleading, Truthful, Choosy))
    assert int(up.fooled.sum()) > int(down.fooled.sum())
    assert int(both.fooled.sum()) >= int(up.fooled.sum())
    assert set(both.broken_by[both.fooled].tolist()) <= {0, 1}
    if "norm" in spec:
        sizes = [(each.x - x).flatten(1).norm(dim=1).masked_fill(~each.fooled, torch.inf) for each in (down, up, both)]
        torch.testing.assert_close(sizes[2], torch.minimum(*sizes[:2]))
