"""The table that `netprobe weights` prints."""

from __future__ import annotations

import math

import xarray as xr

HEADS = ("layer", "method", "input", "norm", "upper bound", "effective rank", "median/largest", "filter Hoyer", "dead")


def table(results: xr.DataTree) -> list[tuple[str, ...]]:
    """The layers of one model, a row each under HEADS; what a layer lacks is a dash, and its note the last column."""
    spectrum, filters = results["singular_values"].to_dataset(), results["filters"].to_dataset()
    rows = [(*HEADS, "")]
    for name in spectrum["layer"].values:
        values, own = spectrum.sel(layer=name), filters.sel(layer=name)
        method = " ".join(filter(None, (_text(values, "method"), _text(values, "padding"))))
        numbers = (
            _number(values["operator_norm"], ".4g"),
            _number(values["operator_norm_upper"], ".4g"),
            _number(values["effective_rank"], ".1f"),
            _number(values["median_normalized"], ".3f"),
            _number(own["hoyer"], ".3f"),
            _number(own["dead"], ".0f"),
        )
        rows.append((str(name), method or "–", _text(values, "input_size") or "–", *numbers, _text(values, "note")))
    return rows


def _text(data: xr.Dataset, name: str) -> str:
    return str(data[name].values) if name in data else ""


def _number(value: xr.DataArray, form: str) -> str:
    return "–" if math.isnan(float(value)) else format(float(value), form)
