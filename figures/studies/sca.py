"""Shah and Raj, arXiv 2308.03956: a self-consistent hidden layer beside perceptrons, trained on clean images or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data
from netprobe.defenses import SCADefense
from netprobe.defenses.sca.defense import PUBLISHED
from netprobe.errors import MissingData
from netprobe.gallery import Study, result
from netprobe.store import provenance, stamped
from netprobe.training.initial import defended, initial
from studies.compact import compact

MLP, SCA, WITHOUT = "MLP", "SCA", "T=0"
ADVERSARIAL = " adversarial"
EPS = {"image": (0.025, 0.05, 0.1, 0.125, 0.15, 0.2), "waveform": (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3)}
"""Published budgets."""
LOW = {"image": "", "waveform": ",low=-1"}
"""The setting of attacks that says where inputs begin."""
LENGTHS = {"spoken-digits": 8000, "speech-commands": 16000}
"""Samples of every recording: one second."""
TRAINING_EPS = {"image": 0.3, "waveform": 2.5e-4}


def perceptron(data: Data, width: int, deep: bool) -> tuple[str, dict[str, Any]]:
    """The network without the layer, and how to build it: one hidden layer, or four and as many parameters as with it.

    The second of four is narrower where inputs are images: 384 at 784 pixels.
    """
    second = round(384 / 784 * math.prod(data.shape)) if data.kind == "image" else width
    about = {"hidden": (width, second, width, width) if deep else (width,), "dropout": 0.2 if deep else 0.0}
    return ("mlp", about | {"normalize": ((0.5,), (0.5,))}) if data.kind == "image" else ("words_mlp", about)


def begun(kind: str, seed: int, data: Data, width: int) -> tuple[str | SCADefense, nn.Module]:
    """How MLP, or the network of so many steps, T=16 for example, is trained on clean images, and its first weights."""
    architecture, about = perceptron(data, width, kind == MLP)
    defense = "natural" if kind == MLP else SCADefense(steps=int(kind.removeprefix("T=")))
    return defense, initial(architecture, data, seed, **about)


def trained(kind: str, seed: int, data: Data, name: str, width: int, fit: Callable, **recipe: Any) -> nn.Module:
    """One of them by the published recipe, with these changes: its best epoch by validation loss. `fit` is called as
    `Study.train`.
    """
    return fit(name, *begun(kind, seed, data, width), data, PUBLISHED.with_settings(seed=seed, **recipe))


def over_eps(
    networks: Mapping[str, nn.Module],
    test: Data,
    attacks: Mapping[str, Any],
    folder: Path,
    correlated: int,
    progress: bool = True,
    batch_size: int | None = None,
) -> xr.DataTree:
    """Which images stand each attack on each network, and the correlation shift of its last hidden layer over the first
    `correlated` images.
    """
    plain = {"preflight": False, "progress": progress}
    found = npb.evaluate(networks, test, attacks, folder=folder, doubts=False, batch_size=batch_size, **plain)
    some, partial = test.select(range(min(correlated, len(test)))), folder / "correlation.partial"
    probed = npb.probe(networks, some, attacks, "correlation", sites="relu*", partial=partial, **plain)
    groups = {}
    for name in networks:
        evaluation = found[name]["evaluation"].to_dataset()
        groups[f"/{name}/evaluation"] = evaluation[["correct", "accuracy", "accuracy_interval"]]
        groups[f"/{name}/correlation"] = probed[name]["correlation"].to_dataset().isel(site=[-1])
    return stamped(groups, provenance(found))


class SelfConsistency(Study):
    """Networks by data set and name: MLP, SCA, and T=0, the latter without its steps; "MLP adversarial" and so on.

    Of adversarial training the scale says eps and steps; None: there are no such networks. Budgets are given by kind of
    data, image or waveform. Figures other than the tables are of the first data set, whose inputs are images.
    """

    name = "sca"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": ("digits",),
            "width": 48,
            "steps": 8,
            "sweep": (1, 2, 4, 8),
            "eps": {"image": (0.05, 0.1, 0.2)},
            "middle": 0.1,
            "epochs": 8,
            "batch_size": 64,
            "limits": (None, 100),
            "attack": "apgd:steps=6",
            "training": {"eps": {"image": 0.15}, "steps": 2},
            "seen": 100,
            "settled": 100,
            "several": {
                "data": {"digits": {}},
                "limits": (100, 20),
                "correlated": 20,
                "epochs": 1,
                "seeds": 2,
            },
            "doubted": {"steps": 5, "queries": 20, "images": 20, "probe_images": 20},
        },
        "reduced": {
            "data": ("mnist",),
            "width": 512,
            "steps": 16,
            "sweep": (),
            "eps": EPS,
            "middle": 0.1,
            "epochs": 12,
            "batch_size": 256,
            "limits": (None, 500),
            "attack": "apgd:steps=50",
            "training": None,
            "seen": 500,
            "settled": 100,
            "several": {
                "data": {
                    "mnist": {},
                    "fashion-mnist": {},
                    "spoken-digits": {"limits": (None, 300), "epochs": 10},
                },
                "limits": (20000, 500),
                "correlated": 200,
                "epochs": 6,
                "seeds": 3,
            },
            "doubted": {"steps": 20, "queries": 1000, "images": 200, "probe_images": 100},
        },
        "paper": {
            "data": ("fashion-mnist", "mnist", "speech-commands"),
            "width": 2048,
            "steps": 16,
            "sweep": (1, 2, 4, 8, 16),
            "eps": EPS,
            "middle": 0.05,
            "epochs": 100,
            "batch_size": 256,
            "limits": (None, None),
            "attack": "apgd:steps=50",
            "training": {"eps": TRAINING_EPS, "steps": 7},
            "seen": 1000,
            "settled": 1000,
            "several": None,
            "doubted": {"steps": 50, "queries": 5000, "images": 1000, "probe_images": 250},
        },
    }

    @property
    def first(self) -> str:
        """The data set of all figures but the tables."""
        return self.settings["data"][0]

    @property
    def shortly(self) -> list[str]:
        """The data sets that networks of several seeds are trained on, for a shorter time."""
        return list((self.settings["several"] or {"data": ()})["data"])

    @property
    def every(self) -> list[str]:
        """All data sets."""
        return list(dict.fromkeys([*self.settings["data"], *self.shortly]))

    @property
    def middle(self) -> float:
        """The eps of figures of a single one."""
        return self.settings["middle"]

    @result
    def clean(self, data: str) -> xr.DataTree:
        """Table 1: networks trained on clean images under APGD over eps."""
        return self._evaluated(data, "")

    @result
    def several(self, data: str) -> xr.DataTree:
        """Networks of several seeds, trained for a shorter time: under APGD, and how correlations change."""
        networks, test = self._several(data)
        some = {"correlated": self.settings["several"]["correlated"], "progress": self.progress}
        return over_eps(networks, test, self._attacks(test.kind), self.folder / f"several-{data}", **some)

    @result
    def doubted(self, data: str) -> xr.DataTree:
        """Whether the gradients of all networks of a data set can be believed: by attacks with and without them."""
        networks, how = self._three(data) if data in self.settings["data"] else {}, self.settings["doubted"]
        if data in self.shortly:
            networks |= {f"{name}, short": network for name, network in self._several(data)[0].items()}
        test = self._test(data, how["images"])
        eps, low = self.settings["eps"][test.kind], LOW[test.kind]
        attacks = npb.sweep(f"pgd:steps={how['steps']}{low}", eps=eps)
        attacks |= {"square": f"square:eps={eps[len(eps) // 2]},queries={how['queries']}{low}"}
        asked = {"probe_images": how["probe_images"], "preflight": False, "progress": self.progress}
        return compact(npb.evaluate(networks, test, attacks, folder=self.folder / "units", **asked))

    @result
    def adversarial(self, data: str) -> xr.DataTree:
        """Table 2: the same of networks trained adversarially."""
        if not self.settings["training"]:
            raise MissingData(f"at scale {self.scale} no network of this study is trained adversarially: see --scale")
        return self._evaluated(data, ADVERSARIAL)

    @result
    def by_steps(self) -> xr.Dataset:
        """Accuracy of networks trained and read at each T."""
        networks = {steps: self._network(self.first, f"T={steps}") for steps in self.settings["sweep"]}
        if not networks:
            raise MissingData(f"at scale {self.scale} no networks of this study are trained with other T: see --scale")
        return npb.accuracy_by_steps(networks, self._test(self.first), self._one(), progress=self.progress)

    @result
    def correlation(self) -> xr.DataTree:
        """How correlations of the last hidden layer change, each network under its own APGD."""
        names = (MLP, WITHOUT, SCA, *([MLP + ADVERSARIAL] if self.settings["training"] else []))
        networks = {name: self._network(self.first, name) for name in names}
        settings = {"sites": "relu*", "preflight": False, "progress": self.progress}
        some = self._test(self.first, self.settings["seen"])
        found = npb.probe(networks, some, self._attacks(some.kind), "correlation", **settings)
        return found.map_over_datasets(lambda each: each.isel(site=[-1]) if "site" in each.dims else each)

    @result
    def settling(self) -> xr.Dataset:
        """What the steps do to energies and to what is read out, past T."""
        some = self._test(self.first, self.settings["settled"])
        return npb.settling(self._network(self.first, SCA), some, self._one(), progress=self.progress)

    @result
    def planes(self) -> xr.Dataset:
        """Activations after some steps, in one plane."""
        steps = [step for step in (1, 4, 8, 16) if step <= self.settings["steps"]]
        some, network = self._test(self.first, self.settings["settled"]), self._network(self.first, SCA)
        return npb.activation_planes(network, some, self._one(), steps=steps, progress=self.progress)

    @result
    def lateral(self) -> xr.Dataset:
        """The lateral weights."""
        return npb.lateral_map(self._network(self.first, SCA))

    def _evaluated(self, data: str, how: str) -> xr.DataTree:
        networks = self._three(data, how)
        settings = {"doubts": False, "preflight": False, "progress": self.progress}
        test = self._test(data)
        return npb.evaluate(networks, test, self._attacks(test.kind), folder=self.folder / "units", **settings)

    def _three(self, data: str, how: str = "") -> dict[str, nn.Module]:
        return {name: self._network(data, f"{name}{how}") for name in (MLP, WITHOUT, SCA)}

    def _several(self, data: str) -> tuple[dict[str, nn.Module], Data]:
        """Networks of several seeds, and the data to try them on; what `data` says of itself goes before the rest."""
        how = self.settings["several"] | self.settings["several"]["data"][data]
        train, test = (_load(data, part, limit) for part, limit in zip(("train", "test"), how["limits"], strict=True))
        about = {"width": self.settings["width"], "epochs": how["epochs"], "fit": self.train}
        kinds = (MLP, WITHOUT, f"T={self.settings['steps']}")
        networks = {
            f"{kind} {seed}": trained(kind, seed, train, f"{data}-{kind}-{seed}", **about)
            for seed in range(how["seeds"])
            for kind in kinds
        }
        return networks, test

    def _attacks(self, kind: str) -> dict[str, Any]:
        return npb.sweep(f"{self.settings['attack']}{LOW[kind]}", eps=self.settings["eps"][kind])

    def _one(self) -> dict[str, Any]:
        (attack,) = npb.sweep(self.settings["attack"], eps=[self.middle]).items()
        return dict([attack])

    def _test(self, data: str, limit: int | None = None) -> Data:
        return _load(data, "test", limit or self.settings["limits"][1])

    def _network(self, data: str, name: str) -> nn.Module:
        """The network of that name, its best epoch by validation loss; SCA is the one of as many steps as it has."""
        train, (kind, _, how) = _load(data, "train", self.settings["limits"][0]), name.partition(" ")
        kind = f"T={self.settings['steps']}" if kind == SCA else kind
        recipe = {name: self.settings[name] for name in ("epochs", "batch_size")}
        if not how:
            return trained(kind, 0, train, f"{data}-{kind}", self.settings["width"], self.train, **recipe)
        layer, network = begun(kind, 0, train, self.settings["width"])
        network = defended(network, layer, 0) if kind != MLP else network
        adversary, name = self._adversary(train.kind), f"{data}-{kind}-{how}"
        return self.train(name, adversary, network, train, PUBLISHED.with_settings(**recipe))

    def _adversary(self, kind: str) -> str:
        eps, steps = self.settings["training"]["eps"][kind], self.settings["training"]["steps"]
        return f"pgd-at:eps={eps},step_size={eps / 4:g},steps={steps}{LOW[kind]}"


def _load(data: str, part: str, limit: int | None) -> Data:
    return npb.data.load(data, part, limit=limit, length=LENGTHS.get(data))
