"""Similarity matrices against their formulas on recorded features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import ConvNet, Tokens, affine, images, lookup, probed, recorded, seeded, shifted
from torch import nn

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.metrics import Similarity

SITES = ("conv1", "conv2", "head")
SETTINGS = [("cosine", "channel"), ("cosine", "unit"), ("cosine", "none"), ("correlation", "channel"),
            ("correlation", "unit"), ("correlation", "none"), ("euclidean", "channel")]  # fmt: skip


def slow(features: np.ndarray, measure: str, centre: str) -> np.ndarray:
    """features (image, channel, ...)."""
    axes = {"channel": (0, *range(2, features.ndim)), "unit": (0,), "none": None}[centre]
    mean = 0 if axes is None else features.mean(axes, keepdims=True)
    rows = (features - mean).reshape(len(features), -1)
    if measure == "correlation":
        rows = rows - rows.mean(1, keepdims=True)
    if measure == "euclidean":
        return np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
    return np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in rows] for a in rows])


@pytest.fixture(scope="module", params=[0, 1000], ids=["around 0", "around 1000"])
def setting(request):
    model, data = seeded(ConvNet, offset=request.param).double(), images()
    other = shifted(data, 0.15)
    return model, data, other, [recorded(model, x.double(), *SITES) for x in (data.inputs, other)]


@pytest.mark.parametrize(("measure", "centre"), SETTINGS)
def test_every_number_is_its_formula(setting, measure, centre):
    """A mean of 1000 costs six of float64's sixteen digits, in the reference as well."""
    model, data, other, features = setting
    found = probed(model, data, lookup(other), Similarity(measure=measure, centre=centre))
    assert found.similarity.dims == ("condition", "site", "image", "other_image")
    assert found.attrs["measure"] == measure
    for condition, recording in zip(found.condition.values, features, strict=True):
        for site in SITES:
            matrix = found.similarity.sel(condition=condition, site=site).values
            np.testing.assert_allclose(matrix, slow(recording[site], measure, centre), atol=2e-9, err_msg=site)
            np.testing.assert_array_equal(matrix, matrix.T)
            mean = found.mean_similarity.sel(condition=condition, site=site)
            assert mean.item() == pytest.approx(matrix[np.triu_indices(20, 1)].mean(), abs=1e-12)
            assert (np.diag(matrix) == (0 if measure == "euclidean" else 1)).all()


@pytest.mark.parametrize("memory", ["20KB", "1KB"])
@pytest.mark.parametrize("measure", ["cosine", "correlation"])
def test_a_small_budget_takes_more_passes_and_changes_nothing(setting, memory, measure):
    model, data, *_ = setting
    expected = probed(model, data, None, Similarity(measure=measure))
    found = probed(model, data, None, Similarity(measure=measure), memory=memory)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-9)


def test_channels_are_the_last_axis_of_tokens():
    data = images(shape=(1, 6, 5))
    model = seeded(nn.Sequential, nn.Flatten(1, 2), seeded(Tokens, True)).double()
    found = probed(model, data, None, Similarity(), sites="1.encoder.layers.0").similarity.squeeze()
    features = recorded(model, data.inputs.double(), "1.encoder.layers.0")["1.encoder.layers.0"]
    np.testing.assert_allclose(found, slow(np.moveaxis(features, 2, 1), "cosine", "channel"), atol=1e-12)


def test_scale_rotation_and_shift_of_a_layer_change_nothing():
    weight, data = torch.randn(20, 90, dtype=torch.float64), images()
    rotation, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    one, other = (
        probed(nn.Sequential(nn.Flatten(), affine(w, bias)), data, None, Similarity(centre="unit")).similarity
        for w, bias in ((weight, 0.0), (7 * rotation @ weight, 5.0))
    )
    np.testing.assert_allclose(one, other, atol=1e-11)


def test_float32_agrees_to_its_rounding(setting):
    model, data, *_ = setting
    double, single = (probed(model, data, None, Similarity(), dtype=d).similarity for d in ("float64", "float32"))
    np.testing.assert_allclose(double, single, atol=0.1 if model.conv1.bias.mean() > 500 else 1e-5)


def test_a_representation_that_is_the_mean_has_no_direction():
    """Images 0 and 1 are opposite and image 2 is the mean, so that it is silent when centred."""
    x = torch.stack([torch.full((1, 2, 2), v) for v in (0.25, 0.75, 0.5)])
    x[:2, 0, 0, 0] = torch.tensor([0.75, 0.25])
    model = nn.Sequential(nn.Flatten(), affine(torch.eye(4)))
    data = npb.data.load((x, torch.tensor([0, 1, 0])))
    found = probed(model, data, None, Similarity()).similarity.squeeze().values
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all()
    np.testing.assert_allclose(found[:2, :2], [[1, -1], [-1, 1]])
    assert np.isfinite(probed(model, data, None, Similarity(measure="euclidean")).similarity).all()


@pytest.mark.parametrize(("kind", "value"), [("measure", "cosin"), ("centre", "units")])
def test_unknown_settings(kind, value):
    with pytest.raises(NetprobeError, match=f"unknown {kind} '{value}'"):
        Similarity(**{kind: value})
