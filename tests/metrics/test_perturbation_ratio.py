"""PSR and SNR against norms taken image by image, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import ConvNet, affine, images, lookup, probed, recorded, seeded, shifted, unchanged
from torch import nn

from netprobe.data import load
from netprobe.errors import NetprobeError
from netprobe.metrics import PSR, SNR
from netprobe.uncertainty import bootstrap_interval

SITES = ("conv1", "conv2", "head")
NORMS = {"1": lambda v: np.abs(v).sum(), "2": lambda v: np.sqrt((v**2).sum()), "inf": lambda v: np.abs(v).max()}


def sizes(activations: np.ndarray, norm: str) -> np.ndarray:
    """The norm of every image's activations."""
    return np.array([NORMS[norm](a.ravel()) for a in activations])


@pytest.fixture(scope="module")
def setting():
    model, data = seeded(ConvNet).double(), images()
    other = shifted(data)
    both = [recorded(model, x.double(), *SITES) for x in (data.inputs, other)]
    return model, data, other, both


def test_psr_image_by_image(setting):
    model, data, other, (clean, perturbed) = setting
    found = probed(model, data, lookup(other), PSR())
    assert found.psr.dims == ("perturbation", "norm", "site", "image")
    for norm in NORMS:
        for site in SITES:
            expected = sizes(perturbed[site] - clean[site], norm) / sizes(clean[site], norm)
            one = found.sel(norm=norm, site=site).squeeze("perturbation")
            np.testing.assert_allclose(one.psr, expected, rtol=1e-12)
            np.testing.assert_allclose(one.psr_db, 20 * np.log10(expected.mean()), rtol=1e-12)
            np.testing.assert_allclose(one.psr_median, np.median(expected), rtol=1e-12)
            np.testing.assert_allclose(one.psr_db_interval, 20 * np.log10(bootstrap_interval(expected)), rtol=1e-12)
    assert (found.undefined == 0).all()


def test_snr_image_by_image(setting):
    model, data, other, _ = setting
    clean, perturbed = (recorded(model, x.double(), *SITES, inputs=True) for x in (data.inputs, other))
    found = probed(model, data, lookup(other), SNR())
    assert found.site.values.tolist() == [f"{site}:in" for site in SITES]
    for site in SITES:
        expected = (sizes(clean[site], "2") / sizes(perturbed[site] - clean[site], "2")) ** 2
        one = found.sel(site=f"{site}:in").squeeze("perturbation")
        np.testing.assert_allclose(one.snr, expected, rtol=1e-12)
        np.testing.assert_allclose(one.snr_db, 10 * np.log10(expected.mean()), rtol=1e-12)
        np.testing.assert_allclose(one.snr_median_db, 10 * np.log10(np.median(expected)), rtol=1e-12)
        np.testing.assert_allclose(one.snr_db_interval, 10 * np.log10(bootstrap_interval(expected)), rtol=1e-12)
    assert (found.unaffected == 0).all()


def test_snr_of_outputs(setting):
    model, data, other, (clean, perturbed) = setting
    found = probed(model, data, lookup(other), SNR(at="output"))
    expected = (sizes(clean["conv1"], "2") / sizes(perturbed["conv1"] - clean["conv1"], "2")) ** 2
    np.testing.assert_allclose(found.snr.sel(site="conv1").squeeze(), expected, rtol=1e-12)


@pytest.mark.parametrize("c", [-0.5, -0.01, 0.0])
def test_psr_of_a_linear_layer_on_a_scaled_input_is_the_scale(c):
    """f(x + c x) - f(x) = c f(x) without a bias, in every norm."""
    model = nn.Sequential(nn.Flatten(), affine(torch.randn(4, 90, dtype=torch.float64)))
    data = images()
    found = probed(model, data, lookup(data.inputs.double() * (1 + c)), PSR())
    np.testing.assert_allclose(found.psr, abs(c), rtol=1e-12)


def test_psr_does_not_depend_on_the_scale_of_weights(setting):
    model, data, other, _ = setting
    expected = probed(model, data, lookup(other), PSR())
    scaled = seeded(ConvNet).double()
    with torch.no_grad():
        for parameter in (scaled.conv1.weight, scaled.conv1.bias, scaled.conv2.bias):
            parameter.mul_(37.0)  # ReLUs pass the factor on
    found = probed(scaled, data, lookup(other), PSR())
    np.testing.assert_allclose(found.psr.sel(site=["conv1", "conv2"]), expected.psr.sel(site=["conv1", "conv2"]))


