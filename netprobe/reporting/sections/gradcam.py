"""What is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.reporting.sections.section import Figure, Numbers, Section


def _gradcam(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Signed Grad-CAM maps", partial(plots.plot_gradcam, results, models=models))


GRADCAM = Section(
    "gradcam",
    "Grad-CAM",
    "Where in the image the evidence for the explained class lies, at the site named above the grid: red "
    "places speak for it, blue ones against it. The number in a tile is the class predicted there. Every "
    "tile is scaled by its own largest magnitude, so compare places, not strengths. A few images prove "
    "nothing, and a plausible map is no evidence that the network is right; the stability under "
    "perturbation, and its control with redrawn weights if one was made, say more.",
    _gradcam,
    Numbers("stability", "image", 2),
    ("stability",),
)
