"""A study: trainings and what is measured of them, made once and shared by figures."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from torch import nn

from netprobe.devices import preferred_device
from netprobe.errors import MissingData, NetprobeError, unknown
from netprobe.store import atomically, model_card, open_results, provenance, save_results, versions
from netprobe.training import fit

SETTINGS = "study.json"
Results = xr.DataTree | xr.Dataset


def result(compute: Callable[..., Results]) -> Callable[..., Results]:
    """Decorator of a method of a `Study`: what it returns is kept as NAME.nc, and read from there the next time.

    Of a method with arguments, which are words, NAME-ARGUMENT.nc.
    """

    @functools.wraps(compute)
    def kept(study: Study, *words: str) -> Results:
        return study.kept("-".join([compute.__name__, *words]), functools.partial(compute, study, *words))

    return kept


class Study:
    """What some figures have in common: networks, and results of them, each computed when a figure first asks.

    A study of one's own has `name`, `scales`, and a method with `@result` for everything that figures are drawn from:

        class Depth(Study):
            name = "depth"
            scales = {"smoke": {"epochs": 2, "data": "digits"}, "paper": {"epochs": 80, "data": "cifar10"}}

            @result
            def psr(self):
                return npb.probe({"natural": self.train("natural", "natural", "resnet18", data)}, ...)

    Parameters
    ----------
    scale : one of `scales`, whose settings are `self.settings`.
    folder : where results of all studies are; this one's are in NAME-SCALE.
    run : whether to compute what is not there. A folder whose results come from other settings is then an error; where
        nothing is computed, what is there is shown, whatever its settings, which the provenance tells.
    progress : show the bars of single trainings and measurements.

    What was done is kept, so that an interrupted study goes on from there. A file says in its attribute "study" of
    which settings it is, of which trainings (their keys, and the SHA-256 of the networks), and which versions made it.
    `used` has, by name, the files and provenance of the results that were asked for.
    """

    name: ClassVar[str]
    scales: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(self, scale: str, folder: str | Path, *, run: bool = False, progress: bool = True) -> None:
        if scale not in self.scales:
            raise unknown(f"scale of {self.name}", scale, self.scales)
        self.scale, self.settings = scale, dict(self.scales[scale])
        self.folder = Path(folder) / f"{self.name}-{scale}"
        self.run, self.progress = run, progress
        self.used: dict[str, dict[str, Any]] = {}
        self._known: dict[str, tuple[xr.DataTree, str]] = {}
        self._fitted: dict[str, dict[str, str]] = {}

    @classmethod
    def found(cls, folder: str | Path) -> list[str]:
        """The scales that there are results of in `folder`, the largest last."""
        return [scale for scale in cls.scales if any((Path(folder) / f"{cls.name}-{scale}").glob("*.nc"))]

    def kept(self, name: str, compute: Callable[[], Results]) -> Results:
        """The result called `name`: as it is known or in its file, or else computed."""
        if name not in self._known:
            path = self.folder / f"{name}.nc"
            if self.run:
                self._claim()
            if not path.exists():
                self._compute(path, compute)
            self._known[name] = open_results(path), hashlib.sha256(path.read_bytes()).hexdigest()
        tree, digest = self._known[name]
        self.used[name] = {"sha256": digest, **_about(tree)}
        return tree if tree.children else tree.to_dataset()

    def _compute(self, path: Path, compute: Callable[[], Results]) -> None:
        if not self.run:
            raise MissingData(f"no results {str(path)!r}: make them with --run --scale {self.scale}")
        self._fitted = {}
        found = compute()
        tree = found if isinstance(found, xr.DataTree) else xr.DataTree(found)
        made = {"trainings": self._fitted, "versions": versions()}
        tree.attrs["study"] = json.dumps(self._description() | made, sort_keys=True)
        save_results(tree, path)

    def _claim(self) -> None:
        """Write down what the folder is of; an error if it is of something else."""
        path, ours = self.folder / SETTINGS, json.dumps(self._description(), indent=1, sort_keys=True)
        if path.exists() and path.read_text() != ours:
            raise NetprobeError(
                f"{str(self.folder)!r} has results of other settings ({SETTINGS}): remove it, or choose another folder"
            )
        atomically(path, lambda part: part.write_text(ours))

    def _description(self) -> dict[str, Any]:
        return {
            "study": self.name,
            "scale": self.scale,
            "settings": json.loads(json.dumps(self.settings, default=repr)),
        }

    def train(self, name: str, defense: Any, model: Any, data: Any, recipe: Any = None, **settings: Any) -> nn.Module:
        """The network that `netprobe.fit` gives with these arguments, kept under `name`."""
        return self.trained(name, defense, model, data, recipe, **settings).model

    def trained(self, name: str, defense: Any, model: Any, data: Any, recipe: Any = None, **settings: Any) -> Any:
        """What `netprobe.fit` returns, of a training that is kept under `name`; on a GPU if there is one."""
        how = {"device": preferred_device(), "progress": self.progress} | settings
        found = fit(defense, model, data, recipe, out=self.folder / "training" / name, name=f"training {name}", **how)
        self._fitted[name] = {"key": provenance(found.history)["key"], "sha256": model_card(found.model)["sha256"]}
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scale!r}, {str(self.folder.parent)!r})"


def _about(tree: xr.DataTree) -> dict[str, Any]:
    """The settings of the study, and of what measured it where that says so."""
    found = {"study": json.loads(tree.attrs["study"])} if "study" in tree.attrs else {}
    return found | ({"provenance": provenance(tree)} if "provenance" in tree.attrs else {})
