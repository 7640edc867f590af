"""Table 4.1 of Bakiskan (2022): the polarizing front end under white-box attacks, beside the published numbers.

    python figures/table_4_1.py mnist=runs/table-4-1/mnist/results.nc fashion-mnist=runs/table-4-1/fashion/results.nc

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

import netprobe as npb

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


def main(arguments: list[str]) -> None:
    """Print a table for each DATA=results.nc."""
    for argument in arguments:
        name, _, path = argument.partition("=")
        if name not in PAPER or not path:
            sys.exit(f"cannot read {argument!r}: give DATA=results.nc with DATA one of {', '.join(PAPER)}")
        results = npb.open_results(path)
        published.check(results, CONDITIONS)
        rows = published.table(results, CONDITIONS, PAPER[name])
        ways = published.ways(results, ["pgd"])
        print(*published.settings_of(results), "", *published.head(CONDITIONS), *rows, "", *ways, "", sep="\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
