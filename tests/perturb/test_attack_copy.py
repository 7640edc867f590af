"""The copy that gradients are taken from: the same function, folded where it can be, refused where it would not be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netprobe.models import ARCHITECTURES
from netprobe.perturb.attack_copy import LiveCopy, attack_copy, memory_format
from netprobe.perturb.backward import BackwardPass
from netprobe.perturb.frozen import frozen


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def trained_looking(model: nn.Module) -> nn.Module:
    """`model` with statistics and affine parameters that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.running_mean, -1.0), (module.running_var, 0.5), (module.weight.data, 0.5)):
                tensor.uniform_(low, 1.5, generator=generator)
    return model.eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """A convolution and its batch norm, used by `forward` as given."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 5)
        self.body = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self, x).mean((2, 3)))


def after(self, x):
    return torch.relu(self.norm(self.conv(x)))


def read_twice(self, x):
    y = self.conv(x)
    return self.norm(y) + y


def called_twice(self, x):
    return self.norm(self.conv(self.norm(self.conv(x))))


def looks_at_values(self, x):
    y = self.norm(self.conv(x))
    return y if y.sum() > 1e9 else 2 * y


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "resnet20", "resnet32_thin"])
def test_our_architectures_are_folded_and_stay_the_same_function(name, x):
    model, x = trained_looking(ARCHITECTURES[name]().double()), x.double()  # in float32 rounding flips a ReLU or two
    copied = attack_copy(model, x)
    assert norms(copied) < norms(model)
    torch.testing.assert_close(copied(x), model(x))
    gradients = []
    for net in (model, copied):
        z = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(net(z)[:, 0].sum(), z)[0])
    largest = gradients[0].abs().max()
    assert (gradients[0] - gradients[1]).abs().max() < 1e-9 * largest
    assert memory_format(copied) is torch.channels_last


@pytest.mark.parametrize(
    ("forward", "left"),
    [(after, 0), (read_twice, 1), (called_twice, 1), (looks_at_values, 1)],
    ids=["after", "read_twice", "called_twice", "looks_at_values"],
)
def test_only_what_can_be_folded_is(forward, left, x):
    model = trained_looking(Block(forward))
    copied = attack_copy(model, x)
    assert norms(copied) == left
    torch.testing.assert_close(copied(x), model(x))


def test_a_part_that_cannot_be_traced_does_not_keep_the_rest_from_being_folded(x):
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv, self.norm = Block(looks_at_values), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.first(self.norm(self.conv(x)))

    model = trained_looking(Whole())
    copied = attack_copy(model, x)
    assert norms(copied) == 1
    torch.testing.assert_close(copied(x), model(x))


def test_a_model_that_views_its_input_keeps_its_layout():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = model, nn.Linear(4 * 6 * 6, 5)

        def forward(self, x):
            return self.head(self.body(x).view(len(x), -1))

    viewing, x = Viewing().eval(), torch.rand(2, 3, 8, 8)
    copied = attack_copy(viewing, x)
    assert memory_format(copied) is torch.contiguous_format
    torch.testing.assert_close(copied(x), viewing(x))


def test_a_randomised_model_stays_random(x):
    class Noisy(Block):
        def forward(self, x):
            return super().forward(x + 0.5 * torch.randn_like(x))

    model = trained_looking(Noisy(after))
    copied = attack_copy(model, x)
    assert norms(copied) == 0  # the same noise for both: folding is seen to change nothing
    assert not torch.equal(copied(x), copied(x))


def test_the_comparison_draws_from_no_one_elses_random_state(x):
    model = trained_looking(Block(after))
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    attack_copy(model, x)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_declared_backward_pass_is_not_traced_away(x):
    layer = BackwardPass(nn.Hardtanh(0.4, 0.6))
    model = trained_looking(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), layer, nn.Flatten()))
    with frozen(model):  # as attacks make it
        copied = attack_copy(model, x)
        z = x.clone().requires_grad_()
        gradient = torch.autograd.grad(copied(z).sum(), z)[0]
    assert norms(copied) == 1
    assert (gradient != 0).all()


def test_the_model_is_left_as_found(x):
    model = Block(after).train()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    before = copy.deepcopy(model.state_dict())
    copied = attack_copy(model, x)
    assert model.training
    assert model.conv.weight.requires_grad
    assert (model.conv.weight.grad == 1).all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not copied.training
    assert not any(p.requires_grad for p in copied.parameters())


def test_another_precision_inside(x):
    model = trained_looking(ARCHITECTURES["resnet20"]())
    copied = attack_copy(model, x, torch.bfloat16)
    assert copied(x).dtype == torch.float32
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    gap = (copied(x) - model(x)).abs().max() / model(x).abs().max()
    assert 0 < gap < 0.2  # bfloat16 keeps 8 bits, in each of twenty layers


def two_convolutions() -> nn.Module:
    """One with a bias, one without, whose batch norm is not affine."""
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, bias=False)
    norms = nn.BatchNorm2d(4), nn.BatchNorm2d(5, affine=False)
    body = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_live_copy_becomes_to_the_bit_what_would_be_copied_now(dtype, x):
    model = two_convolutions()
    live = LiveCopy(model, x, dtype)
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            tensor += torch.rand_like(tensor)
    now = attack_copy(model, x, dtype).state_dict()
    before = {name: tensor.clone() for name, tensor in live.module.state_dict().items()}
    after = live.refresh().state_dict()
    assert norms(live.module) == 0
    assert all(
        torch.equal(tensor, now[name]) and not torch.equal(tensor, before[name]) for name, tensor in after.items()
    )


def test_a_live_copy_is_made_again_when_the_model_has_become_another_function(x):
    model = Block(lambda self, x: after(self, x) if self.plain else -after(self, x))
    model.plain = True
    live = LiveCopy(model, x)
    assert live.remade() is live
    model.plain = False
    torch.testing.assert_close(live.remade().module(x), model.eval()(x))
