"""What the verdict says of partial adversarial training: both whole networks, every code, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import xarray as xr

from netprobe.plots.reading import Measured
from netprobe.reporting.estimates import Estimate
from netprobe.reporting.rows import Row, every_model, read

HINT = "higher: more images stand the test attack"


def partial_rows(results: xr.DataTree) -> Iterator[Row]:
    """Adversarial accuracy, means over seeds with t intervals, of codes over their cutoffs too; and failures."""
    every = every_model(results, "partial")
    if not every:
        return
    for way in ("natural", "adversarial"):
        estimates = {e.model: read(e, "mean_whole_adversarial_accuracy", 100, training=way) for e in every}
        yield Row(f"Adversarial accuracy, whole network, {way} training", HINT, "%", 1, estimates)
    for code in _codes(every):
        own = [entry for entry in every if code in entry.data["code"].values]
        estimates = {e.model: read(e, "mean_adversarial_accuracy", 100, code=code) for e in own}
        yield Row(f"Adversarial accuracy, {code}, mean over cutoffs", HINT, "%", 1, estimates)
    failed = {e.model: Estimate(float(e.data["failed_cells"].sum())) for e in every}
    yield Row("Cells that failed to converge", "fewer: fewer points that mean nothing", "", 0, failed)


def _codes(every: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(str(code) for entry in every for code in entry.data["code"].values))
