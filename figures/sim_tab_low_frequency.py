"""Low frequencies of arXiv 2410.03952: their share in the power of minimal perturbations, with the regulariser or not.

In per cent, of the rings up to 4 and 8 cycles per image, with 95 % intervals over images. The work: more of them with
the regulariser. A few hundred steps of the attack leave noise in what they find.
"""

from __future__ import annotations

import published
from studies.similarity import Similarity

from netprobe.cli.figures import run_script
from netprobe.gallery import Table


def rows(study: Similarity) -> list[str]:
    """A line for each network."""
    found = study.spectra()
    cutoffs = next(iter(found.children.values()))["perturbation_spectrum/cutoff"].values
    lines = published.head([f"up to {cutoff} cycles" for cutoff in cutoffs])
    for name in found.children:
        spectrum = found[name]["perturbation_spectrum"].to_dataset().isel(perturbation=0)
        shares, bounds = (100 * spectrum[f"low_frequency_share{end}"].values for end in ("", "_interval"))
        cells = (published.estimate(share, *ends) for share, ends in zip(shares, bounds, strict=True))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


TABLE = Table(__file__, __doc__, Similarity, rows)

if __name__ == "__main__":
    run_script(TABLE)
