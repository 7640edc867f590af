"""Eigenspectra against numpy's covariance and scikit-learn's PCA of all activations at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tiny import ConvNet, affine, channel_rows, images, lookup, probed, recorded, seeded, shifted, units
from torch import nn

from netprobe.data import load
from netprobe.errors import NetprobeError
from netprobe.metrics import Spectrum
from netprobe.metrics.power_law import fit, fit_range
from netprobe.uncertainty import jackknife_interval

EVERY = ("channel", "pooled", "unit")
ROWS = {
    "channel": channel_rows,
    "pooled": lambda a: a.reshape(*a.shape[:2], -1).mean(-1).astype(np.float64),
    "unit": units,
}


def eigenvalues(rows: np.ndarray) -> np.ndarray:
    """Of the unbiased covariance of the rows, descending, by numpy on the whole matrix."""
    return np.linalg.eigvalsh(np.atleast_2d(np.cov(rows, rowvar=False)))[::-1]


@pytest.fixture(scope="module")
def setting():
    """Sites of 84, 36 and 4 units, 40 images: both fewer and more images than units."""
    model, data = seeded(ConvNet).double(), images(n=40)
    other = shifted(data)
    both = [recorded(model, x.double(), "conv1", "conv2", "head") for x in (data.inputs, other)]
    found = probed(model, data, lookup(other), Spectrum(definitions=EVERY, first=1))
    return model, data, other, both, found


@pytest.mark.parametrize("definition", EVERY)
@pytest.mark.parametrize("site", ["conv1", "conv2", "head"])
def test_eigenvalues_are_those_of_the_whole_covariance(setting, definition, site):
    *_, both, found = setting
    for condition, activations in enumerate(both):
        rows = ROWS[definition](activations[site])
        expected = eigenvalues(rows)[: len(rows) - 1]
        one = found.eigenvalues.sel(definition=definition, site=site).isel(condition=condition).values
        n = len(expected)
        np.testing.assert_allclose(one[:n], expected, rtol=1e-10, atol=1e-12 * expected[0])
        assert np.isnan(one[n:]).all() or (definition == "unit" and np.nanmax(one[n:]) < 1e-12 * expected[0])


@pytest.mark.parametrize("definition", EVERY)
@pytest.mark.parametrize("site", ["conv1", "head"])
def test_eigenvalues_are_those_of_scikit_learns_pca(setting, definition, site):
    *_, (clean, _), found = setting
    rows = ROWS[definition](clean[site])
    expected = PCA(svd_solver="full").fit(rows).explained_variance_[: min(rows.shape[1], len(rows) - 1)]
    one = found.eigenvalues.sel(definition=definition, site=site, condition="clean").values[: len(expected)]
    np.testing.assert_allclose(one, expected, rtol=1e-9, atol=1e-12 * expected[0])


def test_derived_numbers(setting):
    *_, found = setting
    for definition in EVERY:
        for site in ("conv1", "conv2", "head"):
            one = found.sel(definition=definition, site=site, condition="clean")
            values = one.eigenvalues.values[np.isfinite(one.eigenvalues.values)]
            rank = int((values > 64 * np.finfo(float).eps * values[0]).sum())
            assert one.rank_numeric == rank
            np.testing.assert_allclose(one.participation_ratio, values.sum() ** 2 / (values**2).sum(), rtol=1e-12)
            expected = fit(values, *fit_range(rank, 1))
            for name in ("alpha", "r2", "log_prefactor"):
                np.testing.assert_allclose(one[name], getattr(expected, name), rtol=1e-12)
            np.testing.assert_allclose(one.alpha_interval, (expected.low, expected.high), rtol=1e-12)
            assert (one.fit_first, one.fit_last) == (1, rank)
            assert one.alpha.isnull() or one.alpha_band[0] <= one.alpha <= one.alpha_band[1]


def test_numerical_rank_stops_at_what_the_data_can_span(setting):
    *_, found = setting
    rank = found.rank_numeric.sel(condition="clean")
    assert rank.sel(definition="unit").values.tolist() == [39, 36, 4]  # 40 images of 84, 36 and 4 units
    assert rank.sel(definition="channel").values.tolist() == [7, 6, 4]


def test_eigenvalues_sum_to_the_variance(setting):
    *_, (clean, _), found = setting
    total = found.eigenvalues.sel(definition="unit", condition="clean", site="conv1").sum()
    np.testing.assert_allclose(total, units(clean["conv1"]).var(0, ddof=1).sum(), rtol=1e-12)


def test_eigenvalues_grow_with_the_square_of_the_activations(setting):
    _, data, other, _, found = setting
    scaled = seeded(ConvNet).double()
    scaled.conv1.weight.data *= 30
    scaled.conv1.bias.data *= 30
    new = probed(scaled, data, lookup(other), Spectrum(definitions=EVERY, first=1)).sel(site="conv1")
    old = found.sel(site="conv1")
    np.testing.assert_allclose(new.eigenvalues.fillna(0)[..., :40], 900 * old.eigenvalues.fillna(0)[..., :40],
                               rtol=1e-9, atol=1e-9)  # fmt: skip
    np.testing.assert_allclose(new.alpha, old.alpha, rtol=1e-9)
    np.testing.assert_allclose(new.participation_ratio, old.participation_ratio, rtol=1e-9)
    np.testing.assert_allclose(new.log_prefactor, old.log_prefactor + np.log10(900), rtol=1e-9)


def test_rotating_the_units_changes_nothing():
    weight = torch.randn(20, 90, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    spectra = [
        probed(nn.Sequential(nn.Flatten(), affine(w)), images(n=40), "gaussian:std=0.1", Spectrum(definitions=EVERY))
        for w in (weight, rotation @ weight)
    ]
    np.testing.assert_allclose(spectra[1].eigenvalues, spectra[0].eigenvalues, rtol=1e-9, atol=1e-12)


def test_on_a_layer_without_locations_all_definitions_are_one(setting):
    *_, found = setting
    head = found.eigenvalues.sel(site="head")[..., :4]
    for definition in ("pooled", "unit"):
        np.testing.assert_allclose(head.sel(definition=definition), head.sel(definition="channel"), rtol=1e-10)


def test_participation_ratio_of_equal_variances():
    """k independent units of one variance: k (1 - k / N) or so from finite samples; here exactly orthogonal: k."""
    x = torch.zeros(8, 1, 2, 4)
    x.flatten(1)[torch.arange(8), torch.arange(8)] = (
        1  # unit vectors: covariance (I - 1/8) / 7, seven equal eigenvalues
    )
    data = load((x, torch.arange(8) % 2))
    model = nn.Sequential(nn.Flatten(), affine(torch.eye(8)))
    found = probed(model, data, "gaussian:std=0.1", Spectrum(definitions=("unit",)))
    assert found.participation_ratio.sel(condition="clean").item() == pytest.approx(7)


class PowerLaws(nn.Module):
    """Rotated layers whose units have variances n^-alpha on white-noise inputs."""

    def __init__(self, size: int, alphas: tuple[float, ...]) -> None:
        super().__init__()
        for i, alpha in enumerate(alphas):
            rotation, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
            variances = torch.arange(1, size + 1, dtype=torch.float64) ** -alpha
            self.add_module(f"law{i}", affine(rotation * variances.sqrt()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(layer(x.flatten(1)) for layer in self.children())


def test_alpha_of_a_synthetic_power_law():
    """5000 images of 100 white pixels; sampling spreads the eigenvalues, which moves alpha by less than 0.05."""
    alphas = (0.5, 1.0, 2.0)
    data = load((torch.rand(5000, 1, 10, 10), torch.arange(5000) % 2))
    found = probed(PowerLaws(100, alphas), data, "uniform:eps=0.01", Spectrum(definitions=("channel",)))
    np.testing.assert_allclose(found.alpha.sel(definition="channel", condition="clean"), alphas, atol=0.05)
    assert (found.r2 > 0.97).all()
    assert (found.fit_first == 11).all() and (found.fit_last == 100).all()


@pytest.mark.parametrize("definitions", [("channel",), ("unit",), EVERY])
@pytest.mark.parametrize("n", [20, 40])
def test_jackknife_leaves_out_block_by_block(definitions, n):
    """20 images make seven blocks of three, 40 eight of five."""
    model, data = seeded(ConvNet, width=9).double(), images(n=n)
    metric = Spectrum(definitions=definitions, first=1, jackknife=True)
    found = probed(model, data, "gaussian:std=0.1", metric).sel(condition="clean")
    block = -(-n // 8)
    for site, activations in recorded(model, data.inputs.double(), "conv1", "conv2").items():
        for definition in definitions:

            def alpha(kept: np.ndarray, activations=activations, definition=definition) -> float:
                rows = ROWS[definition](activations[kept])
                spectrum = eigenvalues(rows)[: len(rows) - 1]
                rank = (spectrum > 64 * np.finfo(float).eps * spectrum[0]).sum()
                return fit(spectrum, *fit_range(int(rank), 1)).alpha

            left_out = [alpha(np.delete(np.arange(n), slice(s, s + block))) for s in range(0, n, block)]
            expected = jackknife_interval(np.array(alpha(np.arange(n))), np.array(left_out))
            one = found.alpha_jackknife.sel(site=site, definition=definition)
            np.testing.assert_allclose(one, expected, rtol=1e-8)


def test_without_a_jackknife_its_interval_is_undefined(setting):
    *_, found = setting
    assert found.alpha_jackknife.isnull().all()


def test_ranks_and_weights_asked_for(setting):
    model, data, other, _, found = setting
    metric = Spectrum(definitions=("unit",), first=3, last=20, weighting="stringer")
    one = probed(model, data, lookup(other), metric).sel(site="conv1", condition="clean", definition="unit")
    spectrum = found.eigenvalues.sel(site="conv1", condition="clean", definition="unit").values
    assert one.alpha.item() == pytest.approx(fit(spectrum, 3, 20, "stringer").alpha)
    assert (one.fit_first, one.fit_last) == (3, 20)


def test_floor_bounds_the_fit(setting):
    model, data, other, _, found = setting
    one = probed(model, data, lookup(other), Spectrum(definitions=("unit",), floor=0.1, first=1))
    spectrum = found.eigenvalues.sel(site="conv1", condition="clean", definition="unit").values
    expected = (spectrum > 0.1 * spectrum[0]).sum()
    assert 5 < expected < 39
    assert one.rank_numeric.sel(site="conv1", condition="clean", definition="unit") == expected
    assert one.fit_last.sel(site="conv1", condition="clean", definition="unit") == expected


def test_a_constant_layer_has_no_law():
    model = seeded(ConvNet).double()
    model.conv2.weight.data.zero_()
    found = probed(model, images(), "gaussian:std=0.1", Spectrum(definitions=EVERY), sites="conv2")
    assert (found.eigenvalues.fillna(0) == 0).all() and (found.rank_numeric == 0).all()
    assert found.alpha.isnull().all() and found.participation_ratio.isnull().all()


def test_one_image_has_no_spectrum():
    found = probed(seeded(ConvNet), images(n=1), "gaussian:std=0.1", Spectrum(definitions=EVERY))
    assert found.eigenvalues.sel(definition=["pooled", "unit"]).isnull().all()
    found = probed(seeded(ConvNet), images(n=1), "gaussian:std=0.1", Spectrum(definitions=("unit",)))
    assert found.eigenvalues.sizes["rank"] == 0 and found.alpha.isnull().all()


@pytest.mark.parametrize("memory", ["20KB", "60KB"])
def test_a_small_budget_takes_more_passes_and_changes_nothing(setting, memory):
    """One unit of 40 images under 2 conditions takes 640 bytes in float64: 31 or 93 of 124 units a pass."""
    model, data, other, _, found = setting
    sliced = probed(model, data, lookup(other), Spectrum(definitions=("unit",), first=1), memory=memory)
    expected = found.eigenvalues.sel(definition=["unit"]).dropna("rank", how="all")
    # slices add up in another order
    np.testing.assert_allclose(sliced.eigenvalues, expected, rtol=1e-9, atol=1e-13 * float(expected.max()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"definitions": ("units",)}, "unknown spectrum definition 'units': did you mean 'unit'"),
        ({"weighting": "wls"}, "unknown weighting 'wls'"),
        ({"first": 0}, r"cannot fit ranks 0..500"),
        ({"first": 20, "last": 20}, r"cannot fit ranks 20..20"),
        ({"at": "inside"}, "neither 'output' nor 'input'"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(NetprobeError, match=message):
        Spectrum(**settings)
