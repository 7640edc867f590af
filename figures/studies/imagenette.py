"""Table 4.4 of Bakiskan (2022): the sparse coding front end with dropout on larger photographs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr

import netprobe as npb
from netprobe.data import Data
from netprobe.gallery import result
from netprobe.perturb import PGD, Transfer
from studies.sparse_coding import BENCHMARKS, SparseCoding

SPARSE = "sparse"


class Imagenette(SparseCoding):
    """The networks of CIFAR-10 again on other images; their only result is `over_eps`. Steps of attacks are of eps / 8.

    Networks without the front end are attacked from as many random points as gradients are averaged over of the one
    with it, so that all attacks take equally many gradients.
    """

    name = "imagenette"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": {"what": "digits"},
            "limits": (200, 12),
            "network": "digits_cnn",
            "normalize": None,
            "front": "sparse-coding:patch=4,stride=2,atoms=40,steps=20,eps=8/255",
            "stochastic": "top=8,dropout=0.5",
            "eps": (2 / 255, 4 / 255, 8 / 255),
            "averaged": {"steps": 3, "eot": 2},
            "evaluation": {},
            "recipe": {"recipe": "quick", "epochs": 3, "batch_size": 32, "validation": 0.0},
            "recipes": {},
            "benchmarks": tuple(BENCHMARKS),
            "adversarial": "eps=8/255,step_size=1/255,steps=3",
            "public": {},
        },
        "paper": {
            "data": {"what": "imagenette", "size": 160},
            "limits": (None, None),
            "network": "torchvision:efficientnet_b0",
            "normalize": "imagenet",
            "front": "sparse-coding",
            "stochastic": "dropout=0.95",
            "eps": (2 / 255, 4 / 255, 8 / 255),
            "averaged": {"steps": 20, "eot": 40},
            "evaluation": {},
            "recipe": {},
            "recipes": {},
            "benchmarks": tuple(BENCHMARKS),
            "adversarial": "eps=8/255,step_size=1/255,steps=10",
            "public": {},
        },
    }

    @result
    def over_eps(self, name: str) -> xr.DataTree:
        """A network under attacks called KIND@EPS."""
        attacks = self._adaptive if name == SPARSE else self._plain
        named = {f"{kind}@{eps:g}": each for eps in self.settings["eps"] for kind, each in attacks(eps).items()}
        network = self._stochastic("supervised") if name == SPARSE else self._benchmark(name)
        return self._evaluated({name: network}, named)

    def _plain(self, eps: float) -> dict[str, Any]:
        steps, points = self.settings["averaged"].values()
        return {"pgd": PGD(eps, step_size=eps / 8, steps=steps, restarts=points)}

    def _adaptive(self, eps: float) -> dict[str, Any]:
        """White-box, and made on the network whose decoder was trained without supervision."""
        shared = {"step_size": eps / 8, "random_start": False, "normalised": True, **self.settings["averaged"]}
        on_twin = PGD(eps, backward="front-end", **shared)
        return {
            "white-box": PGD(eps, backward="smooth", **shared),
            "pw-t": Transfer(on_twin, self._stochastic("unsupervised")),
        }

    @functools.cached_property
    def _train(self) -> Data:
        return npb.data.load(**self.settings["data"], split="train", limit=self.settings["limits"][0])

    def _test(self) -> Data:
        return npb.data.load(**self.settings["data"], limit=self.settings["limits"][1])
