"""Drift of batch norm against statistics taken by plain hooks, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from tiny import QUIET, channel_rows, images, lookup, recorded, seeded, shifted
from torch import Tensor, nn

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.weights import batch_norm, batch_norm_drift
from netprobe.weights.drift import drift, site_pattern, tracked_names

N = 24


class Net(nn.Module):
    """Two batch norms, one of them called twice on different tensors, and one that keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.shared = nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4, affine=False)
        self.untracked = nn.BatchNorm2d(4, track_running_stats=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.conv2(x)
        x = self.shared(x) + self.shared(torch.relu(x))[..., :2, :2].mean()
        return self.head(self.untracked(x).mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> Net:
    made = seeded(Net).double()
    for bn in (made.bn1, made.shared):
        bn.running_mean.normal_(generator=torch.Generator().manual_seed(1)).mul_(0.2)
        bn.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    return made


def measured(model, perturbations=None, data=None, **settings):
    options = QUIET | {"dtype": "float64", "batch_size": 7} | settings
    return batch_norm_drift(model, images(N, classes=3) if data is None else data, perturbations, **options)


@pytest.fixture(scope="module")
def found(model):
    return measured(model, {"moved": lookup(shifted(images(N, classes=3)))})


def slow_kl(m: float, v: float, m0: float, v0: float) -> float:
    """KL of N(m, v) from N(m0, v0), by numerical integration of its definition."""
    p, q = stats.norm(m, v**0.5), stats.norm(m0, v0**0.5)
    return integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), m - 12 * v**0.5, m + 12 * v**0.5)[0]


def test_against_plain_hooks(model, found):
    data = images(N, classes=3)
    for condition, inputs in (("clean", data.inputs), ("moved", shifted(data))):
        rows = channel_rows(recorded(model, inputs.double(), "bn1", inputs=True)["bn1"])
        at = found.sel(condition=condition, layer="bn1")
        m0, v0 = model.bn1.running_mean.numpy(), model.bn1.running_var.numpy() + 1e-5
        m, v = rows.mean(0), rows.var(0, ddof=1) + 1e-5
        # 1e-9: float64 sums in another order, and ddof
        np.testing.assert_allclose(at["mean_shift_channel"], (m - m0) / np.sqrt(v0), rtol=1e-9)
        np.testing.assert_allclose(at["log_variance_ratio_channel"], np.log(v / v0), rtol=1e-9)
        symmetric = [
            slow_kl(*each) + slow_kl(each[2], each[3], each[0], each[1]) for each in zip(m, v, m0, v0, strict=True)
        ]
        np.testing.assert_allclose(at["symmetric_kl_channel"], symmetric, rtol=1e-6)  # what the integrals are good to
        np.testing.assert_allclose(at["mean_shift"], np.abs((m - m0) / np.sqrt(v0)).mean(), rtol=1e-9)
        assert at["rows"] == len(rows)


def test_all_calls_of_a_layer_count(model, found):
    seen: list[np.ndarray] = []
    handle = model.shared.register_forward_pre_hook(lambda _m, args: seen.append(args[0].clone().numpy()))
    with torch.no_grad():
        model.eval()(images(N, classes=3).inputs.double())
    handle.remove()
    rows = np.concatenate([channel_rows(each) for each in seen])
    at = found.sel(condition="clean", layer="shared").isel(channel=slice(4))
    np.testing.assert_allclose(at["mean"], rows.mean(0), rtol=1e-9)
    np.testing.assert_allclose(at["variance"], rows.var(0), rtol=2 / len(rows))  # pooled without the -1
    assert found.layer.values.tolist() == ["bn1", "shared"]


def test_no_drift_on_the_statistics_of_the_data_themselves(model):
    """Momentum None makes the running statistics those of the data, but for the mean of the batches' variances."""
    made = seeded(Net).double()
    made.bn1.momentum = None
    made.train()
    with torch.no_grad():
        made(images(N, classes=3).inputs.double())
    at = measured(made).sel(condition="clean", layer="bn1")
    for name in ("mean_shift", "log_variance_ratio", "symmetric_kl"):
        assert at[name] == pytest.approx(0, abs=1e-9)  # one batch of all images, float64
        assert at[f"{name}_interval"].sel(bound="high") >= 0


