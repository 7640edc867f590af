"""Table 2 of arXiv 2308.03956: accuracy over eps of networks that were trained adversarially.

MLP: four hidden layers and as many parameters; T=0: the network without its steps. No numbers of the work are known.
"""

from __future__ import annotations

import published
from studies.sca import SelfConsistency

from netprobe.cli.figures import run_script
from netprobe.gallery import Table


def rows(study: SelfConsistency) -> list[str]:
    trees = map(study.adversarial, study.settings["data"])
    return [line for tree in trees for line in published.rows([tree], published.conditions(tree), {})]


TABLE = Table(__file__, __doc__, SelfConsistency, rows)

if __name__ == "__main__":
    run_script(TABLE)
