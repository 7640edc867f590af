"""How similar a layer makes every image to every other: representational similarity matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from netprobe.errors import unknown
from netprobe.metrics.base import Metric, Readings, variable
from netprobe.probing.observables import Layout, Observable
from netprobe.representations.correlating import off_diagonal
from netprobe.representations.grams import CENTRES, MEASURES, Grams

DEFINITIONS = {
    "cosine": ("cosine similarity", "1", "<f_i - m, f_j - m> / (||f_i - m|| ||f_j - m||)"),
    "correlation": ("correlation over units", "1", "Pearson correlation of f_i - m and f_j - m over units"),
    "euclidean": ("Euclidean distance", "activation", "||f_i - f_j||"),
}
ABOUT = {
    "channel": "m the mean of each channel over images and locations",
    "unit": "m the mean of each unit over images",
    "none": "m = 0",
}


@dataclass(frozen=True)
class Similarity(Metric):
    """The similarity (or distance) of the representations of every two images, all units of a layer together.

        cosine       S_ij = <f_i - m, f_j - m> / (||f_i - m|| ||f_j - m||)
        correlation  the Pearson correlation of f_i - m and f_j - m over units; 1 minus it is the common dissimilarity
        euclidean    ||f_i - f_j||, a dissimilarity

    centre   m: "channel", the mean of every channel over images and locations, as the pixel-similarity regulariser has
             it; "unit", the mean of every unit over images; "none". Distances do not depend on it

    Returns `similarity` (condition, site, image, other_image), NaN with an image whose representation is m, and
    `mean_similarity` (condition, site) over the pairs i < j. Exact, whatever the batch size, in float64 from the
    image-by-image Gram matrices (see `netprobe.probing.kernels`); activations of all images are held for as many units
    as `memory` allows. State: 8 N^2 bytes a site and condition. Sources: Kriegeskorte et al. 2008; arXiv 2410.03952 for
    centre="channel".
    """

    name: ClassVar[str] = "similarity"
    needs_perturbation: ClassVar[bool] = False
    measure: str = "cosine"
    centre: str = "channel"

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind, value, known in (("measure", self.measure, MEASURES), ("centre", self.centre, CENTRES)):
            if value not in known:
                raise unknown(kind, value, known)

    def observables(self, layout: Layout) -> list[Observable]:
        return [Grams()]

    def compute(self, readings: Readings) -> xr.Dataset:
        sites = readings(Grams.key)
        conditions = range(len(readings.conditions))
        matrices = np.array([[s.gram(c).matrix(self.measure, self.centre) for s in sites] for c in conditions])
        long_name, units, definition = DEFINITIONS[self.measure]
        about = "" if self.measure == "euclidean" else f", {ABOUT[self.centre]}"
        found = variable("condition site image other_image", matrices, long_name, units, definition + about)
        pairs = off_diagonal(matrices)
        mean = pairs.mean(-1) if pairs.shape[-1] else np.full(pairs.shape[:-1], np.nan)  # of one image
        average = variable("condition site", mean, f"mean {long_name}", units, "mean over the pairs of images i < j")
        places = readings.coords["image"]["image"]
        results = readings.dataset({"similarity": found, "mean_similarity": average}, other_image=places)
        return results.assign_attrs(measure=self.measure)
