"""Planes point by point."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netprobe import data
from netprobe.errors import NetprobeError
from netprobe.geometry import decision_plane, jacobian_norms
from netprobe.models.shallow import shallow

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return shallow(in_features=64, hidden=20, power=2.0).double().eval()


def test_every_point_is_what_the_network_says_there(network, digits):
    found = decision_plane(network, digits, 3, "re:^relu$", points=7, reach=2.0, **QUIET)
    e1, e2 = torch.from_numpy(found["direction"].values)
    to_relu = torch.nn.Sequential(network.scale, network.hidden, network.relu)
    x0 = digits.inputs.double()[3].flatten()
    for i, s in enumerate(found["s"].values):
        for j, t in enumerate(found["t"].values):
            x = x0 + s * e1 + t * e2
            probabilities = network(x[None]).softmax(1)[0]
            here = found.isel(s=i, t=j)
            assert int(here["prediction"]) == int(probabilities.argmax())
            assert float(here["confidence"]) == pytest.approx(float(probabilities.max().detach()))
            jacobian = torch.autograd.functional.jacobian(lambda v: to_relu(v[None]), x)
            assert float(here["frobenius"]) == pytest.approx(float(jacobian.norm()))


def test_the_middle_is_the_image_and_the_axes_are_orthonormal(network, digits):
    found = decision_plane(network, digits, 5, points=3, **QUIET)
    middle = found.sel(s=0, t=0)
    assert int(middle["prediction"]) == int(network(digits.inputs.double())[5].argmax())
    exact = jacobian_norms(network, digits, "output", **QUIET)["frobenius"][0, 5]
    assert float(middle["frobenius"]) == pytest.approx(float(exact))
    axes = found["direction"].values
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    assert found.attrs["label"] == int(digits.labels[5])


def test_planes_behind_the_rescaling_do_not_forget_how_far_they_are(network, digits):
    """There h is linear along the plane, and the slopes of ReLU(h)^2 grow with it."""
    found = decision_plane(network, digits, 0, "re:^relu$", wrt="scale", points=3, reach=20.0, **QUIET)
    x = network.scale(digits.inputs.double()[:1].flatten(1))
    corner = x + 20 * torch.from_numpy(found["direction"].values.sum(0))
    slopes = 2 * network.hidden(corner).clamp_min(0)
    expected = (slopes.square() @ network.hidden.weight.square().sum(1)).sqrt()
    assert float(found["frobenius"].sel(s=20, t=20)) == pytest.approx(float(expected.detach()))
    assert int(found["prediction"].sel(s=20, t=20)) == int(
        network.linear(network.relu(network.hidden(corner))).argmax()
    )


def test_planes_through_other_images_and_given_directions(network, digits):
    x = digits.inputs.double().flatten(1)
    first, second = x[1] - x[0], x[2] - x[0]
    through = decision_plane(network, digits, 0, None, towards=(1, 2), points=3, **QUIET)
    given = decision_plane(
        network, digits, 0, None, directions=(first.view(1, 8, 8), second.view(1, 8, 8)), points=3, **QUIET
    )
    np.testing.assert_allclose(through["direction"], given["direction"])
    e1, _ = axes = through["direction"].values
    np.testing.assert_allclose(e1, first / first.norm(), atol=1e-12)
    np.testing.assert_allclose((axes @ second.numpy()) @ axes, second, atol=1e-12)
    assert np.isnan(through["frobenius"]).all()


def test_estimates_come_near_with_their_error(network, digits):
    options = {"points": 5, "reach": 1.0, **QUIET}
    exact = decision_plane(network, digits, 0, "re:^relu$", **options)
    about = decision_plane(network, digits, 0, "re:^relu$", method="estimate", draws=200, **options)
    off = np.abs(about["frobenius"] - exact["frobenius"])
    assert (off < 5 * about["frobenius_error"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 4}, "odd number"),
        ({"image": 8}, "in the data"),
        ({"reach": 0}, "above 0"),
        ({"site": "linear,hidden"}, "name one"),
        ({"towards": (0, 1)}, "span no plane"),
        ({"towards": (1,)}, "name two images"),
        ({"directions": (torch.ones(3), torch.ones(3))}, "two tensors of shape"),
        ({"directions": (torch.ones(1, 8, 8),) * 2, "towards": (1, 2)}, "not both"),
        ({"directions": (torch.ones(1, 8, 8), 2 * torch.ones(1, 8, 8))}, "span no plane"),
    ],
)
def test_mistakes_are_named(options, message, network, digits):
    with pytest.raises(NetprobeError, match=message):
        decision_plane(network, digits, **({"points": 3} | options | QUIET))
