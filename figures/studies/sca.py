"""Shah and Raj, arXiv 2308.03956: a self-consistent hidden layer beside perceptrons, trained on clean images or not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data
from netprobe.defenses import SCADefense
from netprobe.defenses.sca.defense import PUBLISHED
from netprobe.errors import MissingData
from netprobe.gallery import Study, result
from netprobe.training.initial import defended, initial

MLP, SCA, WITHOUT = "MLP", "SCA", "T=0"
ADVERSARIAL = " adversarial"
EPS = {"image": (0.025, 0.05, 0.1, 0.125, 0.15, 0.2), "waveform": (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3)}
"""Published budgets."""
LOW = {"image": "", "waveform": ",low=-1"}
"""The setting of attacks that says where inputs begin."""
TRAINING_EPS = {"image": 0.3, "waveform": 2.5e-4}


def perceptron(data: Data, width: int, deep: bool) -> tuple[str, dict[str, Any]]:
    """The network without the layer, and how to build it: one hidden layer, or four and as many parameters as with it.

    The second of four is narrower where inputs are images: 384 at 784 pixels.
    """
    second = round(384 / 784 * math.prod(data.shape)) if data.kind == "image" else width
    about = {"hidden": (width, second, width, width) if deep else (width,), "dropout": 0.2 if deep else 0.0}
    return ("mlp", about | {"normalize": ((0.5,), (0.5,))}) if data.kind == "image" else ("words_mlp", about)


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
        },
    }

    @property
    def first(self) -> str:
        """The data set of all figures but the tables."""
        return self.settings["data"][0]

    @property
    def middle(self) -> float:
        """The eps of figures of a single one."""
        return self.settings["middle"]

    @result
    def clean(self, data: str) -> xr.DataTree:
        """Table 1: networks trained on clean images under APGD over eps."""
        return self._evaluated(data, "")

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
        networks = {name: self._network(data, f"{name}{how}") for name in (MLP, WITHOUT, SCA)}
        settings = {"doubts": False, "preflight": False, "progress": self.progress}
        test = self._test(data)
        return npb.evaluate(networks, test, self._attacks(test.kind), folder=self.folder / "units", **settings)

    def _attacks(self, kind: str) -> dict[str, Any]:
        return npb.sweep(f"{self.settings['attack']}{LOW[kind]}", eps=self.settings["eps"][kind])

    def _one(self) -> dict[str, Any]:
        (attack,) = npb.sweep(self.settings["attack"], eps=[self.middle]).items()
        return dict([attack])

    def _test(self, data: str, limit: int | None = None) -> Data:
        return npb.data.load(data, limit=limit or self.settings["limits"][1])

    def _network(self, data: str, name: str) -> nn.Module:
        """The network of that name, its best epoch by validation loss; SCA is the one of as many steps as it has."""
        train, (kind, _, how) = npb.data.load(data, "train", limit=self.settings["limits"][0]), name.partition(" ")
        kind = f"T={self.settings['steps']}" if kind == SCA else kind
        architecture, about = perceptron(train, self.settings["width"], kind == MLP)
        network = initial(architecture, train, 0, **about)
        layer = None if kind == MLP else SCADefense(steps=int(kind.removeprefix("T=")))
        recipe = PUBLISHED.with_settings(epochs=self.settings["epochs"], batch_size=self.settings["batch_size"])
        if not how:
            return self.train(f"{data}-{kind}", layer or "natural", network, train, recipe)
        network = defended(network, layer, 0) if layer else network
        return self.train(f"{data}-{kind}-{how}", self._adversary(train.kind), network, train, recipe)

    def _adversary(self, kind: str) -> str:
        eps, steps = self.settings["training"]["eps"][kind], self.settings["training"]["steps"]
        return f"pgd-at:eps={eps},step_size={eps / 4:g},steps={steps}{LOW[kind]}"
