"""Table B.2 of Bakiskan (2022): L2 norms of HopSkipJump from the nearest image of another class."""

from __future__ import annotations

import published
from studies.sparse_coding import SparseCoding

from netprobe.cli.figures import run_script
from netprobe.gallery import Table

PAPER = {"NT": (None, 0.31), "AT": (None, 2.08), "TRADES": (None, 2.00), "sparse": (None, 3.43)}


def rows(study: SparseCoding) -> list[str]:
    return published.norms(study.decision(), "hopskipjump", PAPER)


TABLE = Table(__file__, __doc__, SparseCoding, rows)

if __name__ == "__main__":
    run_script(TABLE)
