"""Table 4.4 of Bakiskan (2022): the sparse coding front end with dropout on Imagenette, over eps.

Of every eps the images that stand all its attacks are counted: with the front end the white-box one and the one made on
its unsupervised twin, without it PGD from many random points.
"""

from __future__ import annotations

import published
from studies.imagenette import Imagenette

from netprobe.cli.figures import run_script
from netprobe.gallery import Table

PAPER = {
    "NT": (89.35, 11.44, 0.28, 0.0),
    "AT": (80.97, 75.31, 68.81, 53.32),
    "TRADES": (80.08, 75.67, 70.75, 59.46),
    "sparse": (79.36, 76.03, 72.81, 65.45),
}


def rows(study: Imagenette) -> list[str]:
    """Networks without the front end, then the one with it, as in the work."""
    shown = {f"{255 * eps:g}/255": f"*@{eps:g}" for eps in study.settings["eps"]}
    first, *others = study.networks
    trees = [published.standing(study.over_eps(name), shown) for name in (*others, first)]
    return published.rows(trees, ("clean", *shown), PAPER)


TABLE = Table(__file__, __doc__, Imagenette, rows)

if __name__ == "__main__":
    run_script(TABLE)
