"""Doubts about chapter 5 of Bakiskan (2022): whether the gradients of networks with HaH blocks can be believed.

The networks of tables 5.1 and 5.3, under attacks with and without gradients.
"""

from __future__ import annotations

import doubted
from studies.hah import HaH

from netprobe.cli.figures import run_script
from netprobe.gallery import Table

TABLE = Table(__file__, __doc__, HaH, lambda study: doubted.rows(study.doubted()))

if __name__ == "__main__":
    run_script(TABLE)
