"""Everything that the weights tell, for one or more models, as one tree of results."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from torch import Tensor, nn

from netprobe import perturb
from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.errors import NetprobeError, unknown
from netprobe.metrics import ChannelMoments
from netprobe.probing.probe import named_models, named_perturbations
from netprobe.settings import SpectrumSettings, WeightsSettings
from netprobe.store import model_card, provenance, stamped, versions
from netprobe.weights.batch_norm import batch_norm, is_batch_norm, tracks
from netprobe.weights.conv_spectrum import conv_spectrum
from netprobe.weights.drift import drift, input_moments, site_pattern, tracked_names
from netprobe.weights.filters import filters
from netprobe.weights.layers import choose, find_layers

logger = logging.getLogger(__name__)


def analyse(
    models: nn.Module | Mapping[str, nn.Module],
    input_shape: Sequence[int] | Tensor | None = None,
    *,
    data: Data | Any = None,
    perturbations: Any = None,
    **settings: Any,
) -> xr.DataTree:
    """What the parameters of one or more models tell: spectra, filters, batch norm, and its drift if there are data.

    Parameters
    ----------
    models : an nn.Module on inputs in [0, 1], or several by name; left as found
    input_shape : of one input without the batch axis, such as (3, 224, 224); None takes that of `data`
    data : a `Data`, or anything `netprobe.data.load` takes; only the drift of batch norm needs them
    perturbations : as for `netprobe.probe`, for the drift; None for clean images alone
    settings : the fields of `WeightsSettings`

    Returns a DataTree /model/{singular_values, filters, batch_norm, batch_norm_drift} of what `conv_spectrum`,
    `filters`, `batch_norm` and `batch_norm_drift` return, for `netprobe.save_results`, the plots and
    `netprobe.report`. A group that a model cannot have is left out, with the reason under "left_out" in the provenance.

    Cost: that of the singular values; see `conv_spectrum`. Errors: as for those functions, before the long work.
    """
    chosen, named = _settings(settings), named_models(models)
    data = data if data is None or isinstance(data, Data) else load_data(data)
    attacks = None if perturbations is None else named_perturbations(perturbations, ())
    shape = _shape(input_shape, data, attacks)
    for model in named.values():
        choose(find_layers(model, shape), chosen.layers)
    groups, left_out = {"/": xr.Dataset()}, {}
    for name, model in named.items():
        moments = _moments(model, data, attacks, chosen)
        left_out[name] = _add(groups, name, model, shape, chosen, moments)
    about = {"versions": versions(), "complete": True, "weights": _about(shape, chosen, left_out)}
    about["models"] = {name: model_card(model) for name, model in named.items()}
    if data is not None:
        described = {name: perturb.describe(p) for name, p in (attacks or {}).items()}
        about |= {"data": data.describe(), "perturbations": described}
    return stamped(groups, about)


def join(
    tree: xr.DataTree, models: Mapping[str, nn.Module], input_shape: Sequence[int], **settings: Any
) -> xr.DataTree:
    """`tree`, the results of a probe of `models`, with what their weights tell.

    The drift of batch norm is made of the moments that the probe gathered with `drift_metric`, which it replaces. A
    model without any layer to analyse stays as it was, which is logged.
    """
    chosen, groups, left_out = _settings(settings), tree.to_dict(), {}
    for name, model in models.items():
        moments = groups.pop(f"/{name}/{ChannelMoments.name}", None)
        try:
            choose(find_layers(model, input_shape), chosen.layers)
        except NetprobeError as error:
            logger.warning("nothing of the weights of %s: %s", name, error)
            left_out[name] = {"weights": str(error)}
        else:
            left_out[name] = _add(groups, name, model, input_shape, chosen, moments)
    return stamped(groups, provenance(tree) | {"weights": _about(input_shape, chosen, left_out)})


def drift_metric(models: Mapping[str, nn.Module], input_shape: Sequence[int] | Tensor) -> ChannelMoments | None:
    """With it a probe gathers what `join` needs for the drift; None unless every model tracks running statistics."""
    names: set[str] = set()
    for model in models.values():
        if not any(map(tracks, model.modules())):
            return None
        names.update(tracked_names(model, input_shape))
    return ChannelMoments(at="input", sites=site_pattern(sorted(names)))


def _settings(given: dict[str, Any]) -> WeightsSettings:
    known = [f.name for f in dataclasses.fields(WeightsSettings)]
    for name in given:
        if name not in known:
            raise unknown("setting of analyse", name, known)
    return WeightsSettings(**given)


def _shape(input_shape: Sequence[int] | Tensor | None, data: Data | None, attacks: Any) -> Sequence[int] | Tensor:
    if attacks and data is None:
        raise NetprobeError("perturbations need images: give data=")
    if input_shape is None and data is None:
        raise NetprobeError("give input_shape, such as (3, 32, 32): singular values depend on the resolution")
    return data.shape if input_shape is None else input_shape


def _moments(model: nn.Module, data: Data | None, attacks: Any, chosen: WeightsSettings) -> xr.Dataset | None:
    """What the batch norms are given, if there are data and a batch norm to compare them with."""
    if data is None or not any(map(tracks, model.modules())):
        return None
    options = {name: getattr(chosen, name) for name in ("batch_size", "seed", "progress")}
    return input_moments(model, data, attacks, "norm", **options)


def _add(
    groups: dict[str, xr.Dataset],
    name: str,
    model: nn.Module,
    shape: Sequence[int] | Tensor,
    chosen: WeightsSettings,
    moments: xr.Dataset | None,
) -> dict[str, str]:
    """Add what the weights of one model tell to `groups`; returns what could not be had, and why."""
    spectrum = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(SpectrumSettings)}
    groups[f"/{name}/singular_values"] = conv_spectrum(model, shape, **spectrum)
    groups[f"/{name}/filters"] = filters(model, shape, chosen.layers)
    if not any(map(is_batch_norm, model.modules())):
        return {"batch_norm": "the model has no batch norm"}
    groups[f"/{name}/batch_norm"] = batch_norm(model, shape)
    if moments is None:
        return {"batch_norm_drift": "needs data, and batch norms that keep running statistics"}
    groups[f"/{name}/batch_norm_drift"] = drift(moments, groups[f"/{name}/batch_norm"])
    return {}


def _about(
    shape: Sequence[int] | Tensor, chosen: WeightsSettings, left_out: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """What the provenance says of the weights."""
    size = list(shape.shape[1:]) if isinstance(shape, Tensor) else list(shape)
    return {"input_shape": size, "settings": dataclasses.asdict(chosen), "left_out": left_out}
