"""Differences of spectra and gains by frequency against sums written out, on results made by hand."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from scipy import ndimage

import netprobe as npb
from netprobe import plots
from netprobe.errors import NetprobeError
from netprobe.fourier.comparison import frequency_gains, frequency_groups, spectrum_differences
from netprobe.fourier.spectra import FourierSpectrum, spectra
from netprobe.uncertainty import bootstrap_interval

N = 30
CENTROIDS = {"fog": 1.0, "contrast": 2.0, "blur": 5.0, "jpeg": 7.0, "shot": 11.0, "impulse": 13.0}
GAIN = {"fog": -0.2, "contrast": 0.0, "blur": 0.0, "jpeg": 0.2, "shot": 0.6, "impulse": 0.4}


@pytest.fixture(scope="module")
def perturbed() -> xr.DataTree:
    """White changes of one model, smooth ones of the other; image 3 resists one and image 5 the other."""
    noise = np.random.default_rng(0).normal(size=(2, N, 3, 16, 16))
    noise[1] = ndimage.gaussian_filter(noise[1], (0, 0, 1, 1), mode="wrap")
    noise[0, 3] = noise[1, 5] = 0
    found = {}
    for name, delta in zip(("plain", "smooth"), noise, strict=True):
        accumulated = FourierSpectrum()
        accumulated.update(torch.from_numpy(delta), range(N))
        found[f"/{name}/perturbation_spectrum"] = spectra({"boundary": accumulated})
    return xr.DataTree.from_dict(found)


def test_differences_are_paired_over_images_that_both_changed(perturbed):
    found = spectrum_differences(perturbed)["smooth/spectrum_difference"].isel(perturbation=0)
    first, other = (perturbed[m]["perturbation_spectrum"].isel(perturbation=0) for m in ("plain", "smooth"))
    for name in ("ring_energy", "low_frequency_share", "centroid"):
        difference = other[f"{name}_image"].values - first[f"{name}_image"].values
        kept = np.delete(difference, [3, 5], -1)
        np.testing.assert_allclose(found[name], kept.mean(-1), atol=1e-14)
        np.testing.assert_allclose(found[f"{name}_interval"], bootstrap_interval(difference))
    assert found["images"] == N - 2
    np.testing.assert_allclose(found["log_spectrum"], other["log_spectrum"] - first["log_spectrum"])


def test_coarser_changes_show(perturbed):
    found = spectrum_differences(perturbed)["smooth/spectrum_difference"].to_dataset().isel(perturbation=0)
    assert (found.low_frequency_share_interval.sel(bound="low") > 0).all()
    assert found.centroid_interval.sel(bound="high") < 0
    assert (
        found.log_spectrum.sel(frequency_x=-8, frequency_y=-8)
        < 0
        < found.log_spectrum.sel(frequency_x=0, frequency_y=0)
    )
    back = spectrum_differences(perturbed, "smooth")["plain/spectrum_difference"].to_dataset().isel(perturbation=0)
    np.testing.assert_allclose(back.ring_energy, -found.ring_energy)


def test_the_ring_energies_of_an_image_add_up_to_one(perturbed):
    rings = perturbed["plain/perturbation_spectrum"]["ring_energy_image"].sum("radius", skipna=False).values.ravel()
    np.testing.assert_allclose(np.delete(rings, 3), 1)
    assert np.isnan(rings[3])


def test_thirds_by_rank():
    assert frequency_groups(np.array([3.0, 1, 2, 9, 8, 7])).tolist() == [
        "medium",
        "low",
        "low",
        "high",
        "high",
        "medium",
    ]
    assert frequency_groups(np.arange(5.0)).tolist() == ["low", "medium", "medium", "medium", "high"]
    assert frequency_groups(np.arange(15.0)).tolist() == ["low"] * 5 + ["medium"] * 5 + ["high"] * 5
    assert frequency_groups(np.arange(2.0)).tolist() == ["medium"] * 2


def evaluation(severities=(1, 3), names=tuple(GAIN)) -> xr.DataTree:
    rng, found = np.random.default_rng(1), {}
    base = (rng.random((len(names), len(severities), N)) < 0.7).mean(1)
    for model in ("plain", "robust"):
        shift = np.array([GAIN[name] for name in names])[:, None] * (model == "robust")
        found[f"/{model}/corruptions"] = xr.Dataset(
            {"error_image": (("corruption", "image"), base - shift)},
            {"corruption": list(names), "severity": list(severities), "image": np.arange(N)},
        )
    return xr.DataTree.from_dict(found)


def centroids(names=tuple(CENTROIDS)) -> xr.Dataset:
    """Of two severities each, around the mean."""
    values = [CENTROIDS[name] + off for name in names for off in (-0.5, 0.5)]
    return xr.Dataset(
        {"centroid": ("perturbation", values)},
        {"perturbation": [f"{n}@{k}" for n in names for k in (1, 3)],
         "family": ("perturbation", [n for n in names for _ in (1, 3)])},
    )  # fmt: skip


def test_gains_by_group():
    data = frequency_gains(evaluation(), centroids())["robust/frequency_gains"].to_dataset()
    assert data.attrs["baseline"] == "plain"
    np.testing.assert_allclose(data.gain, list(GAIN.values()), atol=1e-12)
    np.testing.assert_allclose(data.centroid, list(CENTROIDS.values()))
    assert data.frequency_group.values.tolist() == ["low", "low", "medium", "medium", "high", "high"]
    np.testing.assert_allclose(data.group_gain.sel(group=["low", "medium", "high"]), [-0.1, 0.1, 0.5], atol=1e-12)
    np.testing.assert_allclose(data.gain_interval.sel(corruption="shot"), 0.6, atol=1e-12)
    assert data.members.values.tolist() == [2, 2, 2]


def test_gains_of_real_tables_and_spectra(tmp_path):
    """Evaluated and measured corruptions are matched by their family."""
    x = torch.rand(12, 3, 16, 16)
    data = npb.data.load((x, torch.arange(12) % 3))

    class Mean(torch.nn.Module):
        def __init__(self, channel: int) -> None:
            super().__init__()
            self.channel = channel

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[:, (self.channel + k) % 3].mean((1, 2)) for k in range(3)], 1)

    names = {f"{n}@{s}": f"{n}:severity={s}" for n in ("brightness", "gaussian_noise", "gaussian_blur") for s in (1, 3)}
    tree = npb.evaluate({"a": Mean(0), "b": Mean(1)}, data, names, doubts=False, preflight=False, progress=False)
    measured = npb.perturbation_spectra(None, data, names, progress=False)
    found = frequency_gains(tree, measured)["b/frequency_gains"].to_dataset()
    order = found.frequency_group.to_series().to_dict()
    assert order["brightness"] == "low" and set(order.values()) == {"low", "medium", "high"}
    error = [tree[m]["corruptions"]["error"].values for m in "ab"]
    np.testing.assert_allclose(found.gain, error[0] - error[1], atol=1e-12)
    npb.save_results(kept := xr.DataTree.from_dict({"/b/frequency_gains": found}), tmp_path / "gains.nc")
    xr.testing.assert_identical(npb.open_results(tmp_path / "gains.nc"), kept)


def test_what_cannot_be_compared(perturbed):
    with pytest.raises(NetprobeError, match="of 2 models or more; there is that of none"):
        spectrum_differences(evaluation())
    with pytest.raises(NetprobeError, match="unknown baseline 'plian': did you mean 'plain'"):
        frequency_gains(evaluation(), centroids(), "plian")
    with pytest.raises(NetprobeError, match="unknown corruption 'impulse'"):
        frequency_gains(evaluation(), centroids(tuple(CENTROIDS)[:5]))
    other = evaluation()
    other["robust/corruptions"] = xr.DataTree(evaluation((1, 5))["robust/corruptions"].to_dataset())
    with pytest.raises(NetprobeError, match="'robust' has other severity values than 'plain'"):
        frequency_gains(other, centroids())


def test_plots_show_the_numbers(perturbed, tmp_path):
    gains = frequency_gains(evaluation(), centroids())
    ax = plots.plot_frequency_gains(gains)
    (points,) = [line for line in ax.lines if line.get_label() == "robust"]
    np.testing.assert_allclose(
        points.get_xydata(), np.stack([list(CENTROIDS.values()), list(GAIN.values())], 1), atol=1e-9
    )
    assert {text.get_text() for text in ax.texts} == set(GAIN)
    maps = plots.plot_spectrum_maps(perturbed)
    assert [panel.get_title("left") for panel in maps.child_axes] == ["plain", "smooth", "smooth − plain"]
    for panel, model in zip(maps.child_axes, ("plain", "smooth"), strict=False):
        np.testing.assert_array_equal(
            panel.images[0].get_array(), perturbed[model]["perturbation_spectrum"]["log_spectrum"][0]
        )
    plots.save(maps, tmp_path / "maps.svg"), plots.save(ax, tmp_path / "gains.svg")


def test_names_of_like_corruptions_stand_apart_below_all_points():
    gains = frequency_gains(evaluation(), centroids())
    for name in gains.children:
        close = gains[name]["frequency_gains"].to_dataset()
        close["centroid"] = close["centroid"] * 0 + [1.0, 1.0, 12.9, 13.0, 13.0, 13.0]
        gains[name]["frequency_gains"] = xr.DataTree(close)
    with plots.style():
        figure, ax = plt.subplots(figsize=(3.7, 4))
    plots.plot_frequency_gains(gains, ax=ax)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert all(not one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and ax.bbox.y0 <= box.y0 for box in boxes)
    lowest = min(min(line.get_ydata()) for line in ax.lines if line.get_linestyle() == "None")
    assert max(box.y1 for box in boxes) < ax.transData.transform((0, lowest))[1]


def test_whiskers_of_two_models_are_beside_each_other():
    gains = frequency_gains(evaluation(), centroids())
    (name,) = gains.children
    twice = {"a": gains[name]["frequency_gains"].to_dataset(), "b": gains[name]["frequency_gains"].to_dataset()}
    ax = plots.plot_frequency_gains(twice)
    ax.figure.canvas.draw()
    first, other = (line for line in ax.lines if line.get_linestyle() == "None")
    moved = [line.get_transform().transform(line.get_xydata()) for line in (first, other)]
    apart = (moved[1] - moved[0])[:, 0] * 72 / ax.figure.dpi
    np.testing.assert_allclose(apart, 3)
    assert ax.get_ylim()[1] > float(twice["a"]["gain_interval"].max())
