"""Table 4.1 of Bakiskan (2022): the polarizing front end under white-box attacks.

    python figures/diss_tab_4_1_polarizing.py --run --scale smoke -o runs/figures

trains and evaluates what the table is of, and prints it beside the published numbers; networks of your own are shown by

    python figures/diss_tab_4_1_polarizing.py mnist=runs/table-4-1/mnist/results.nc \\
        fashion-mnist=runs/table-4-1/fashion/results.nc

Each results.nc is that of `netprobe evaluate` on networks called `none`, `adversarial`, `polarizing` and `pixels` (the
control: quantised pixels, which the publication does not have) with attacks called `fgsm`, `bim` and `pgd`:

    netprobe evaluate none=runs/lenet/best.pt adversarial=runs/at/best.pt polarizing=runs/polarizing/best.pt \\
        pixels=runs/pixels/best.pt --data mnist --perturb fgsm:eps=0.3 --perturb bim:eps=0.3,steps=20,step_size=0.03 \\
        --perturb pgd:eps=0.3,steps=100,step_size=0.03,restarts=20 -o runs/table-4-1/mnist

Accuracies in per cent with their 95 % Wilson intervals; an image counts as right only if it stands every backward pass
that its network declares.
"""

from __future__ import annotations

import sys

import published
from studies.polarizing import Polarizing

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Table

CONDITIONS = ("clean", "fgsm", "bim", "pgd")
PAPER = {
    "mnist": {
        "none": (99.4, 21.9, 0.47, 0.00),
        "adversarial": (97.5, 93.1, 90.0, 86.7),
        "polarizing": (99.1, 93.2, 86.5, 70.8),
    },
    "fashion-mnist": {
        "none": (91.6, 19.7, 1.49, 0.11),
        "adversarial": (83.8, 77.9, 75.6, 74.1),
        "polarizing": (87.3, 69.4, 54.9, 44.5),
    },
}


def rows(study: Polarizing) -> list[str]:
    """Of every data set of the study."""
    found = {data: study.attacked(data) for data in study.sets}
    tables = [published.rows([tree], CONDITIONS, PAPER.get(data, {})) for data, tree in found.items()]
    return [line for lines in tables for line in (*lines, "")]


def main() -> None:
    """Print a table for each DATA=results.nc."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        if name not in PAPER or not path:
            sys.exit(f"cannot read {argument!r}: give DATA=results.nc with DATA one of {', '.join(PAPER)}")
        results = npb.open_results(path)
        published.check(results, CONDITIONS)
        rows = published.table(results, CONDITIONS, PAPER[name])
        ways = published.ways(results, ["pgd"])
        print(*published.settings_of(results), "", *published.head(CONDITIONS), *rows, "", *ways, "", sep="\n")


TABLE = Table(__file__, __doc__, Polarizing, rows)

if __name__ == "__main__":
    run_script(TABLE, otherwise=main)
