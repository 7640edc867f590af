"""Squared Hoyer ratios and dead filters against slow loops, by hand, and on public checkpoints."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny import seeded
from torch import Tensor, nn

from netprobe.checkpoints import load
from netprobe.errors import NetprobeError
from netprobe.weights import filters
from netprobe.weights.filters import NEGLIGIBLE, filter_rows, squared_hoyer

CHECKPOINTS = {
    "NT": "resnet_sgd_cyc_0.0500_NT_ep_100.pt",
    "PGD": "resnet_sgd_cyc_0.0500_PGD_eps_8_Ns_10_ss_1_Nr_1_ep_100.pt",
}
PUBLISHED = {  # mean over filters of h, as published with the checkpoints' analyses, to two digits
    "NT": {"conv1": 0.72, "block1.0.conv1": 0.63, "block2.2.conv1": 0.64, "block3.4.conv2": 0.64},
    "PGD": {"conv1": 0.21, "block1.0.conv1": 0.49, "block2.2.conv1": 0.62, "block3.4.conv2": 0.63},
}

LAYERS = {
    "conv": (lambda: nn.Conv2d(4, 6, (3, 2)), (4, 7, 8)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 7, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (4, 7, 8)),
    "1-D": (lambda: nn.Conv1d(3, 5, 4), (3, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, (3, 2)), (4, 7, 8)),
    "transposed, grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 7, 8)),
    "linear": (lambda: nn.Linear(7, 5), (7,)),
}
every_layer = pytest.mark.parametrize(("build", "shape"), LAYERS.values(), ids=LAYERS)


def slow_rows(layer: nn.Module, shape: tuple[int, ...]) -> list[np.ndarray]:
    """For each output channel, the weights that it depends on: those whose gradient is not zero."""
    rows = []
    x = torch.rand(1, *shape, dtype=torch.float64) + 1
    for channel in range(layer(x).shape[1]):
        (gradient,) = torch.autograd.grad(layer(x)[:, channel].sum(), layer.weight)
        rows.append(layer.weight.detach()[gradient != 0].numpy())
    return rows


def slow_hoyer(weights: np.ndarray) -> float:
    l1 = sum(abs(w) for w in weights)
    l2 = sum(w * w for w in weights) ** 0.5
    return ((l1 / l2) ** 2 - 1) / (len(weights) - 1)


@every_layer
def test_the_weights_of_an_output_are_those_it_depends_on(build, shape):
    layer = seeded(build).double()
    for found, expected in zip(filter_rows(layer), slow_rows(layer, shape), strict=True):
        np.testing.assert_array_equal(np.sort(found.numpy()), np.sort(expected))


@every_layer
def test_ratio_against_loops(build, shape):
    model = nn.Sequential(seeded(build).double())
    found = filters(model, shape).isel(layer=0)
    expected = [slow_hoyer(row) for row in slow_rows(model[0], shape)]
    np.testing.assert_allclose(found["hoyer_filter"], expected, rtol=1e-12)  # float64 sums in another order
    np.testing.assert_allclose(found["hoyer"], np.mean(expected), rtol=1e-12)
    np.testing.assert_allclose(found["hoyer_median"], np.median(expected), rtol=1e-12)
    assert found["elements"] == len(slow_rows(model[0], shape)[0]) and found["filters"] == len(expected)
    low, high = found["hoyer_interval"].values
    assert low < found["hoyer"] < high
    low, high = found["hoyer_median_interval"].values
    assert low <= found["hoyer_median"] <= high


def test_by_hand():
    rows = torch.tensor([[2, 0, 0, 0], [1, -1, 1, 1], [3, 4, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    # one weight: 0; all alike: 1; (7/5)^2 = 1.96, 0.96/3 = 0.32; no weights: undefined
    np.testing.assert_allclose(squared_hoyer(rows), [0, 1, 0.32, np.nan], rtol=1e-12, atol=1e-15)
    assert torch.isnan(squared_hoyer(torch.ones(3, 1))).all()


def test_tiny_weights_do_not_underflow():
    rows = torch.tensor([[3e-200, 4e-200, 0, 0]], dtype=torch.float64)
    np.testing.assert_allclose(squared_hoyer(rows), [0.32], rtol=1e-12)


def test_gaussian_weights_lie_near_two_over_pi():
    rows = torch.randn(200, 4608, dtype=torch.float64)
    # standard error of the mean of 200 filters is below 1e-3; the bias of finite d is of order 1/d
    assert squared_hoyer(rows).mean().item() == pytest.approx(2 / np.pi, abs=3e-3)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_public_checkpoints_have_the_published_ratios(name, data_root):
    model = load("resnet32_thin", data_root / "checkpoints" / CHECKPOINTS[name], normalize="cifar10")
    found = filters(model, (3, 32, 32))
    for layer, expected in PUBLISHED[name].items():
        assert round(float(found["hoyer"].sel(layer=layer)), 2) == expected
    assert (found["dead"] == 0).all()


class Chain(nn.Module):
    """A convolution that batch norm reads, one that a shortcut reads too, and one that nothing normalises."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv3 = nn.Conv2d(6, 4, 1)
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        y = self.conv2(x)
        x = torch.relu(self.bn2(y)) + y
        return self.head(self.conv3(x).mean((2, 3)))


@pytest.fixture
def chain() -> Chain:
    return seeded(Chain)


SHAPE = (3, 8, 9)


def test_the_batch_norm_behind_a_layer_is_known_only_if_nothing_else_reads_it(chain):
    found = filters(chain, SHAPE)
    assert dict(zip(found.layer.values, found.batch_norm.values, strict=True)) == {
        "conv1": "bn1", "conv2": "", "conv3": "", "head": "", "unused": "",
    }  # fmt: skip


