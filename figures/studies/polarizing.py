"""Section 4.1 of Bakiskan (2022): the polarizing front end beside its control, adversarial training and no defense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr

import netprobe as npb
from netprobe.gallery import Study, result
from netprobe.training import Trained
from studies.compact import compact

WAYS = ("none", "adversarial", "polarizing", "pixels")


class Polarizing(Study):
    """On each data set four networks: none, adversarial, polarizing, and pixels, quantised without any filter.

    Steps of attacks are a tenth of eps, as published. Adversarial training has one restart, where the work has ten.
    """

    name = "polarizing"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": {"digits": {"eps": 0.2, "threshold": 0.3, "steps": 2}},
            "networks": WAYS,
            "limits": (400, 60),
            "network": "digits_cnn",
            "recipe": {
                "recipe": "quick",
                "epochs": 12,
                "optimizer": "adam",
                "lr": 0.005,
                "batch_size": 32,
                "validation": 0.0,
            },
            "recipes": {},
            "attacks": {"steps": 10, "restarts": 2},
            "evaluation": {},
            "curve": {"largest": 0.4, "step": 0.2, "attacks": {"steps": 10, "restarts": 2}, "images": None},
            "seen": 200,
        },
        "reduced": {
            "data": {
                "mnist": {"eps": 0.3, "threshold": 0.5, "steps": 20},
                "fashion-mnist": {"eps": 0.1, "threshold": 0.3, "steps": 20},
            },
            "networks": ("none", "polarizing", "pixels"),
            "limits": (None, 500),
            "network": "lenet",
            "recipe": {"precision": "bfloat16", "epochs": 8, "milestones": (6,)},
            "recipes": {
                "mnist-polarizing": {"epochs": 60, "milestones": (50,)},
                "fashion-mnist-polarizing": {"epochs": 30, "milestones": (25,)},
            },
            "attacks": {"steps": 100, "restarts": 20},
            "evaluation": {"gradients": "bfloat16", "batch_size": 500},
            "curve": {"largest": 0.4, "step": 0.05, "attacks": {"steps": 40, "restarts": 1}, "images": 200},
            "seen": 2000,
        },
        "paper": {
            "data": {
                "mnist": {"eps": 0.3, "threshold": 0.5, "steps": 20},
                "fashion-mnist": {"eps": 0.1, "threshold": 0.3, "steps": 20},
            },
            "networks": WAYS,
            "limits": (None, None),
            "network": "lenet",
            "recipe": {},
            "recipes": {},
            "attacks": {"steps": 100, "restarts": 20},
            "evaluation": {},
            "curve": {"largest": 0.38, "step": 0.02, "attacks": {"steps": 100, "restarts": 20}, "images": None},
            "seen": None,
        },
    }

    @property
    def sets(self) -> list[str]:
        """The data sets, the one of the curves first."""
        return list(self.settings["data"])

    @result
    def attacked(self, data: str) -> xr.DataTree:
        """Table 4.1: FGSM, BIM and PGD at the eps of the data."""
        eps, attacks = self.settings["data"][data]["eps"], self.settings["attacks"]
        named = {
            "fgsm": npb.FGSM(eps),
            "bim": npb.BIM(eps, steps=20, step_size=eps / 10),
            "pgd": npb.PGD(eps, step_size=eps / 10, **attacks),
        }
        return self._evaluated(data, named, self.settings["limits"][1])

    @result
    def curves(self, data: str) -> xr.DataTree:
        """Figure 4.7: BIM and PGD over eps."""
        curve, named = self.settings["curve"], {}
        for eps in np.arange(curve["step"], curve["largest"] + curve["step"] / 2, curve["step"]).round(4).tolist():
            named[f"bim@{eps:g}"] = npb.BIM(eps, steps=20, step_size=eps / 10)
            named[f"pgd@{eps:g}"] = npb.PGD(eps, step_size=eps / 10, **curve["attacks"])
        return self._evaluated(data, named, curve["images"] or self.settings["limits"][1])

    @result
    def stages(self, data: str) -> xr.Dataset:
        """Outputs and weights of the filters after every stage of training."""
        trained = self._network(data, "polarizing")
        ended = {f"stage {number}": network for number, network in enumerate(trained.stages, 1)}
        eps, seen = self.settings["data"][data]["eps"], self.settings["seen"]
        images = npb.data.load(data, "train", limit=seen)
        return npb.defenses.polarizing.polarization(ended | {"trained": trained.last}, images, eps, progress=False)

    @result
    def bumps(self) -> xr.Dataset:
        """What training pushes outputs by."""
        return npb.quantiser_curves(npb.defenses.PolarizingDefense(threshold=0.5))

    def _evaluated(self, data: str, attacks: Mapping[str, Any], limit: int | None) -> xr.DataTree:
        networks = {way: self._network(data, way).model for way in self.settings["networks"]}
        settings = {"doubts": False, "preflight": False, "progress": self.progress, **self.settings["evaluation"]}
        folder = self.folder / f"units-{data}"
        return compact(npb.evaluate(networks, npb.data.load(data, limit=limit), attacks, folder=folder, **settings))

    def _network(self, data: str, way: str) -> Trained:
        name, train = f"{data}-{way}", npb.data.load(data, "train", limit=self.settings["limits"][0])
        recipe = self.settings["recipe"] | self.settings["recipes"].get(name, {})
        return self.trained(name, self._defense(data, way), self.settings["network"], train, **recipe)

    def _defense(self, data: str, way: str) -> str:
        eps, threshold, steps = self.settings["data"][data].values()
        defenses = {
            "none": "natural",
            "adversarial": f"pgd-at:eps={eps},step_size={eps / 10:g},steps={steps}",
            "polarizing": f"polarizing:threshold={threshold},eps={eps}",
            "pixels": f"pixel-quantisation:threshold={threshold},eps={eps}",
        }
        return defenses[way]
