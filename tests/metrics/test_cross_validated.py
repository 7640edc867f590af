"""Stringer's cross-validated spectrum against its definition on explicit repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tiny import ConvNet, affine, images, lookup, probed, recorded, seeded, shifted, units
from torch import nn

from netprobe.data import load
from netprobe.errors import NetprobeError
from netprobe.metrics import CrossValidatedSpectrum
from netprobe.metrics.power_law import fit

SITES = ("conv1", "conv2", "head")


def cross_validated(x1: np.ndarray, x2: np.ndarray, swaps: int, seed: int) -> np.ndarray:
    """Mean over random swaps of each image's repeats of sum (X1 P_n)(X2 P_n), P_n the principal directions of X1.

    The repeats are centred first, and again once swapped.
    """
    rng, spectra = np.random.default_rng(seed), []
    x1, x2 = x1 - x1.mean(0), x2 - x2.mean(0)
    for _ in range(swaps):
        swap = rng.integers(0, 2, len(x1)).astype(bool)[:, None]
        first, second = np.where(swap, x2, x1), np.where(swap, x1, x2)
        first, second = first - first.mean(0), second - second.mean(0)
        directions = np.linalg.svd(first, full_matrices=False)[2][: min(first.shape[1], len(first) - 1)]
        spectra.append(((first @ directions.T) * (second @ directions.T)).sum(0))
    return np.mean(spectra, 0) / np.sum(np.mean(spectra, 0))


@pytest.fixture(scope="module")
def setting():
    model, data = seeded(ConvNet).double(), images(n=30)
    repeats = shifted(data, 0.1, seed=1), shifted(data, 0.1, seed=2)
    return model, data, repeats, [recorded(model, x.double(), *SITES) for x in repeats]


@pytest.mark.parametrize("swaps", [1, 4])
def test_spectrum_by_explicit_repeats(setting, swaps):
    model, data, repeats, recordings = setting
    metric = CrossValidatedSpectrum(repeats=("a", "b"), swaps=swaps, seed=3, first=2)
    found = probed(model, data, {"a": lookup(repeats[0]), "b": lookup(repeats[1])}, metric)
    for site in SITES:
        expected = cross_validated(*(units(r[site]) for r in recordings), swaps, 3)
        one = found.sel(site=site)
        # directions of nearly equal variance mix under rounding, hence 1e-6 of the largest
        np.testing.assert_allclose(one.eigenvalues[: len(expected)], expected, rtol=1e-6, atol=1e-6 * expected[0])
        assert one.eigenvalues[len(expected) :].isnull().all()
        assert one.fit_last == len(expected)
        reference = fit(expected, 2, len(expected), "stringer")
        np.testing.assert_allclose(one.alpha, reference.alpha, rtol=1e-4)
        np.testing.assert_allclose(one.alpha_interval, (reference.low, reference.high), rtol=1e-4)


def test_which_repeat_is_called_first_does_not_matter(setting):
    model, data, repeats, _ = setting
    named = {"a": lookup(repeats[0]), "between": "gaussian:std=0.2", "b": lookup(repeats[1])}
    one, other = (
        probed(model, data, named, CrossValidatedSpectrum(repeats=pair), sites="conv2")
        for pair in (("a", "b"), ("b", "a"))
    )
    np.testing.assert_array_equal(one.eigenvalues, other.eigenvalues)


def test_identical_repeats_give_pca():
    model, data = seeded(ConvNet).double(), images(n=30)
    same = lookup(shifted(data))
    found = probed(model, data, {"a": same, "b": same}, CrossValidatedSpectrum(repeats=("a", "b"), first=1))
    for site, activations in recorded(model, shifted(data).double(), *SITES).items():
        rows = units(activations)
        expected = PCA(svd_solver="full").fit(rows).explained_variance_ratio_[: min(rows.shape[1], 29)]
        np.testing.assert_allclose(found.eigenvalues.sel(site=site)[: len(expected)], expected, rtol=1e-8, atol=1e-12)


def test_noise_does_not_count():
    """Signal in 3 of 40 directions and noise in all: PCA gives the noise variance, cross-validation about none.

    The noise shares of 100 images scatter by their variance / sqrt(100) about zero; the mean of 37 of them by a sixth.
    """
    rng = np.random.default_rng(0)
    signal = np.zeros((100, 40))
    signal[:, :3] = 0.15 * rng.choice([-1, 1], size=(100, 3))
    x = torch.tensor(0.5 + signal, dtype=torch.float32).view(100, 1, 4, 10)
    noisy = [(x + 0.05 * torch.randn(x.shape)).clamp(0, 1) for _ in range(2)]
    model = nn.Sequential(nn.Flatten(), affine(torch.eye(40)))
    data = load((x, torch.arange(100) % 2))
    metric = CrossValidatedSpectrum(repeats=("a", "b"), first=1)
    found = probed(model, data, {"a": lookup(noisy[0]), "b": lookup(noisy[1])}, metric).eigenvalues.squeeze().values
    assert (found[:3] > 0.2).all()
    noise = 0.05**2 / (3 * 0.15**2)  # share of one noise direction in a PCA
    assert abs(found[3:40].mean()) < 0.1 * noise
    assert (found[3:40] < 0).any()


@pytest.mark.parametrize("repeats", [("", ""), ("a", "a"), ("a",)])
def test_two_repeats_must_be_named(repeats):
    with pytest.raises(NetprobeError, match="name the two perturbations"):
        CrossValidatedSpectrum(repeats=repeats)


def test_repeats_must_be_perturbations_of_this_probe(setting):
    model, data, *_ = setting

    def work(*_: object, **__: object) -> None:
        raise AssertionError("work before the error")

    with pytest.raises(NetprobeError, match="unknown perturbation 'b': did you mean 'a'"):
        probed(model, data, {"a": lambda model, x, y, *, generator: work()}, CrossValidatedSpectrum(repeats=("a", "b")))
