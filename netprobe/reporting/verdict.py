"""The first thing to read: a row for each quantity, an estimate for each model, and how the models compare."""

from __future__ import annotations

from dataclasses import dataclass, field

import xarray as xr

from netprobe.errors import NetprobeError
from netprobe.plots.reading import models_of
from netprobe.reporting.comparing import compare
from netprobe.reporting.evaluation_rows import evaluation_rows, trust
from netprobe.reporting.geometry_rows import distance_trust, geometry_rows
from netprobe.reporting.partial_rows import partial_rows
from netprobe.reporting.rows import Row, accuracy_rows, alpha_rows, finding_rows, psr_rows, shift_rows
from netprobe.reporting.training_rows import training_rows
from netprobe.reporting.weight_rows import weight_rows

ROWS = (
    accuracy_rows,
    evaluation_rows,
    geometry_rows,
    training_rows,
    partial_rows,
    psr_rows,
    alpha_rows,
    shift_rows,
    weight_rows,
    finding_rows,
)


@dataclass(frozen=True, repr=False)
class Verdict:
    """A table, `rows` by `models`; for each model but the first, sentences that compare it with the first.

    `trust` says of every model that was evaluated whether its numbers are to be believed, and comes first.
    """

    models: list[str]
    rows: list[Row]
    comparisons: dict[str, list[str]]
    trust: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The table as text, the comparisons below it."""
        table = [["", *self.models], *([row.quantity, *map(row.cell, self.models)] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
        said = (f"\n{other} and {self.models[0]}\n" + "\n".join(s) for other, s in self.comparisons.items() if s)
        believed = [f"{model}: {sentence}." for model, sentence in self.trust.items()]
        return "\n".join([*believed, *([""] if believed else []), *lines, *said])

    __repr__ = __str__


def verdict(results: xr.DataTree) -> Verdict:
    """Accuracy, disturbance of the late sites, spectrum, correlation shift, weights and findings, for every model.

    Accuracy is given for all perturbations, the rest for the largest eps of each family; metrics that were
    not measured have no row. Intervals are 95 %: bootstrap over images for PSR, with the same resamples for
    every model, otherwise those that the results carry. NetprobeError if there is no model in `results`.
    """
    models = models_of(results)
    if not models:
        raise NetprobeError("there is no model in these results: pass what netprobe.probe or netprobe.evaluate returns")
    rows = [row for make in ROWS for row in make(results)]
    comparisons = {other: list(compare(results, models[0], other)) for other in models[1:]}
    believed = [distance_trust(results), trust(results)]  # reasons for doubt first
    said = {model: "; ".join(each[model] for each in believed if model in each) for model in models}
    return Verdict(models, rows, comparisons, {model: sentence for model, sentence in said.items() if sentence})