def test_the_norm_asked_for(setting):
    model, data, other, _ = setting
    every = probed(model, data, lookup(other), PSR())
    some = probed(model, data, lookup(other), PSR(norms=("inf", "1")))
    assert some.norm.values.tolist() == ["inf", "1"]
    np.testing.assert_array_equal(some.psr, every.psr.sel(norm=["inf", "1"]))


@pytest.mark.parametrize("norms", [("3",), ("2", "l1"), "inf"])
def test_unknown_norms_are_errors(norms):
    with pytest.raises(NetprobeError, match="unknown norm"):
        PSR(norms=norms)


def test_nothing_changes():
    found = probed(seeded(ConvNet), images(), unchanged, PSR())
    assert (found.psr == 0).all() and (found.psr_median == 0).all()
    assert (found.psr_db == -np.inf).all() and (found.psr_db_interval == -np.inf).all()
    found = probed(seeded(ConvNet), images(), unchanged, SNR())
    assert np.isinf(found.snr).all() and (found.unaffected == 20).all()
    assert found.snr_db.isnull().all() and (found.snr_median_db == np.inf).all()


def silent_first() -> tuple[nn.Module, object, torch.Tensor]:
    """A linear layer on images the first of which is black, and changed images."""
    data = images(n=6)
    x = data.inputs
    x[0] = 0
    model = nn.Sequential(nn.Flatten(), affine(torch.randn(4, 90, dtype=torch.float64)))
    return model, load((x, data.labels)), shifted(data)


def test_a_silent_image_has_no_psr_and_is_counted():
    model, data, other = silent_first()
    found = probed(model, data, lookup(other), PSR())
    assert found.psr.isel(image=0).isnull().all()
    assert (found.undefined == 1).all()
    np.testing.assert_allclose(found.psr_db, 20 * np.log10(found.psr.isel(image=slice(1, None)).mean("image")))
    np.testing.assert_allclose(found.psr_median, found.psr.isel(image=slice(1, None)).median("image"))


def test_a_silent_image_that_changes_has_snr_0():
    model, data, other = silent_first()
    found = probed(model, data, lookup(other), SNR())
    assert (found.snr.isel(image=0) == 0).all()
    np.testing.assert_allclose(found.snr_db, 10 * np.log10(found.snr.mean("image")))


def test_a_silent_image_that_does_not_change_has_no_snr():
    model, data, other = silent_first()
    other[0] = 0
    found = probed(model, data, lookup(other), SNR())
    assert found.snr.isel(image=0).isnull().all()
    np.testing.assert_allclose(found.snr_db, 10 * np.log10(found.snr.isel(image=slice(1, None)).mean("image")))


def test_images_that_do_not_change_are_left_out_of_the_snr():
    model, data, other = silent_first()
    other[2] = data.inputs[2]
    found = probed(model, data, lookup(other), SNR())
    assert (found.unaffected == 1).all() and np.isinf(found.snr.isel(image=2)).all()
    kept = found.snr.isel(image=[0, 1, 3, 4, 5])
    np.testing.assert_allclose(found.snr_db, 10 * np.log10(kept.mean("image")))
    np.testing.assert_allclose(found.snr_median_db, 10 * np.log10(found.snr.median("image")))


def test_snr_of_known_noise():
    """Grey images of 0.5 and noise of 0.05: 10 log10(0.25 / 0.0025) = 20 dB.

    With 300 values an image the mean of 1/noise power is 300/298 too large, 0.03 dB; the sd of the mean of 40 images is
    sqrt(2 / 300 / 40) = 1.3 %, 0.06 dB, four times that allowed.
    """
    grey = load((torch.full((40, 3, 10, 10), 0.5), torch.arange(40) % 2))
    model = nn.Sequential(nn.Flatten(), nn.Linear(300, 2))
    snr = probed(model, grey, "gaussian:std=0.05", SNR(), sites="input").snr_db.item()
    psr = probed(model, grey, "gaussian:std=0.05", PSR(), sites="input").psr_db.sel(norm="2").item()
    assert snr == pytest.approx(20.03, abs=0.25)
    assert psr == pytest.approx(-20.0, abs=0.25)