def test_any_batching_and_merging_give_the_same(model, found):
    noise = {"moved": lookup(shifted(images(N, classes=3)))}
    for batch_size in (1, 5, N):
        again = measured(model, noise, batch_size=batch_size)
        for name in found.data_vars:
            np.testing.assert_allclose(again[name], found[name], rtol=1e-9, atol=1e-11, err_msg=name)
    metric = npb.ChannelMoments(at="input", sites=site_pattern(tracked_names(model, (3, 6, 5))))
    data, options = images(N, classes=3), QUIET | {"dtype": "float64"}
    parts = [npb.gather(model, data, noise, metric, shard=f"{i}/3", **options) for i in (1, 0, 2)]
    moments = npb.merge(parts).compute()["Net/channel_moments"].to_dataset()
    merged = drift(moments, batch_norm(model, (3, 6, 5)))
    for name in found.data_vars:
        np.testing.assert_allclose(merged[name], found[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_float32_agrees(model, found):
    single = measured(model, {"moved": lookup(shifted(images(N, classes=3)))}, dtype="float32")
    for name in ("mean_shift", "log_variance_ratio", "symmetric_kl"):
        np.testing.assert_allclose(single[name], found[name], rtol=1e-4)  # float32 activations


def test_seeds_decide_the_noise(model):
    noise = {"noise": "gaussian:std=0.2"}
    one, same, other = (measured(model, noise, seed=seed)["mean_shift"] for seed in (0, 0, 1))
    assert one.equals(same) and not one.equals(other)
    np.testing.assert_array_equal(one.sel(condition="clean"), other.sel(condition="clean"))


def test_interval_is_the_jackknife_of_left_out_blocks(model, found):
    """Eight blocks of three neighbours, each left out in turn, and Student's t with seven degrees of freedom."""
    rows = recorded(model, images(N, classes=3).inputs.double(), "bn1", inputs=True)["bn1"]
    m0, v0 = model.bn1.running_mean.numpy(), model.bn1.running_var.numpy() + 1e-5
    left = [
        np.abs((channel_rows(np.delete(rows, range(3 * b, 3 * b + 3), axis=0)).mean(0) - m0) / np.sqrt(v0)).mean()
        for b in range(8)
    ]
    half = stats.t.ppf(0.975, 7) * np.sqrt(7 * np.var(left))
    at = found.sel(condition="clean", layer="bn1")
    expected = np.clip([at["mean_shift"] - half, at["mean_shift"] + half], 0, None)
    np.testing.assert_allclose(at["mean_shift_interval"], expected, rtol=1e-8)


def test_buffers_are_never_touched(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    measured(model)
    assert model.training and all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    model.eval()


def test_order_of_channels_does_not_matter(model, found):
    order = torch.randperm(5)
    moved = seeded(Net).double()
    moved.load_state_dict(model.state_dict())
    with torch.no_grad():
        for tensor in (moved.conv1.weight, moved.conv1.bias, *moved.bn1.parameters(), moved.bn1.running_mean,
                       moved.bn1.running_var):  # fmt: skip
            tensor.copy_(tensor[order].clone())
        moved.conv2.weight.copy_(moved.conv2.weight[:, order].clone())
    again = measured(moved)
    for name in ("mean_shift", "log_variance_ratio", "symmetric_kl"):
        np.testing.assert_allclose(again[name][0], found.sel(condition="clean")[name], rtol=1e-9)
        np.testing.assert_allclose(
            again[f"{name}_channel"].sel(layer="bn1")[0], found[f"{name}_channel"].sel(layer="bn1")[0, order.numpy()]
        )


def test_rescaling_what_the_layer_is_given_changes_nothing(model, found):
    """Ten times the activations and the statistics are the same drift, but for epsilon."""
    scaled = seeded(Net).double()
    scaled.load_state_dict(model.state_dict())
    with torch.no_grad():
        scaled.conv1.weight.mul_(10), scaled.conv1.bias.mul_(10)
        scaled.bn1.running_mean.mul_(10), scaled.bn1.running_var.mul_(100)
    again = measured(scaled).sel(condition="clean", layer="bn1")
    for name in ("mean_shift", "log_variance_ratio", "symmetric_kl"):
        np.testing.assert_allclose(again[name], found.sel(condition="clean", layer="bn1")[name], rtol=1e-3)


def test_what_cannot_be_compared_is_refused(model):
    with pytest.raises(NetprobeError, match="none of the layers untracked keeps running statistics"):
        measured(model, layers="untracked")
    with pytest.raises(NetprobeError, match="no batch norm"):
        batch_norm_drift(nn.Sequential(nn.Conv2d(3, 4, 3)), images(N), **QUIET)
