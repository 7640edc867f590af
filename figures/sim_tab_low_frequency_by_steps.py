"""Minimal perturbations in the sense of arXiv 2410.03952: their size and low frequencies, by how long an attack looks.

Of a network trained naturally and one trained adversarially. Each cell has the median L2 norm, and the shares of power
up to 4 and 8 cycles per image in per cent, with 95 % intervals over images. While an attack on decisions still comes
nearer, what it finds has the spectrum of the noise that it started from; FMN, which follows gradients, tells where the
nearest error is. The work measures its spectra after long runs of such attacks.
"""

from __future__ import annotations

import published
import xarray as xr
from studies.depth import Depth

from netprobe.cli.figures import run_script
from netprobe.gallery import Table
from netprobe.perturb import PERTURBATIONS
from netprobe.store import provenance


def rows(study: Depth) -> list[str]:
    """A line for each attack, a column for each network."""
    found = study.nearest("sgd")
    lines, about = published.head(list(found.children)), provenance(found)["perturbations"]
    for name in next(iter(found.children.values()))["perturbation_spectrum/perturbation"].values:
        cells = " | ".join(_cell(found[network], name) for network in found.children)
        attack = PERTURBATIONS[about[name]["perturbation"]].title
        lines.append(f"| {attack}, {about[name]['steps']:,} steps | {cells} |")
    return lines


def _cell(network: xr.DataTree, attack: str) -> str:
    norm = network["minimum_norm"].to_dataset().sel(condition=attack)
    spectrum = network["perturbation_spectrum"].to_dataset().sel(perturbation=attack)
    size = published.estimate(float(norm["median"]), *norm["median_interval"].values.tolist())
    shares = (
        published.estimate(*(100 * float(each) for each in (share, *bounds)))
        for share, bounds in zip(
            spectrum["low_frequency_share"].values, spectrum["low_frequency_share_interval"].values, strict=True
        )
    )
    return "; ".join([size, *shares])


TABLE = Table(__file__, __doc__, Depth, rows)

if __name__ == "__main__":
    run_script(TABLE)
