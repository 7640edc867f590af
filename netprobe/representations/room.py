"""Whether the Gram matrices of all sites fit in memory, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from netprobe.data import Data
from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.probing.probe import named_perturbations
from netprobe.settings import ProbeSettings, in_bytes
from netprobe.sites import find_sites, select


def require_room(
    models: Mapping[str, nn.Module],
    data: Data,
    perturbations: Any,
    sites: Any,
    settings: Mapping[str, Any],
    copies: int = 1,
) -> None:
    """NetprobeError if `copies` float64 matrices (image, image) of every site and condition exceed `memory`."""
    conditions = 1 + len(named_perturbations(perturbations, ()) if perturbations is not None else {})
    memory = settings.get("memory", ProbeSettings.memory)
    count = sum(len(_chosen(model, data, sites)) for model in models.values()) * conditions
    need = 8 * copies * count * len(data) ** 2
    if need > in_bytes(memory):
        raise NetprobeError(
            f"the {count} Gram matrices of {len(data)} images need {need / 2**30:.2g} GiB, and memory={memory}: take "
            "fewer images or sites, raise memory, or for CKA give minibatch=64"
        )


def _chosen(model: nn.Module, data: Data, sites: Any) -> list:
    example = next(iter(data.select([0]).batches(1, device_of(model)))).x
    found = find_sites(model, example.to(next(model.parameters(), example).dtype))
    return select(found, ProbeSettings.sites if sites is None else sites)
