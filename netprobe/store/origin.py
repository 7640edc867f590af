"""Where results came from: networks, settings and versions, as every result carries them."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn


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
