"""Spectra of perturbations: a loop over frequencies, waves, noise and blur, and the laws of streaming results."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import ndimage
from tiny import ConvNet, images

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.fourier.spectra import FourierSpectrum, perturbation_spectra, radii, spectra
from netprobe.perturb import FGSM, PGD, GaussianNoise
from netprobe.perturb.corruptions import BENCHMARK


def of(delta: np.ndarray | torch.Tensor) -> xr.Dataset:
    accumulated = FourierSpectrum()
    accumulated.update(torch.as_tensor(delta), range(len(delta)))
    return accumulated.results()


def slow_transform(channel: np.ndarray) -> np.ndarray:
    """F(k, l) = sum_{y, x} delta(y, x) exp(-2 pi i (k y / H + l x / W)), for k in -H/2, ..., and l alike."""
    height, width = channel.shape
    down, right = (range(-(size // 2), (size + 1) // 2) for size in (height, width))
    return np.array([[sum(channel[y, x] * cmath.exp(-2j * math.pi * (k * y / height + m * x / width))
                          for y in range(height) for x in range(width)) for m in right] for k in down])  # fmt: skip


def test_every_number_is_its_definition():
    delta = np.random.default_rng(0).normal(size=(4, 2, 6, 5))
    results = of(delta)
    assert results["frequency_y"].values.tolist() == [-3, -2, -1, 0, 1, 2]
    assert results["frequency_x"].values.tolist() == [-2, -1, 0, 1, 2]
    pictures, rings, centroids = [], [], []
    for image in delta:
        amplitudes = np.array([np.abs(slow_transform(channel)) for channel in image])
        amplitude, power = amplitudes.mean(0), (amplitudes**2).mean(0)
        assert power.sum() == pytest.approx(30 * (image**2).sum((1, 2)).mean())  # Parseval
        pictures.append(amplitude / amplitude.sum())
        shares = np.zeros(5)
        for i, k in enumerate((-3, -2, -1, 0, 1, 2)):
            for j, m in enumerate((-2, -1, 0, 1, 2)):
                shares[int(5 * math.hypot(k / 6, m / 5) + 1e-9)] += power[i, j] / power.sum()
        rings.append(shares[:4])
        assert shares[4] == 0
        distance = 5 * np.hypot(np.arange(-3, 3)[:, None] / 6, np.arange(-2, 3) / 5)
        centroids.append((distance * power).sum() / power.sum())
    np.testing.assert_allclose(results["spectrum"], np.mean(pictures, 0), rtol=1e-10)
    np.testing.assert_allclose(results["log_spectrum"], np.log10(np.mean(pictures, 0)), rtol=1e-10)
    np.testing.assert_allclose(results["ring_energy"], np.mean(rings, 0), rtol=1e-10)
    np.testing.assert_allclose(results["centroid_image"], centroids, rtol=1e-10)
    assert results["centroid"].item() == pytest.approx(np.mean(centroids))


def test_radii_are_cycles_per_shorter_side():
    square, wide = radii(32, 32), radii(16, 32)
    assert (square[0, 5], square[3, 4], square[0, -5], square[16, 16].floor()) == (5, 5, 5, 22)
    assert (wide[4, 0], wide[0, 8], wide[0, 16]) == (4, 4, 8)
    assert all(radii(side, side)[3, 4] == 5 for side in range(9, 300))  # whatever 3 / side and 4 / side round to


def test_a_wave_is_one_ring():
    x = torch.arange(32) / 32
    wave = torch.cos(2 * math.pi * (3 * x[:, None] + 4 * x)).expand(2, 3, 32, 32)
    results = of(wave)
    assert results["ring_energy"].values == pytest.approx(np.eye(23)[5])
    assert results["centroid"].item() == pytest.approx(5)
    assert results["low_frequency_share"].sel(cutoff=[4, 8]).values == pytest.approx([0, 1])
    slow = of(torch.cos(2 * math.pi * 4 * x).expand(2, 3, 32, 32))
    assert slow["low_frequency_share"].sel(cutoff=4).item() == pytest.approx(1)
    assert np.argwhere(results["spectrum"].values > 0.4).tolist() == [[13, 12], [19, 20]]


def test_white_noise_is_flat():
    """Means of 200 images x 3 channels: of a ring of n frequencies, at most (2 / (600 n))^0.5 is the standard error."""
    results = of(np.random.default_rng(1).normal(size=(200, 3, 32, 32)))
    frequencies = np.bincount(radii(32, 32).int().flatten().numpy())
    assert (np.abs(results["profile"].values - 1) < 4 * np.sqrt(2 / (600 * frequencies))).all()
    low, high = results["profile_interval"].values.T
    assert ((low < 1) & (high > 1)).mean() > 0.8
    assert results["spectrum"].values == pytest.approx(np.full((32, 32), 1 / 1024), rel=0.35)
    assert results["ring_energy"].sum().item() == pytest.approx(1)


def test_blurred_noise_falls_with_frequency():
    noise = np.random.default_rng(2).normal(size=(50, 1, 32, 32))
    blurred = of(ndimage.gaussian_filter(noise, (0, 0, 1, 1), mode="wrap"))
    assert (np.diff(blurred["profile"].values) < 0).all()
    assert blurred["centroid"].item() < of(noise)["centroid"].item() / 2
    assert (blurred["low_frequency_share"] > of(noise)["low_frequency_share"]).all()


def test_the_size_of_a_perturbation_does_not_count():
    delta = np.random.default_rng(3).normal(size=(6, 3, 8, 8))
    scaled = delta * np.array([1e-6, 1, 3, 1e3, -1, 0.1])[:, None, None, None]
    xr.testing.assert_allclose(of(delta), of(scaled), rtol=1e-9)


def test_images_that_did_not_change_are_left_out():
    delta = np.random.default_rng(4).normal(size=(5, 3, 8, 8))
    delta[2] = 0
    with_zero, without = of(delta), of(np.delete(delta, 2, 0))
    assert with_zero["changed"] == 4 and np.isnan(with_zero["centroid_image"].values).tolist() == [0, 0, 1, 0, 0]
    for name in ("spectrum", "ring_energy", "centroid", "low_frequency_share"):
        np.testing.assert_allclose(with_zero[name], without[name], rtol=1e-12)


def test_nothing_changed_at_all_is_undefined():
    results = of(torch.zeros(3, 1, 8, 8))
    assert results["changed"] == 0
    assert all(results[name].isnull().all() for name in ("spectrum", "ring_energy", "profile", "centroid"))


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=str)
def test_batches_order_and_merging_do_not_matter(order):
    delta = torch.randn(10, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    parts = []
    for rows in (torch.arange(0, 3), torch.arange(3, 4), torch.arange(4, 10)):
        parts.append(FourierSpectrum())
        parts[-1].update(delta[rows], rows)
    total = FourierSpectrum().merge(FourierSpectrum())
    for k in order:
        total.merge(parts[k])
    xr.testing.assert_allclose(total.results(), of(delta), rtol=1e-12)


def test_what_does_not_fit_is_refused():
    accumulated = FourierSpectrum()
    with pytest.raises(NetprobeError, match="no perturbation was given"):
        accumulated.results()
    with pytest.raises(NetprobeError, match=r"images \(N, C, H, W\), not of \(2, 8\)"):
        accumulated.update(torch.zeros(2, 8), [0, 1])
    accumulated.update(torch.ones(1, 1, 8, 8), [0])
    with pytest.raises(NetprobeError, match=r"one size: \(8, 8\) until now, here \(8, 9\)"):
        accumulated.update(torch.ones(1, 1, 8, 9), [1])
    with pytest.raises(NetprobeError, match="no perturbations given"):
        perturbation_spectra(None, images(4), [], progress=False)


def gathered(models=None, batch_size: int = 128, **perturbations) -> xr.DataTree:
    named = perturbations or {"noise": GaussianNoise(0.1), "fog": "fog:severity=2"}
    return npb.perturbation_spectra(models, images(20, (3, 12, 10)), named, batch_size=batch_size, progress=False)


def test_a_tree_of_models_like_that_of_a_probe():
    nets = {"a": ConvNet(), "b": ConvNet(offset=1.0)}
    tree = gathered(nets, attack=FGSM(8 / 255), noise=GaussianNoise(0.1))
    results = tree["b/perturbation_spectrum"].to_dataset()
    assert results["perturbation"].values.tolist() == ["attack", "noise"]
    assert results["family"].values.tolist() == ["FGSM", "Gaussian noise"]
    assert results["eps"].values == pytest.approx([8 / 255, 0.1])
    a = tree["a/perturbation_spectrum"].to_dataset()
    assert a.sel(perturbation="noise").equals(results.sel(perturbation="noise"))
    assert not a.sel(perturbation="attack").equals(results.sel(perturbation="attack"))
    for name, values in results.data_vars.items():
        assert {"long_name", "units", "definition"} <= set(values.attrs), name


def test_the_delta_is_that_of_the_perturbation():
    data, net = images(6, (3, 12, 10)), ConvNet().eval()
    tree = perturbation_spectra(net, data, {"attack": FGSM(8 / 255)}, progress=False)
    delta = FGSM(8 / 255)(net, data.inputs, data.labels, generator=None).double() - data.inputs.double()
    xr.testing.assert_allclose(
        tree["ConvNet/perturbation_spectrum"].to_dataset().sel(perturbation="attack", drop=True), of(delta)
    )


def test_batches_do_not_change_the_results_and_seeds_do():
    one, many = (gathered(batch_size=size)["any model/perturbation_spectrum"].to_dataset() for size in (20, 3))
    xr.testing.assert_allclose(one, many, rtol=1e-5)  # fog of another batch differs by float32 roundings
    other = npb.perturbation_spectra(None, images(20, (3, 12, 10)), GaussianNoise(0.1), seed=1, progress=False)
    noise = other["any model/perturbation_spectrum"]["ring_energy"].values
    assert not np.array_equal(noise[0], one["ring_energy"].sel(perturbation="noise"))


def test_names_have_streams_of_their_own_and_sweeps_share_one():
    named = {name: GaussianNoise(0.1) for name in ("a", "b", "c@1", "c@2")}
    results = gathered(**named)["any model/perturbation_spectrum"]["centroid"].values
    assert len(set(results)) == 3 and results[2] == results[3]


def test_a_model_is_left_as_found():
    net = ConvNet().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gathered(net, attack=PGD(8 / 255, steps=2))
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_results_are_kept_in_a_file(tmp_path):
    npb.save_results(tree := gathered(), tmp_path / "spectra.nc")
    xr.testing.assert_identical(npb.open_results(tmp_path / "spectra.nc"), tree)


def test_stored_perturbations_need_no_callable():
    accumulated = FourierSpectrum()
    accumulated.update(torch.randn(3, 3, 8, 8), [4, 7, 9])
    results = spectra({"boundary attack": accumulated})
    assert results["family"].values.tolist() == ["boundary attack"] and np.isnan(results["eps"].values).all()
    assert results["image"].values.tolist() == [4, 7, 9]


def test_corruptions_group_by_their_centroids():
    """Fog, brightness and contrast are coarse, noises are fine; shown on smooth images."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((20, 3, 32, 32)), (0, 0, 3, 3), mode="wrap")
    x = torch.from_numpy((smooth - smooth.min()) / np.ptp(smooth)).float()
    data = npb.data.load((x, torch.arange(20) % 4))
    tree = perturbation_spectra(None, data, [f"{name}:severity=3" for name in BENCHMARK], progress=False)
    centroid = tree["any model/perturbation_spectrum"]["centroid"]
    coarse = centroid.sel(perturbation=["fog", "brightness", "contrast"]).max()
    fine = centroid.sel(perturbation=["gaussian_noise", "shot_noise", "impulse_noise"]).min()
    assert coarse < 3 < 10 < fine
