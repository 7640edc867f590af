"""Results on disk: netCDF-4 through h5netcdf, one group per model and metric, settings as one JSON string."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from netprobe.errors import MissingData, closest
from netprobe.store.files import atomically

COMPRESSED_ABOVE = 1000
"""Arrays with more elements than this are compressed (losslessly)."""


def save_results(tree: xr.DataTree, path: str | Path) -> Path:
    """Write `tree` to the netCDF file `path`, atomically; equal trees give equal bytes. Returns the path.

    >>> import tempfile
    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> tree = npb.probe(net, digits, "gaussian:std=0.1", "psr", preflight=False, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = npb.save_results(tree, f"{folder}/results.nc")
    ...     again = npb.open_results(path)
    >>> again.identical(tree)
    True
    """
    encoding = {
        node.path: {
            name: {"zlib": True, "complevel": 4}
            for name, v in node.data_vars.items()
            if v.size > COMPRESSED_ABOVE and np.issubdtype(v.dtype, np.number)
        }
        for node in tree.subtree
    }
    return atomically(Path(path), lambda part: tree.to_netcdf(part, engine="h5netcdf", encoding=encoding))


def open_results(path: str | Path) -> xr.DataTree:
    """The tree in the netCDF file `path`, wholly in memory.

    Raises MissingData when there is no such file, or no netCDF in it.
    """
    path = Path(path)
    if not path.is_file():
        near = closest(path.name, [p.name for p in path.parent.glob("*")], 3) if path.parent.is_dir() else []
        raise MissingData(f"no results file {str(path)!r}; nearest names in that folder: {', '.join(near) or 'none'}")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            return tree.load()
    except OSError as error:
        raise MissingData(
            f"{str(path)!r} is not a netCDF-4 file that netprobe wrote, or it is damaged ({error})"
        ) from error
