"""How robust the networks of a variant of the study of arXiv 2410.03952 are, as Figs. 2 to 4 of it show it."""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import PLAIN, Similarity

import netprobe as npb
from netprobe.plots.robustness_curve import swept_bases


def robustness(study: Similarity, variant: str) -> dict[str, Axes]:
    """Accuracy over every noise and transferred FGSM, and distances that the Boundary attack finds."""
    found = study.black_box(variant)
    bases = swept_bases(found[f"{PLAIN}/evaluation"].to_dataset())
    curves = {base: npb.plot_robustness_curve(found, perturbation=base) for base in bases}
    return curves | {"boundary": npb.plot_boundary_distance(study.boundary(variant))}
