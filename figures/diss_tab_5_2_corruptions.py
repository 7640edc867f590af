"""Table 5.2 of Bakiskan (2022): accuracy under common corruptions at severity 5.

The work does not state its severity; 5 fits its numbers.
"""

from __future__ import annotations

import published
import xarray as xr
from studies.hah import BENCHMARK, HaH

from netprobe.cli.figures import run_script
from netprobe.gallery import Table

PAPER = {
    "standard": (92.5, 32.4, 40.0, 45.5, 27.5, 72.9, 64.5, 61.6, 87.4, 45.5, 34.8, 59.7, 58.9, 23.0, 74.8, 51.0, 68.6),
    "AT": (78.7, 74.2, 74.4, 73.4, 62.9, 62.3, 29.7, 59.0, 60.4, 69.8, 67.5, 67.2, 72.0, 18.0, 72.5, 75.4, 71.5),
    "HaH": (87.3, 64.7, 63.9, 61.2, 50.2, 74.4, 63.3, 73.3, 83.3, 65.9, 59.9, 65.8, 69.5, 76.3, 73.8, 62.1, 76.3),
}
MEANS = {"standard": 53.0, "AT": 63.1, "HaH": 67.7}


def rows(study: HaH) -> list[str]:
    """Clean, every corruption, and below the table their mean."""
    found, order = study.corrupted(), ("clean", *BENCHMARK)
    names = [str(name) for name in found["HaH/evaluation/condition"].values]
    places = [order.index(name.partition("@")[0]) for name in names]
    paper = {name: [numbers[at] for at in places] for name, numbers in PAPER.items()}
    return [*published.rows([found], names, paper), "", *means(found)]


def means(found: xr.DataTree) -> list[str]:
    """Mean accuracy over the corruptions, in per cent, with its bootstrap interval over images."""
    lines = published.head(["mean of the corruptions"])
    for name in published.evaluated(found, "corruptions"):
        corruptions = found[name]["corruptions"].to_dataset().isel(severity=0)
        mean, (low, high) = float(corruptions["mean_accuracy"]), corruptions["mean_accuracy_interval"].values
        all_of_them = corruptions.sizes["corruption"] == len(BENCHMARK) and name in MEANS
        paper = f" (paper {MEANS[name]:g})" if all_of_them else ""
        lines.append(f"| {name} | {published.estimate(100 * mean, 100 * low, 100 * high)}{paper} |")
    return lines


TABLE = Table(__file__, __doc__, HaH, rows)

if __name__ == "__main__":
    run_script(TABLE)
