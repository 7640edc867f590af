"""Spectra of units against numpy's covariance of all activations at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netprobe import data
from netprobe.errors import NetprobeError
from netprobe.geometry import unit_spectra
from netprobe.metrics.power_law import fit
from netprobe.models import digits_cnn
from netprobe.models.shallow import shallow
from netprobe.perturb import ImageGenerator
from netprobe.perturb.randomness import normal, stream_seed
from netprobe.uncertainty import jackknife_interval

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=300)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return shallow(in_features=64, hidden=40, p=None).double().eval()


@pytest.fixture(scope="module")
def found(network, digits):
    return unit_spectra(network, digits, "hidden,relu", units=(10, 20, 500), noise=400, draws=8, **QUIET)


def spectrum(rows):
    return np.linalg.eigvalsh(np.cov(rows.T))[::-1]


def test_spectra_are_those_of_the_covariance(network, digits, found):
    images = digits.inputs.double().flatten(1)
    white = normal(
        torch.empty(400, 1, 8, 8, dtype=torch.float64), ImageGenerator(stream_seed(0, "white noise"), range(400))
    )
    assert list(found["count"].values) == ["10", "20", "all"]
    for inputs, x in (("images", images), ("noise", white.flatten(1))):
        h = network.hidden(x).detach()
        for site, a in (("input", x), ("hidden", h), ("relu", h.relu())):
            for count in (10, 20, None):
                expected = spectrum(a[:, :count].numpy())
                here = found.sel(inputs=inputs, site=site, count=str(count or "all"))
                values = here["eigenvalues"].values[: len(expected)]
                np.testing.assert_allclose(values, expected, atol=1e-12 * expected[0])
                assert np.isnan(here["eigenvalues"].values[len(expected) :]).all()
                assert float(here["variance"]) == pytest.approx(a[:, :count].var(0).sum().item())
                first, last = int(here["fit_first"]), int(here["fit_last"])
                reference = fit(expected, first, last)
                np.testing.assert_allclose(here["alpha"], reference.alpha)
                np.testing.assert_allclose(here["alpha_interval"], (reference.low, reference.high))


def test_the_jackknife_leaves_out_blocks(network, digits, found):
    h = network.hidden(digits.inputs.double().flatten(1)).detach().numpy()
    here = found.sel(inputs="images", site="hidden", count="all")
    ranks = int(here["fit_first"]), int(here["fit_last"])
    rest = [np.delete(h, np.arange(300) // 38 == block, 0) for block in range(8)]
    left_out = np.array([fit(spectrum(rows), *ranks).alpha for rows in rest])
    np.testing.assert_allclose(here["alpha_jackknife"], jackknife_interval(float(here["alpha"]), left_out))


def test_a_unit_that_one_block_alone_moves_is_not_fitted():
    """Without that block its variance is zero, which has no logarithm."""
    x = torch.rand(80, 8, generator=torch.Generator().manual_seed(0))
    x[1:, -1] = 0
    images = data.load((x.view(80, 1, 2, 4), torch.arange(80) % 2))
    model = nn.Sequential(nn.Flatten(), nn.Identity())
    here = unit_spectra(model, images, "1", inputs=["images"], first=1, **QUIET).sel(site="1", count="all").squeeze()
    assert here["rank_numeric"] == 8 and here["fit_last"] == 7
    assert np.isfinite(here["alpha_jackknife"]).all()


def test_noise_has_no_slope_once_it_is_corrected(found):
    """400 samples of 64 values of white noise: the fit says 0.5, the law is flat."""
    here = found.sel(inputs="noise", site="input", count="all")
    assert float(here["alpha"]) > 0.3
    assert float(here["alpha_corrected"]) < 0.15
    assert float(here["alpha_corrected_interval"][0]) == 0


def test_the_identity_has_the_spectrum_of_the_data(digits):
    found = unit_spectra(nn.Sequential(nn.Flatten(), nn.Identity()), digits, "1", inputs=["images"], **QUIET)
    np.testing.assert_allclose(found["eigenvalues"].sel(site="1"), found["eigenvalues"].sel(site="input"))


def test_a_rotation_of_units_leaves_the_spectrum(digits):
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64))[0]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64, bias=False)).double()
    model[1].weight.data.copy_(rotation)
    found = unit_spectra(model, digits, "1", inputs=["images"], **QUIET)["eigenvalues"].sel(count="all").squeeze()
    np.testing.assert_allclose(found.sel(site="1"), found.sel(site="input"), atol=1e-12 * float(found[0, 0]))


def test_a_random_layer_inherits_the_images_exponent_and_noise_has_none():
    """As in the paper's control: within 0.1 of the images'; noise below 0.15 with 3 D samples of its own and more."""
    rng = np.random.default_rng(0)
    deviation, basis = np.arange(1, 257) ** -0.75, np.linalg.qr(rng.standard_normal((256, 256)))[0]
    x = (rng.standard_normal((1500, 256)) * deviation) @ basis.T
    images = _as_data(x)
    torch.manual_seed(0)
    model = shallow(in_features=256, hidden=1000, p=None).eval()
    found = unit_spectra(model, images, "hidden", last=100, noise=8000, jackknife=False, **QUIET).sel(count="all")
    alpha = found["alpha"]
    assert float(alpha.sel(inputs="images", site="hidden")) == pytest.approx(
        float(alpha.sel(inputs="images", site="input")), abs=0.1
    )
    assert float(alpha.sel(inputs="noise", site="input")) < 0.15


def _as_data(x, side=16):
    """Images of any values: what a spectrum is asked of need not be in [0, 1]."""
    return data.Data(
        torch.from_numpy(x.reshape(len(x), 1, side, -1)).float(), torch.arange(len(x)) % 2, ("a", "b"), "drawn"
    )


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_laws_of_many_samples(alpha):
    """20,000 samples of 600 units: the plain fit is within 0.05 of the law, ranks 11 to 300."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20000, 600)) * np.arange(1, 601) ** (-alpha / 2)
    images = data.Data(
        torch.from_numpy(x.reshape(-1, 1, 20, 30)).float(), torch.zeros(20000, dtype=torch.int64), ("a",), "drawn"
    )
    found = unit_spectra(
        nn.Flatten(), images, "output", inputs=["images"], units=[], last=300, jackknife=False, **QUIET
    )
    assert float(found["alpha"].sel(site="input").item()) == pytest.approx(alpha, abs=0.05)


