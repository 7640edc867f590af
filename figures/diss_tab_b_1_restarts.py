"""Table B.1 of Bakiskan (2022): the front end without dropout under attacks with other backward passes, steps,
restarts.

The work: more restarts break more, more steps do not.
"""

from __future__ import annotations

import published
from studies.sparse_coding import SparseCoding

from netprobe.cli.figures import run_script
from netprobe.gallery import Table

PAPER = {
    "T=1": (81.81, 44.79, 48.26, 59.91, 34.89, 37.83),
    "T=2": (83.03, 47.89, 47.81, 61.35, 37.48, 37.92),
    "T=5": (83.24, 47.11, 42.21, 60.37, 36.66, 32.83),
    "T=10": (84.71, 48.48, 44.83, 60.06, 39.69, 36.16),
    "T=15": (85.45, 46.89, 44.55, 57.13, 38.43, 37.33),
    "T=20": (85.46, 40.96, 45.27, 51.39, 32.63, 37.25),
}


def rows(study: SparseCoding) -> list[str]:
    shown = ["clean", *study.settings["variants"]]
    return published.rows([study.restarts()], shown, {name: numbers[: len(shown)] for name, numbers in PAPER.items()})


TABLE = Table(__file__, __doc__, SparseCoding, rows)

if __name__ == "__main__":
    run_script(TABLE)
