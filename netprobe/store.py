"""Results on disk: netCDF-4 through h5netcdf, one group per model and metric, settings as one JSON string."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from netprobe.errors import MissingData, NetprobeError, closest

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


def atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` make a file beside `path`, then put it in place in one step: readers see the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def made_folder(path: str | Path) -> Path:
    """The folder at `path`, made if there is none; NetprobeError if it cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NetprobeError(f"cannot keep results in {str(path)!r}: {error}") from error
    return Path(path)


def versions() -> dict[str, str]:
    """What computed a result."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("netprobe-torch", "torch", "numpy", "numba", "scipy", "xarray")}
    return packages | {"python": platform.python_version()}


def model_card(model: nn.Module) -> dict[str, Any]:
    """What a result says about its model: class, parameters, SHA-256 of its state, and where it was loaded from."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):  # a module's extra state
            digest.update(f"{name}{tensor!r}".encode())
            continue
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": digest.hexdigest(),
        "source": _portable(source_of(model)) or None,
    }


def _portable(source: Mapping[str, Any]) -> dict[str, Any]:
    """`source` as it may be shown to others: their machines have no such folders, and the SHA-256 tells the file."""
    return {**source, **{key: portable(source[key]) for key in ("what", "checkpoint") if source.get(key)}}


def portable(name: str | Path) -> str:
    """What a result calls the file `name`: relative names as they are, absolute ones from the working folder on.

    Of a file elsewhere it is the last part alone, so that no result tells of its author's machine. A network's name,
    such as "net.py:Net", is treated alike.
    """
    path = Path(name)
    if not path.is_absolute():
        return str(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def source_of(model: nn.Module) -> dict[str, Any]:
    """Where `netprobe.load` had it from; empty for a module that came otherwise."""
    return getattr(model, "netprobe_source", None) or {}


def provenance(tree: xr.DataTree | xr.Dataset) -> dict[str, Any]:
    """The settings that a result carries."""
    return json.loads(tree.attrs["provenance"])


def stamped(groups: Mapping[str, xr.Dataset], about: Mapping[str, Any]) -> xr.DataTree:
    """A tree of these groups, by path, that carries its provenance on every group that has data."""
    tree = xr.DataTree.from_dict(groups)
    text = json.dumps(json.loads(json.dumps(about, default=repr)), sort_keys=True)
    for node in tree.subtree:
        if node.has_data or node is tree:
            node.attrs["provenance"] = text
    return tree
