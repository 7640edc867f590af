"""Maps of signal and change are norms over channels, place by place, and make up the signal-to-noise ratio."""

import numpy as np
import pytest
import torch

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn, mlp


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return digits_cnn()


@pytest.fixture(scope="module")
def some():
    return npb.data.load("digits", limit=4)


def test_maps_are_norms_over_channels_place_by_place(model, some):
    found = npb.signal_maps(model, some, lambda model, x, y, *, generator: 0.5 * x, ["conv1", "conv3:in"], image=2)
    with torch.no_grad():
        clean, half = (model.eval().conv1(factor * some.inputs[2:3]).double()[0] for factor in (1, 0.5))
    here = found.sel(site="conv1")
    for i, j in ((0, 0), (3, 5), (7, 7)):
        assert float(here["signal"][i, j]) == pytest.approx(sum(float(c[i, j]) ** 2 for c in clean) ** 0.5)
        changed = sum(float(c[i, j]) ** 2 for c in half - clean) ** 0.5
        assert float(here["change"][i, j]) == pytest.approx(changed, rel=1e-5)  # float32 differences
    np.testing.assert_array_equal(found["picture"], some.inputs[2])
    np.testing.assert_array_equal(found["perturbed"], 0.5 * some.inputs[2])
    assert float(here["snr_db"]) == pytest.approx(20 * np.log10(2), rel=1e-4)  # a convolution without bias is linear
    assert found["signal"].sizes == {"site": 2, "y": 8, "x": 8}


def test_the_ratio_is_that_of_the_metric_with_the_same_noise(model, some):
    found = npb.signal_maps(model, some, {"noise": npb.GaussianNoise(0.1)}, "conv:in", image=1, seed=3)
    settings = {"preflight": False, "progress": False, "seed": 3}
    snr = npb.probe({"net": model}, some, {"noise": npb.GaussianNoise(0.1)}, [npb.SNR(sites="conv:in")], **settings)
    ratio = snr["net/snr/snr"].isel(perturbation=0, image=1).values
    np.testing.assert_allclose(found["snr_db"], 10 * np.log10(ratio), rtol=1e-4)


def test_what_changes_nothing_has_no_ratio_and_leaves_the_model_as_it_was(model, some):
    model.train()
    found = npb.signal_maps(model, some, lambda model, x, y, *, generator: x.clone())
    assert model.training and found["snr_db"].isnull().all() and not found["change"].any()


def test_there_must_be_places_such_an_image_and_one_perturbation(some):
    with pytest.raises(NetprobeError, match="2 perturbations: maps are of one"):
        npb.signal_maps(mlp(in_features=64), some, ["gaussian:std=0.1", "fgsm:eps=0.1"])
    with pytest.raises(NetprobeError, match="have no places"):
        npb.signal_maps(mlp(in_features=64), some, "gaussian:std=0.1", "linear")
    with pytest.raises(NetprobeError, match=r"image=4 of .*from 0 to 3"):
        npb.signal_maps(mlp(in_features=64), some, "gaussian:std=0.1", image=4)
