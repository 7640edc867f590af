"""What a probe has gathered so far: it merges with other parts, goes to disk, comes back, and becomes results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from netprobe.errors import CheckpointError, NetprobeError
from netprobe.metrics import METRICS, Metric, Readings
from netprobe.metrics.base import interval, variable
from netprobe.probing.kernels import KernelReduction
from netprobe.probing.observables import Layout, Observable
from netprobe.probing.streaming import ImageTable
from netprobe.sites import Site
from netprobe.store import atomically
from netprobe.uncertainty import wilson


@dataclass
class ModelPart:
    """One model's observables, by site and key, and its predictions.

    `outcomes` holds, per image, the label and the predicted class under every condition; `listened` the site names of
    each metric; `pending` the images of this part's share of the data that are still to do; `kernels_pending` the
    sites whose kernels are; `widest` the numbers of an image at the network's widest site (0: not known).
    """

    sites: dict[str, Site]
    listened: dict[str, list[str]]
    observables: dict[str, dict[tuple, Observable]]
    card: dict[str, Any]
    layout: Layout
    pending: list[int]
    outcomes: ImageTable = field(default_factory=ImageTable)
    kernels_pending: list[str] = field(default_factory=list)
    widest: int = 0

    @property
    def images(self) -> int:
        """Images seen."""
        return self.outcomes.count


@dataclass
class Partial:
    """Everything that one or more models' passes have left so far.

    Parts of the same probe on different images merge exactly (`merge`): float64 sums around a common shift. `compute`
    turns the whole into labelled results; it may be called at any time.
    """

    conditions: list[str]
    families: list[str]
    strengths: list[float]
    metrics: tuple[Metric, ...]
    provenance: dict[str, Any]
    models: dict[str, ModelPart] = field(default_factory=dict)
    findings: list[dict[str, str]] = field(default_factory=list)

    def merge(self, other: Partial) -> Partial:
        """Take in `other`, a part of the same probe on other images. Returns self."""
        for name in ("conditions", "metrics", "fingerprint"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise NetprobeError(f"these parts are of different probes: {name} {mine!r} and {theirs!r}")
        for name, part in other.models.items():
            self._merge_model(name, part)
        return self

    def _merge_model(self, name: str, theirs: ModelPart) -> None:
        mine = self.models.setdefault(name, theirs)
        if mine is theirs:
            return
        if mine.card["sha256"] != theirs.card["sha256"]:
            raise NetprobeError(f"these parts are of different probes: model {name!r} has other weights in each")
        if mine.layout != theirs.layout:
            raise NetprobeError("only one of these parts kept jackknife blocks: gather both with the same memory=")
        twice = np.intersect1d(mine.outcomes.read()[0], theirs.outcomes.read()[0])
        if twice.size:
            raise NetprobeError(
                f"{twice.size} images of model {name!r} are in both parts, the first is {twice[0]}; merge each once"
            )
        for site, by_key in theirs.observables.items():
            for key, observable in by_key.items():
                mine.observables[site][key].merge(observable)
        mine.outcomes.merge(theirs.outcomes)
        mine.pending = sorted({*mine.pending, *theirs.pending})

    def paired(self, model: str) -> bool:
        """Whether clean and perturbed images of `model` may share a batch: not if the pre-flight saw them interact."""
        return not any(f["model"] == model and f["check"] == "interaction" for f in self.findings)

    @property
    def fingerprint(self) -> str:
        """Settings that must agree for two parts to belong together."""
        return json.dumps({k: v for k, v in self.provenance.items() if k != "run"}, sort_keys=True)

    @property
    def complete(self) -> bool:
        """Whether every image of the data set and every kernel is done."""
        return all(part.images == part.layout.images and not part.kernels_pending for part in self.models.values())

    def compute(self) -> xr.DataTree:
        """The results so far: a tree /model/metric of Datasets; see `npb.probe`."""
        groups: dict[str, xr.Dataset] = {"/": xr.Dataset()}
        for name, part in self.models.items():
            if part.images:
                groups |= {f"/{name}/{group}": ds for group, ds in self._computed(part).items()}
        if self.findings:
            groups["/preflight"] = _findings(self.findings)
        tree = xr.DataTree.from_dict(groups)
        images = {name: part.images for name, part in self.models.items()}
        done = {
            "complete": self.complete,
            "images": images,
            "models": {n: p.card for n, p in self.models.items()},
        }
        for node in tree.subtree:
            if node.has_data or node is tree:
                node.attrs["provenance"] = json.dumps(self.provenance | done, sort_keys=True)
        return tree

    def _computed(self, part: ModelPart) -> dict[str, xr.Dataset]:
        results = {"accuracy": self._accuracy(part)}
        for metric in self.metrics:
            if not _waiting(metric, part):
                results[metric.name] = metric.compute(self._readings(part, part.listened[metric.name]))
        return results

    def _readings(self, part: ModelPart, names: Sequence[str]) -> Readings:
        sites = [part.sites[name] for name in names]
        last = max(site.order for site in part.sites.values()) or 1
        coords = {
            "condition": {"condition": self.conditions, "family": self.families, "eps": self.strengths},
            "perturbation": {
                "perturbation": self.conditions[1:],
                "family": self.families[1:],
                "eps": self.strengths[1:],
            },
            "image": {"image": part.outcomes.read()[0]},
            "site": {
                "site": list(names),
                "kind": [site.kind for site in sites],
                "order": [site.order for site in sites],
                "depth": [site.order / last for site in sites],
            },
        }
        return Readings(sites, self.conditions, part.layout, part.observables, coords)

    def _accuracy(self, part: ModelPart) -> xr.Dataset:
        values = part.outcomes.read()[1].astype(np.int64)
        label, prediction = values[:, 0], values[:, 1:].T
        correct = prediction == label
        accuracy = variable("condition", correct.mean(1), "accuracy", "1", "share of images classified as labelled")
        bounds = [wilson(row.sum(), row.size) for row in correct]
        return self._readings(part, []).dataset(
            {
                "accuracy": accuracy,
                "accuracy_interval": interval("condition", bounds, accuracy, "Wilson score interval"),
                "correct": variable(
                    "condition image", correct.astype(np.int8), "correct", "1", "1 if classified as labelled"
                ),
                "prediction": variable(
                    "condition image", prediction, "predicted class", "class", "index of the largest logit"
                ),
                "label": variable("image", label, "label", "class", "index of the true class"),
            }
        )

    def save(self, path: str | Path) -> Path:
        """Write the part to `path`, atomically, as tensors and JSON: reading it back executes no code."""
        content = {
            "description": json.dumps(self._description()),
            "state": {n: _state(p) for n, p in self.models.items()},
        }
        return atomically(Path(path), lambda part: torch.save(content, part))

    def _description(self) -> dict[str, Any]:
        return {
            "conditions": self.conditions,
            "families": self.families,
            "strengths": self.strengths,
            "metrics": [{"metric": m.name, **dataclasses.asdict(m)} for m in self.metrics],
            "provenance": self.provenance,
            "findings": self.findings,
            "models": {name: _model_description(part) for name, part in self.models.items()},
        }

    @classmethod
    def load(cls, path: str | Path, metrics: Iterable[Metric] = ()) -> Partial:
        """The part that `save` wrote to `path`.

        metrics : some that are not enrolled, such as one of your own that the part has; others are known by name.
        """
        try:
            content = torch.load(path, weights_only=True)
            description = json.loads(content["description"])
        except Exception as error:  # torch.load raises what its format's layers raise; all mean the same here
            raise CheckpointError(f"{str(path)!r} is not a partial probe result, or it is damaged ({error})") from error
        models = description.pop("models")
        own = {metric.name: type(metric) for metric in metrics}
        partial = cls(metrics=tuple(_metric(m, own, path) for m in description.pop("metrics")), **description)
        for name, model in models.items():
            partial.models[name] = _restored(model, content["state"][name], partial)
        return partial


def _waiting(metric: Metric, part: ModelPart) -> bool:
    """Whether `metric` needs kernels that are still to come."""
    linking = any(isinstance(o, KernelReduction) for o in metric.observables(part.layout))
    return linking and not set(part.kernels_pending).isdisjoint(part.listened[metric.name])


def fresh_observables(metrics: Sequence[Metric], listened: Mapping[str, list[str]], layout: Layout) -> dict[str, dict]:
    """New observables for every site, by site name and key; metrics that need the same one share it."""
    observables: dict[str, dict[tuple, Observable]] = {}
    for metric in metrics:
        for site in listened[metric.name]:
            for observable in metric.observables(layout):
                keyed = observables.setdefault(site, {})
                if observable.key not in keyed or observable.detail > keyed[observable.key].detail:
                    keyed[observable.key] = observable
    return observables


def _findings(findings: list[dict[str, str]]) -> xr.Dataset:
    names = ("model", "severity", "check", "evidence", "remedy")
    return xr.Dataset({name: ("finding", [f[name] for f in findings]) for name in names})


def _state(part: ModelPart) -> dict[str, Any]:
    observables = {s: {repr(k): o.state() for k, o in keyed.items()} for s, keyed in part.observables.items()}
    return {"observables": observables, "outcomes": part.outcomes.state()}


def _model_description(part: ModelPart) -> dict[str, Any]:
    sites = [dataclasses.asdict(s) | {"lineage": sorted(s.lineage)} for s in part.sites.values()]
    kept = {name: getattr(part, name) for name in ("listened", "card", "pending", "kernels_pending", "widest")}
    return {"sites": sites, "layout": dataclasses.asdict(part.layout), **kept}


def _restored(described: dict[str, Any], state: dict[str, Any], partial: Partial) -> ModelPart:
    sites = [
        Site(**{k: _tuples(v) for k, v in s.items()} | {"lineage": frozenset(s["lineage"])})
        for s in described.pop("sites")
    ]
    layout = Layout(**described.pop("layout"))
    observables = fresh_observables(partial.metrics, described["listened"], layout)
    for site, keyed in observables.items():
        for key, observable in keyed.items():
            observable.restore(state["observables"][site][repr(key)])
    outcomes = ImageTable.restore(state["outcomes"])
    return ModelPart({s.name: s for s in sites}, observables=observables, layout=layout, outcomes=outcomes, **described)


def _metric(described: dict[str, Any], own: Mapping[str, type[Metric]], path: str | Path) -> Metric:
    name, settings = described["metric"], {k: _tuples(v) for k, v in described.items() if k != "metric"}
    cls = own.get(name) or METRICS.get(name)
    if cls is None:
        raise CheckpointError(
            f"{str(path)!r} holds the metric {name!r}, which is none of {', '.join(METRICS)}: give it to "
            f"Partial.load(path, metrics=[...]), or enrol its class by an entry point of {METRICS.group!r}"
        )
    return cls(**settings)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
