"""What the spectra of perturbations tell of two networks: where theirs differ, and which corruptions one withstands."""

from __future__ import annotations

import numpy as np
import xarray as xr

from netprobe.errors import NetprobeError, unknown
from netprobe.fourier.spectra import NODE
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import bootstrap_interval

DIFFERENCE, GAINS = "spectrum_difference", "frequency_gains"
GROUPS = ("low", "medium", "high")
PER_IMAGE = {"ring_energy": "radius", "low_frequency_share": "cutoff", "centroid": ""}


def spectrum_differences(spectra: xr.DataTree, baseline: str | None = None) -> xr.DataTree:
    """How the perturbations of each model differ in frequency from those of `baseline`, image by image.

    Parameters
    ----------
    spectra : what `npb.perturbation_spectra` returns of two models or more, for example under a minimum-norm attack
    baseline : a model's name; None is the first

    Returns
    -------
    DataTree /model/spectrum_difference for the other models: ring_energy (perturbation, radius), low_frequency_share
    (perturbation, cutoff) and centroid (perturbation), each the mean over images that both models' perturbations
    changed of the model's value minus the baseline's, with 95 % bootstrap intervals over images; log_spectrum
    (perturbation, frequency_y, frequency_x), the difference of log10 of the two mean spectra; `images`, how many were
    compared. A positive low_frequency_share: the model has to be attacked with coarser changes.
    """
    models = _having(spectra, NODE)
    baseline = _chosen(baseline, models)
    first = spectra[baseline][NODE].to_dataset()
    return xr.DataTree.from_dict(
        {
            f"/{name}/{DIFFERENCE}": _difference(spectra[name][NODE].to_dataset(), first, name, baseline)
            for name in models
            if name != baseline
        }
    )


def frequency_gains(
    evaluation: xr.DataTree, spectra: xr.DataTree | xr.Dataset | None = None, baseline: str | None = None
) -> xr.DataTree:
    """Accuracy that each model gains over `baseline` under corruptions of low, medium and high frequency.

    Parameters
    ----------
    evaluation : what `npb.evaluate` returns of two models or more under common corruptions
    spectra : what `npb.perturbation_spectra(None, data, corruptions)` returns, or its Dataset; its perturbations are
        matched by their family, whatever their severities. None takes what `npb.evaluate(..., spectra=True)` measured
    baseline : a model's name; None is the first

    Returns
    -------
    DataTree /model/frequency_gains for the other models: centroid (corruption), in cycles per image, mean over
    severities; group (corruption), "low", "medium" or "high", thirds of the corruptions by centroid; gain (corruption)
    and group_gain (group), accuracy minus that of the baseline, mean over severities (and the corruptions of the
    group), with 95 % bootstrap intervals over images, which are the same for both models. Positive: better than the
    baseline.
    """
    models = _having(evaluation, "corruptions")
    baseline = _chosen(baseline, models)
    first = evaluation[baseline]["corruptions"].to_dataset()
    centroid = _measured(first) if spectra is None else _centroids(spectra, first["corruption"].values)
    return xr.DataTree.from_dict(
        {
            f"/{name}/{GAINS}": _gains(evaluation[name]["corruptions"].to_dataset(), first, centroid, name, baseline)
            for name in models
            if name != baseline
        }
    )


def frequency_groups(centroids: np.ndarray) -> np.ndarray:
    """ "low", "medium" or "high" for each centroid: thirds by rank, the middle one the larger where they are uneven."""
    rank, third = np.argsort(np.argsort(centroids, kind="stable")), len(centroids) // 3
    return np.array(GROUPS)[np.where(rank < third, 0, np.where(rank >= len(centroids) - third, 2, 1))]


