"""Which spatial frequencies minimal perturbations are made of, and how models differ in that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.running import Table
from netprobe.fourier.comparison import frequency_gains, spectrum_differences
from netprobe.fourier.spectra import NODE, spectra


def minimal_spectra(tables: Mapping[str, Table], conditions: Sequence[Condition]) -> xr.Dataset | None:
    """/<model>/perturbation_spectrum of the attacks that look for the nearest error, over the images that they changed.

    See `netprobe.fourier.spectra`. None where no spectra were asked for, or some images are missing.
    """
    chosen = {each.name: each.perturbation for each in conditions if each.role == "minimum norm"}
    found = {name: tables[name].spectrum for name in chosen}
    if not found or any(spectrum is None for spectrum in found.values()):
        return None
    return spectra(found, chosen)


def relative_to_first(groups: Mapping[str, xr.Dataset | None], models: Sequence[str]) -> dict[str, xr.Dataset]:
    """/<model>/spectrum_difference and /<model>/frequency_gains of all models but the first, if there are spectra."""
    tree = xr.DataTree.from_dict({path: data for path, data in groups.items() if data is not None})
    found = {}
    for metric, variable, compare in (
        (NODE, "profile", spectrum_differences),
        ("corruptions", "centroid", frequency_gains),
    ):
        having = [name for name in models if variable in tree[name].children.get(metric, xr.DataTree()).data_vars]
        if len(models) > 1 and having == list(models):
            found |= {path: node.to_dataset() for path, node in _leaves(compare(tree))}
    return found


def _leaves(tree: xr.DataTree) -> list[tuple[str, xr.DataTree]]:
    return [(node.path, node) for node in tree.subtree if node.has_data]
