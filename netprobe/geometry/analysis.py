"""Smoothness and geometry of one or more networks, as one tree of results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.errors import unknown
from netprobe.geometry.dimension import intrinsic_dimension
from netprobe.geometry.distances import critical_distances
from netprobe.geometry.jacobians import jacobian_norms
from netprobe.geometry.planes import decision_plane
from netprobe.geometry.spectra import unit_spectra
from netprobe.geometry.walks import NARROW, WIDE, walk
from netprobe.perturb import GaussianNoise
from netprobe.probing.probe import named_models
from netprobe.settings import GeometrySettings
from netprobe.store import model_card, stamped, versions


def analyse(models: nn.Module | Mapping[str, nn.Module], data: Data | Any, **settings: Any) -> xr.DataTree:
    """Norms of Jacobians, critical distances, spectra of units and a plane, for every model.

    Parameters
    ----------
    models : an nn.Module on inputs in [0, 1], or several by name; left as found
    data : a `Data`, or anything `netprobe.data.load` takes
    settings : the fields of `GeometrySettings`

    Returns a DataTree /model/{jacobian, distances, units, plane} of what `jacobian_norms`, `critical_distances`,
    `unit_spectra` (with the intrinsic dimension of the data beside it) and `decision_plane` return, for
    `netprobe.save_results`, the plots and `netprobe.report`.
    """
    chosen = _settings(settings)
    named, data = named_models(models), data if isinstance(data, Data) else load_data(data)
    groups: dict[str, xr.Dataset] = {"/": xr.Dataset()}
    walks = {name: _grid(name, chosen.points) for name in chosen.walked}
    about = intrinsic_dimension(data) if "dimension" in chosen.parts and len(data) > 20 else None
    for name, model in named.items():
        for part in chosen.parts:
            if part in PARTS:
                groups[f"/{name}/{part}"] = PARTS[part](model, data, chosen, walks)
        if about is not None and f"/{name}/units" in groups:
            groups[f"/{name}/units"] = beside(groups[f"/{name}/units"], about)
    facts = {"versions": versions(), "complete": True, "data": data.describe(), "geometry": dataclasses.asdict(chosen)}
    return stamped(groups, facts | {"models": {name: model_card(model) for name, model in named.items()}})


def beside(spectra: xr.Dataset, dimension: xr.Dataset) -> xr.Dataset:
    """`unit_spectra` with the intrinsic `dimension` of the data and the bound on alpha that it sets."""
    return spectra.assign({name: dimension[name] for name in dimension.data_vars if name != "copies"})


def _settings(given: dict[str, Any]) -> GeometrySettings:
    known = [field.name for field in dataclasses.fields(GeometrySettings)]
    for name in given:
        if name not in known:
            raise unknown("setting of geometry", name, known)
    return GeometrySettings(**given)


def _grid(name: str, points: int) -> np.ndarray:
    """So many strengths, over the range that `walk` takes."""
    perturbation = walk(name, [0.1]).at(0.1)
    return np.geomspace(*(WIDE if isinstance(perturbation, GaussianNoise) else NARROW), points)


def _jacobian(model: nn.Module, data: Data, chosen: GeometrySettings, _: Any) -> xr.Dataset:
    options = {name: getattr(chosen, name) for name in ("wrt", "method", "draws", "seed", "batch_size", "progress")}
    return jacobian_norms(model, data, chosen.sites, **options)


def _distances(model: nn.Module, data: Data, chosen: GeometrySettings, walks: dict[str, np.ndarray]) -> xr.Dataset:
    options = {name: getattr(chosen, name) for name in ("seed", "batch_size", "progress")}
    grids = {name.partition(":")[0]: grid for name, grid in walks.items()}
    return critical_distances(model, data, list(walks), eps=grids, **options)


def _units(model: nn.Module, data: Data, chosen: GeometrySettings, _: Any) -> xr.Dataset:
    options = {name: getattr(chosen, name) for name in ("noise", "seed", "progress")}
    return unit_spectra(model, data, chosen.sites, draws=chosen.correction, **options)


def _plane(model: nn.Module, data: Data, chosen: GeometrySettings, _: Any) -> xr.Dataset:
    options = {name: getattr(chosen, name) for name in ("wrt", "reach", "method", "seed", "progress")}
    return decision_plane(model, data, chosen.image, chosen.plane_site, points=chosen.plane_points, **options)


PARTS: dict[str, Callable[..., xr.Dataset]] = {
    "jacobian": _jacobian,
    "distances": _distances,
    "units": _units,
    "plane": _plane,
}
