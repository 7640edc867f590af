"""The network with one hidden layer: its layers, its scaling, and its powers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.models.shallow import LpScale, PowerReLU, shallow
from netprobe.training.initial import initial


def layers(**arguments) -> list[str]:
    return [name for name, _ in shallow(in_features=6, hidden=4, **arguments).named_children()]


def test_layers_in_order():
    assert layers() == ["flatten", "scale", "hidden", "relu", "linear"]
    assert layers(p=None, batch_norm=True) == ["flatten", "hidden", "relu", "norm", "linear"]
    assert layers(p=0) == layers(p=None)
    assert type(shallow().relu) is nn.ReLU and type(shallow(power=2).relu) is PowerReLU


def test_what_it_computes():
    torch.manual_seed(0)
    model = shallow(3, in_features=12, hidden=5, p=3.0, power=4.5).double()
    x = torch.rand(4, 3, 2, 2, dtype=torch.float64)
    W, U, u = model.hidden.weight, model.linear.weight, model.linear.bias
    for image, logits in zip(x.flatten(1), model(x), strict=True):
        v = image / (image**3).sum() ** (1 / 3)
        a = torch.stack([(W[unit] * v).sum().clamp_min(0) ** 4.5 for unit in range(5)])
        torch.testing.assert_close(logits, U @ a + u)


def test_the_start_has_the_stated_spread():
    torch.manual_seed(0)
    weight = shallow(in_features=3072).hidden.weight
    # 6 million draws: the standard deviation is known to 0.03 %.
    assert weight.std().item() == pytest.approx((2 / 3072) ** 0.5, rel=2e-3)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 4.5])
def test_scaled_samples_have_unit_norm_whatever_their_brightness(p):
    x = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scaled = LpScale(p)(x)
    torch.testing.assert_close(torch.linalg.vector_norm(scaled.flatten(1), p, dim=1), torch.ones(5))
    torch.testing.assert_close(LpScale(p)(0.1 * x), scaled)


def test_black_images_stay_black_and_have_finite_gradients():
    x = torch.zeros(2, 1, 4, 4, requires_grad=True)
    out = shallow(in_features=16, hidden=8, power=4.5)(x)
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


def test_scaling_an_input_scales_h_and_raises_a_to_the_power():
    torch.manual_seed(0)
    model = shallow(in_features=9, hidden=20, p=None, power=4.5).double()
    x, c = torch.rand(6, 1, 3, 3, dtype=torch.float64), 1.7
    h, scaled = (model.hidden(model.flatten(each)) for each in (x, c * x))
    torch.testing.assert_close(scaled, c * h)
    torch.testing.assert_close(model.relu(scaled), c**4.5 * model.relu(h))
    assert (scaled.argsort(1) == h.argsort(1)).all()


def test_the_power_has_the_stated_slope_and_is_safe_at_zero():
    h = torch.tensor([-1.0, 0.0, 1e-6, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(PowerReLU(4.5)(h).sum(), h)
    torch.testing.assert_close(slope, 4.5 * h.detach().clamp_min(0) ** 3.5)


def test_half_precision_is_widened():
    a = PowerReLU(4.5)(torch.tensor([20.0, 0.01], dtype=torch.float16))
    assert a.dtype == torch.float32 and a.isfinite().all() and (a > 0).all()


def test_it_is_built_for_the_data():
    digits = npb.data.load("digits", "train", limit=20)
    model = initial("shallow", digits, 0, hidden=7)
    assert model.hidden.weight.shape == (7, 64) and model.linear.out_features == digits.num_classes
    assert [site.name for site in npb.find_sites(model, digits.inputs[:2]) if site.where == "output"][:4] == [
        "flatten", "scale", "hidden", "relu",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"), [({"power": 0.5}, "too steep"), ({"p": 0.5}, "no norm"), ({"hidden": 0}, "1 unit")]
)
def test_bad_arguments_are_named(wrong, said):
    with pytest.raises(NetprobeError, match=said):
        shallow(**wrong)
