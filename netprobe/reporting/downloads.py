"""The numbers behind the page, to take away: a CSV text for each metric, and the netCDF file."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from netprobe.plots.reading import Measured
from netprobe.store import save_results


def csv(every: Iterable[Measured], columns: Sequence[str]) -> str:
    """One line for each model and label of the dims of `columns`, their intervals beside them as _low and _high."""
    frames = []
    for entry in every:
        data = _few_others(entry.data)
        names = [name for column in columns for name in (column, f"{column}_interval") if name in data]
        flat = xr.merge(_flat(data[name]) for name in names)
        frames.append(flat.to_dataframe().reset_index().assign(model=entry.model))
    table = pd.concat(frames)
    return table[["model", *table.columns.drop("model")]].to_csv(index=False)


def _few_others(data: xr.Dataset) -> xr.Dataset:
    """Of comparisons with all representations, those with references (else with the first): all would fill the page."""
    if "other_site" not in data.coords:
        return data
    references = np.flatnonzero(data["other_site"].values == "")
    return data.isel(other=references if references.size else [0])


def _flat(array: xr.DataArray) -> xr.Dataset:
    """Two variables, _low and _high, in place of a dimension `bound`."""
    if "bound" not in array.dims:
        return array.to_dataset()
    stem = str(array.name).removesuffix("_interval")
    return xr.Dataset({f"{stem}_{bound}": array.sel(bound=bound, drop=True) for bound in ("low", "high")})


def netcdf(results: xr.DataTree) -> bytes:
    """The file that `netprobe.store.save_results` writes."""
    with tempfile.TemporaryDirectory() as folder:
        return save_results(results, Path(folder) / "results.nc").read_bytes()


def estimates_of(results: xr.DataTree) -> xr.DataTree:
    """The same results without any variable that has a value for each image, filter or channel."""
    single = ["image", "filter", "channel"]
    kept = {path: data.drop_dims(single, errors="ignore") for path, data in results.to_dict().items()}
    return xr.DataTree.from_dict(kept)


def data_uri(content: bytes, kind: str) -> str:
    """`content` inside a link."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
