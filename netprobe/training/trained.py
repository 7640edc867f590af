"""What training gives: networks, and how it went."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from netprobe.data import Data
from netprobe.defenses import Defense
from netprobe.defenses.regularisers import Regulariser
from netprobe.metrics.base import variable
from netprobe.recipes import Recipe

RECORDS = {
    "loss": ("training loss", "nat", "mean over the epoch of what was minimised, as the weights were at every step"),
    "accuracy": ("training accuracy", "1", "share of right predictions on what was trained on, in train mode"),
    "lr": ("learning rate", "1", "of the last step"),
    "validation_loss": ("validation loss", "nat", "mean cross-entropy of held-out images"),
    "validation_accuracy": ("validation accuracy", "1", "share of held-out images classified as labelled"),
    "validation_robust_accuracy": (
        "robust validation accuracy",
        "1",
        "share of held-out images that are right at every step of the validation attack",
    ),
    "seconds": ("time", "s", "spent in training steps"),
    "images_per_second": ("speed", "1/s", "training images a second, all processes together"),
}
INTERVALS = ("validation_accuracy", "validation_robust_accuracy")
NOTHING = [float("nan")] * 2


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, in eval mode.

    model     of the best epoch by the criterion if there were validation images, else `last`
    last      of the last epoch (the average of the weights, if the recipe keeps one)
    history   a Dataset over `epoch` (see `RECORDS`); attributes: criterion, best_epoch, findings, provenance
    findings  what one should know: robust or catastrophic overfitting, an early stop
    folder    where checkpoints and history are, if anywhere
    stages    the networks that the stages of the defense ended with, but for the last stage
    kept      the networks after the epochs `keep_epochs` of the recipe, by epoch; 0 is before the first step
    regularisers  whose terms joined the loss; the history's attribute of that name says under which names it has them
    """

    model: nn.Module
    last: nn.Module
    history: xr.Dataset
    defense: Defense
    recipe: Recipe
    folder: Path | None = None
    findings: list[str] = field(default_factory=list)
    stages: tuple[nn.Module, ...] = ()
    regularisers: tuple[Regulariser, ...] = ()
    kept: Mapping[int, nn.Module] = field(default_factory=dict)

    def results(self, name: str = "trained", data: Data | None = None) -> xr.DataTree:
        """The history as results like any other, of a model called `name`: to report, to save, to join.

        With some training images `data`, what the defense has to show of its network too.
        """
        ended = {f"stage {number}": network for number, network in enumerate(self.stages, 1)}
        views = self.defense.views(ended | {"trained": self.model}, data) if data is not None else {}
        groups = {"history": self.history} | views
        tree = xr.DataTree.from_dict({f"{name}/{group}": dataset for group, dataset in groups.items()})
        tree.attrs["provenance"] = self.history.attrs["provenance"]
        return tree

    def __repr__(self) -> str:
        final = self.history.isel(epoch=-1)
        shown = [f"{name} {float(final[name]):.1%}" for name in ("accuracy", *INTERVALS) if name in final]
        notes = "".join(f"\n  {finding}" for finding in self.findings)
        trained = ", ".join(map(repr, (self.defense, *self.regularisers)))
        return f"Trained({trained}, {self.history.sizes['epoch']} epochs: {', '.join(shown)}){notes}"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(finding)}</li>" for finding in self.findings)
        return f"<p>{html.escape(repr(self.defense))}</p><ul>{notes}</ul>{self.history._repr_html_()}"


def history_dataset(
    records: list[dict[str, Any]], attrs: dict[str, Any], recorded: Mapping[str, tuple[str, str, str]] | None = None
) -> xr.Dataset:
    """The records of epochs, one variable a quantity, with `attrs`; `recorded` says what a defense's own mean."""
    known = RECORDS | dict(recorded or {})
    found: dict[str, xr.Variable] = {}
    for name in dict.fromkeys(key for record in records for key in record if key != "epoch"):
        stem = name.removesuffix("_interval")
        about = known.get(stem, (stem.replace("_", " "), "nat", "mean over the epoch of a term of the loss"))
        if name == stem:
            values = np.array([record.get(name, np.nan) for record in records], dtype=float)
            found[name] = variable("epoch", values, *about)
        else:
            bounds = np.array([record.get(name, NOTHING) for record in records], dtype=float)
            found[name] = variable(
                "epoch bound", bounds, f"95 % interval of {about[0]}", about[1], "Wilson score interval"
            )
    coords = {"epoch": [record["epoch"] for record in records], "bound": ["low", "high"]}
    plain = {name: value if isinstance(value, str | int) else json.dumps(value) for name, value in attrs.items()}
    return xr.Dataset(found, coords, plain)
