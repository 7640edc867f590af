"""Section 4.1 of Bakiskan (2022): the polarizing front end beside its control, adversarial training and no defense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.gallery import Study, result
from netprobe.training import Trained


class Polarizing(Study):
    """On each data set four networks: none, adversarial, polarizing, and pixels, quantised without any filter.

    Steps of attacks are a tenth of eps, as published. Adversarial training has one restart, where the work has ten.
    """

    name = "polarizing"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": {"digits": {"eps": 0.2, "threshold": 0.3, "steps": 2}},
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
            "attacks": {"steps": 10, "restarts": 2},
            "curve": {"largest": 0.4, "step": 0.2},
            "seen": 200,
        },
        "paper": {
            "data": {
                "mnist": {"eps": 0.3, "threshold": 0.5, "steps": 20},
                "fashion-mnist": {"eps": 0.1, "threshold": 0.3, "steps": 20},
            },
            "limits": (None, None),
            "network": "lenet",
            "recipe": {},
            "attacks": {"steps": 100, "restarts": 20},
            "curve": {"largest": 0.38, "step": 0.02},
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
        return self._evaluated(data, named)

    @result
    def curves(self, data: str) -> xr.DataTree:
        """Figure 4.7: BIM and PGD over eps."""
        reach, step = self.settings["curve"].values()
        named = {}
        for eps in np.arange(step, reach + step / 2, step).round(4).tolist():
            named[f"bim@{eps:g}"] = npb.BIM(eps, steps=20, step_size=eps / 10)
            named[f"pgd@{eps:g}"] = npb.PGD(eps, step_size=eps / 10, **self.settings["attacks"])
        return self._evaluated(data, named)

    @result
    def stages(self, data: str) -> xr.Dataset:
        """Outputs and weights of the filters after every stage of training."""
        trained = self._networks(data)["polarizing"]
        ended = {f"stage {number}": network for number, network in enumerate(trained.stages, 1)}
        eps, seen = self.settings["data"][data]["eps"], self.settings["seen"]
        images = npb.data.load(data, "train", limit=seen)
        return npb.defenses.polarizing.polarization(ended | {"trained": trained.last}, images, eps, progress=False)

    @result
    def bumps(self) -> xr.Dataset:
        """What training pushes outputs by."""
        return npb.quantiser_curves(npb.defenses.PolarizingDefense(threshold=0.5))

    def _evaluated(self, data: str, attacks: Mapping[str, Any]) -> xr.DataTree:
        networks: dict[str, nn.Module] = {name: each.model for name, each in self._networks(data).items()}
        test = npb.data.load(data, limit=self.settings["limits"][1])
        settings = {"doubts": False, "preflight": False, "progress": self.progress}
        return npb.evaluate(networks, test, attacks, folder=self.folder / f"units-{data}", **settings)

    def _networks(self, data: str) -> dict[str, Trained]:
        return {way: self._network(data, way, defense) for way, defense in self._defenses(data).items()}

    def _network(self, data: str, way: str, defense: str) -> Trained:
        train = npb.data.load(data, "train", limit=self.settings["limits"][0])
        return self.trained(f"{data}-{way}", defense, self.settings["network"], train, **self.settings["recipe"])

    def _defenses(self, data: str) -> dict[str, str]:
        eps, threshold, steps = self.settings["data"][data].values()
        return {
            "none": "natural",
            "adversarial": f"pgd-at:eps={eps},step_size={eps / 10:g},steps={steps}",
            "polarizing": f"polarizing:threshold={threshold},eps={eps}",
            "pixels": f"pixel-quantisation:threshold={threshold},eps={eps}",
        }
