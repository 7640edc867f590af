"""Doubts about arXiv 2308.03956: whether the gradients of its networks can be believed.

Every network that the study trains on clean images, "short" where it is one of several trainings; attacks with and
without gradients.
"""

from __future__ import annotations

import doubted
from studies.sca import SelfConsistency

from netprobe.cli.figures import run_script
from netprobe.gallery import Table


def rows(study: SelfConsistency) -> list[str]:
    """Of every data set."""
    return [line for data in study.every for line in [f"{data}:", "", *doubted.rows(study.doubted(data)), ""]]


TABLE = Table(__file__, __doc__, SelfConsistency, rows)

if __name__ == "__main__":
    run_script(TABLE)
