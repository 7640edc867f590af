"""Table B.3 of Bakiskan (2022): success and L2 norms of ZOO."""

from __future__ import annotations

import published
from studies.sparse_coding import SparseCoding

from netprobe.cli.figures import run_script
from netprobe.gallery import Table

PAPER = {"NT": (100, 0.13), "AT": (100, 0.89), "TRADES": (100, 0.93), "sparse": (7, 0.04)}


def rows(study: SparseCoding) -> list[str]:
    return published.norms(study.scores(), "zoo", PAPER)


TABLE = Table(__file__, __doc__, SparseCoding, rows)

if __name__ == "__main__":
    run_script(TABLE)