def _difference(data: xr.Dataset, first: xr.Dataset, name: str, baseline: str) -> xr.Dataset:
    _same(data, first, ("perturbation", "image", "radius"), name, baseline)
    found = {}
    for quantity, dim in PER_IMAGE.items():
        values = (data[f"{quantity}_image"] - first[f"{quantity}_image"]).transpose("perturbation", ..., "image").values
        like, dims = data[quantity].attrs, f"perturbation {dim}".strip()
        about = (
            f"{like['long_name']}, difference from {baseline}",
            like["units"],
            "mean over images of the difference",
        )
        found[quantity] = variable(dims, _mean(values), *about)
        how = "percentile bootstrap over images"
        found[f"{quantity}_interval"] = interval(dims, bootstrap_interval(values), found[quantity], how)
    pictures = data["log_spectrum"] - first["log_spectrum"]
    found["log_spectrum"] = variable(
        "perturbation frequency_y frequency_x",
        pictures.transpose("perturbation", "frequency_y", "frequency_x").values,
        f"log10 of the ratio to the spectrum of {baseline}",
        "1",
        "difference of log10 of the mean spectra",
    )
    compared = np.isfinite(data["centroid_image"] - first["centroid_image"]).sum("image").values
    found["images"] = variable("perturbation", compared, "images compared", "images", "changed by both")
    kept = {k: v for k, v in data.coords.items() if k != "image"}
    return xr.Dataset(found, kept, {"baseline": baseline})


def _gains(data: xr.Dataset, first: xr.Dataset, centroid: np.ndarray, name: str, baseline: str) -> xr.Dataset:
    _same(data, first, ("corruption", "severity", "image"), name, baseline)
    gains = (first["error_image"] - data["error_image"]).transpose("corruption", "image").values
    group = frequency_groups(centroid)
    grouped = np.stack(
        [gains[group == each].mean(0) if (group == each).any() else gains[0] * np.nan for each in GROUPS]
    )
    found = {}
    for dim, quantity, values in (("corruption", "gain", gains), ("group", "group_gain", grouped)):
        how = "accuracy minus that of the baseline, mean over severities" + ", then corruptions" * (dim == "group")
        found[quantity] = variable(dim, _mean(values), f"accuracy gained over {baseline}", "1", how)
        bounds = bootstrap_interval(values)
        found[f"{quantity}_interval"] = interval(dim, bounds, found[quantity], "percentile bootstrap over images")
    found["centroid"] = variable(
        "corruption", centroid, "spectral centroid", "cycles per image", "power-weighted radius of what it changes"
    )
    found["members"] = variable("group", [(group == each).sum() for each in GROUPS], "corruptions", "1", "in the group")
    coords = {"corruption": data["corruption"].values, "frequency_group": ("corruption", group)}
    return xr.Dataset(found, coords | {"group": list(GROUPS), "bound": ["low", "high"]}, {"baseline": baseline})


def _measured(corruptions: xr.Dataset) -> np.ndarray:
    if "centroid" not in corruptions:
        raise NetprobeError(
            "these results hold no frequencies of corruptions: evaluate with spectra=True (--spectra), or give spectra"
        )
    return corruptions["centroid"].values


def _centroids(spectra: xr.DataTree | xr.Dataset, corruptions: np.ndarray) -> np.ndarray:
    data = spectra if isinstance(spectra, xr.Dataset) else spectra[_having(spectra, NODE, 1)[0]][NODE].to_dataset()
    families = data["family"].values.astype(str)
    for name in corruptions:
        if name not in families:
            raise unknown(
                "corruption", str(name), dict.fromkeys(families), "Give the spectra of all that were evaluated."
            )
    return np.array([data["centroid"].values[families == name].mean() for name in corruptions])


def _having(tree: xr.DataTree, node: str, least: int = 2) -> list[str]:
    models = [name for name, child in tree.children.items() if node in child.children]
    if len(models) < least:
        raise NetprobeError(
            f"a comparison needs {node!r} of {least} models or more; there is that of {models or 'none'}"
        )
    return models


def _chosen(baseline: str | None, models: list[str]) -> str:
    if baseline is None:
        return models[0]
    if baseline not in models:
        raise unknown("baseline", baseline, models)
    return baseline


def _same(data: xr.Dataset, first: xr.Dataset, dims: tuple[str, ...], name: str, baseline: str) -> None:
    for dim in dims:
        if not np.array_equal(data[dim].values, first[dim].values):
            raise NetprobeError(f"{name!r} has other {dim} values than {baseline!r}: compare results of the same run")


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined; NaN for nothing."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)