def test_a_layer_called_twice_needs_the_same_reader_twice():
    class Twice(Chain):
        def forward(self, x: Tensor) -> Tensor:
            again = self.bn1(self.conv1(x))
            return super().forward(x) + self.conv1(x).mean() + again.mean()

    assert filters(seeded(Twice), SHAPE)["batch_norm"].sel(layer="conv1") == ""


def test_a_layer_that_two_norms_read_in_turn_has_none():
    class Alternating(Chain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.bn2(self.conv1(x)).mean()

    assert filters(seeded(Alternating), SHAPE)["batch_norm"].sel(layer="conv1") == ""


def test_dead_filters_and_why(chain):
    with torch.no_grad():
        chain.conv1.weight[0] = 0
        chain.conv1.weight[1] *= 1e-9
        chain.bn1.weight[2] = 0
        chain.bn1.weight[3] = 1e-9
        chain.bn1.weight[0] = 0  # no weights at all is the nearer reason
        chain.bn2.weight[1] = 0  # a shortcut reads conv2 too, so this kills nothing
        chain.conv3.weight[:] = 0
    found = filters(chain, SHAPE)
    assert found["state_filter"].sel(layer="conv1").values.tolist() == [1, 2, 3, 3, 0, 0]
    assert np.isfinite(found["hoyer_filter"].sel(layer="conv1")).values.tolist() == [False] * 4 + [True] * 2
    assert found[["dead", "dead_weights", "dead_batch_norm"]].sel(layer="conv1").to_array().values.tolist() == [4, 2, 2]
    assert found["dead"].sel(layer=["conv2", "conv3", "head"]).values.tolist() == [0, 4, 0]
    assert found["hoyer"].sel(layer="conv3").isnull() and found["hoyer_interval"].sel(layer="conv3").isnull().all()
    assert found["state_filter"].sel(layer="head").values.tolist() == [0, 0, -1, -1, -1, -1]


def test_a_dead_filter_really_tells_nothing(chain):
    """What `constant` claims, seen from outside: the channel behind batch norm is the same for any input."""
    with torch.no_grad():
        chain.bn1.weight[2] = 0
    outputs = [chain.eval().bn1(chain.conv1(torch.rand(2, *SHAPE))) for _ in range(2)]
    assert torch.equal(outputs[0][:, 2], outputs[1][:, 2]) and not torch.equal(outputs[0][:, 3], outputs[1][:, 3])


def test_ratio_does_not_depend_on_scale_sign_or_order(chain):
    expected = filters(chain, SHAPE)
    order = torch.randperm(6)
    with torch.no_grad():
        chain.conv2.weight.copy_(-1000 * chain.conv2.weight[order])
    found = filters(chain, SHAPE)
    np.testing.assert_allclose(
        found["hoyer_filter"].sel(layer="conv2"), expected["hoyer_filter"].sel(layer="conv2")[order.numpy()], rtol=1e-6
    )  # 1000 w is rounded in float32
    for statistic in ("hoyer", "hoyer_median"):
        np.testing.assert_allclose(found[statistic], expected[statistic], rtol=1e-6)


def test_float32_and_float64_agree(chain):
    double = filters(copy.deepcopy(chain).double(), SHAPE)
    np.testing.assert_array_equal(filters(chain, SHAPE)["hoyer_filter"], double["hoyer_filter"])
    half = filters(copy.deepcopy(chain).bfloat16(), SHAPE)["hoyer"].values
    # bfloat16 rounds each weight to 8 bits; their errors average out over 27 and more weights
    np.testing.assert_allclose(half, double["hoyer"], rtol=5e-3)


def test_the_model_is_left_as_found(chain):
    chain.train()
    before = {name: tensor.clone() for name, tensor in chain.state_dict().items()}
    filters(chain, SHAPE)
    assert chain.training and all(torch.equal(before[name], now) for name, now in chain.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in chain.modules())


def test_reading_a_parametrised_weight_changes_nothing():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    filters(model, SHAPE)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_rows_that_cannot_be_read_say_why(chain):
    with torch.no_grad():
        chain.conv3.weight[0, 0] = torch.nan
    found = filters(chain, SHAPE)
    assert "NaN" in str(found["note"].sel(layer="conv3").values) and found["hoyer"].sel(layer="conv3").isnull()
    assert "never reached" in str(found["note"].sel(layer="unused").values)
    assert found["dead"].sel(layer="unused").isnull()
    with pytest.raises(NetprobeError, match="'conv3' cannot be analysed"):
        filters(chain, SHAPE, "conv3")


def test_filters_of_one_weight_have_no_ratio():
    model = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3))
    found = filters(model, SHAPE)
    assert found["hoyer"].isnull().all() and "single weight" in found["note"].item() and found["dead"] == 0


def test_layers_are_chosen_by_pattern(chain):
    assert filters(chain, SHAPE, "conv*,~conv2").layer.values.tolist() == ["conv1", "conv3"]
    with pytest.raises(NetprobeError, match="did you mean 'conv3'"):
        filters(chain, SHAPE, "conv3x")
    with pytest.raises(NetprobeError, match="unknown site pattern 'bn1'"):
        filters(chain, SHAPE, "bn1")  # no filters in there


def test_variables_carry_their_meaning(chain):
    found = filters(chain, SHAPE)
    for name, values in found.data_vars.items():
        assert all(values.attrs[key] for key in ("long_name", "units", "definition")), name
    assert "<table" in found._repr_html_() or "xr-wrap" in found._repr_html_()
    assert NEGLIGIBLE == 1e-6  # the number in the docstrings