def test_fewer_samples_than_units():
    model = shallow(in_features=64, hidden=50, p=None).double().eval()
    few = data.load("digits", limit=20)
    found = unit_spectra(model, few, "hidden", inputs=["images"], units=[], draws=6, **QUIET).sel(
        site="hidden", count="all"
    )
    values = found["eigenvalues"].values.ravel()
    assert np.isfinite(values).sum() == 19
    assert int(found["rank_numeric"].item()) == 19
    assert float(found["alpha_corrected"].item()) < float(found["alpha"].item())


def test_batches_and_the_model(digits, monkeypatch):
    model = digits_cnn().train()
    options = {"sites": "conv5,linear", "units": [8], **QUIET}
    whole = unit_spectra(model, digits, **options)
    monkeypatch.setattr("netprobe.geometry.spectra.rows_at_a_time", lambda *_: 7)
    parts = unit_spectra(model, digits, **options)
    assert all(module.training for module in model.modules())
    first = float(whole["eigenvalues"].max())
    np.testing.assert_allclose(parts["eigenvalues"], whole["eigenvalues"], rtol=1e-4, atol=1e-6 * first)
    back = unit_spectra(model, digits.select(torch.arange(300).flip(0)), inputs=["images"], **options)
    np.testing.assert_allclose(
        back["eigenvalues"].sel(inputs="images"),
        whole["eigenvalues"].sel(inputs="images"),
        rtol=1e-4,
        atol=1e-6 * first,
    )


def test_layers_too_wide_are_left_out(digits, monkeypatch):
    monkeypatch.setattr("netprobe.geometry.spectra.MOST", 30)
    found = unit_spectra(shallow(in_features=64, hidden=40), digits, "hidden,linear", inputs=["images"], **QUIET)
    assert np.isnan(found["alpha"].sel(site="hidden")).all()
    assert "more than 30 units" in str(found["note"].sel(site="hidden").item())
    assert np.isfinite(found["eigenvalues"].sel(site="linear", count="all")).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["pictures"]}, "'images' or 'noise'"),
        ({"inputs": []}, "'images' or 'noise'"),
        ({"units": [0]}, "counts of 1 or more"),
        ({"sites": "hiden"}, "hidden"),
    ],
)
def test_mistakes_are_named(options, message, network, digits):
    with pytest.raises(NetprobeError, match=message):
        unit_spectra(network, digits, **({"sites": "hidden"} | options | QUIET))
