"""Chapter 3 of Bakiskan (2022): which layers must be trained adversarially, and what that changes in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.gallery import Study, result
from netprobe.training.initial import initial
from netprobe.training.partial.planning import study_of
from netprobe.training.partial.units import Whole

QUICK = {"recipe": "quick", "epochs": 8, "batch_size": 32, "adversarial": "pgd-at:eps=0.15,steps=2"}
PUBLISHED = {"adversarial": "pgd-at:eps=8/255,step_size=2/255,steps=10"}


class Depth(Study):
    """Two networks, one for each optimiser of the chapter, trained naturally, adversarially and in parts.

    The whole networks are those that the partial trainings begin with. Each is attacked by its own PGD.
    """

    name = "depth"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "limits": (320, 100),
            "networks": {"sgd": "digits_cnn", "adam": "digits_cnn"},
            "normalize": None,
            "trainings": {
                "sgd": {"test": "pgd:eps=0.15,steps=10", **QUICK},
                "adam": {"test": "pgd:eps=0.15,steps=10", "optimizer": "adam", "lr": 0.005, **QUICK},
            },
            "cutoffs": (4, 8),
            "layers": (0, 8),
            "seeds": (0,),
        },
        "paper": {
            "data": "cifar10",
            "limits": (None, None),
            "networks": {"sgd": "resnet18", "adam": "vgg16"},
            "normalize": "cifar10",
            "trainings": {"sgd": PUBLISHED, "adam": PUBLISHED},
            "cutoffs": "all",
            "layers": "all",
            "seeds": (0,),
        },
    }
    roles = ("sgd", "adam")

    @result
    def partial(self, role: str) -> xr.DataTree:
        """Every code in two parts, at every cutoff."""
        return self._swept(role, "A1N2,N1A2,A2N1,N2A1", self.settings["cutoffs"])

    @result
    def layers(self, role: str) -> xr.DataTree:
        """A single layer trained the other way."""
        return self._swept(role, "N2A1_l", self.settings["layers"])

    @result
    def probe(self, role: str) -> xr.DataTree:
        """Perturbation-to-signal ratios at the outputs of convolutions."""
        attack = self._common(role).attack
        return npb.probe(
            self.pair(role), self.data[1], {"pgd": attack}, "psr", "conv", preflight=False, progress=self.progress
        )

    @result
    def weights(self, role: str) -> xr.DataTree:
        """Singular values, filters and batch norm."""
        settings = {"method": "circular", "padding": "circular", "layers": "conv"}
        return npb.weights.analyse(self.pair(role), self.data[1].shape, progress=self.progress, **settings)

    def both(self, of: str) -> xr.DataTree:
        """The results of both networks, as models of one tree."""
        networks = self.settings["networks"].items()
        return xr.DataTree.from_dict({f"/{name}, {role}": getattr(self, of)(role) for role, name in networks})

    def pair(self, role: str) -> dict[str, nn.Module]:
        """The network trained naturally and adversarially."""
        common = self._common(role)
        return {way: common.trained(Whole(way, self.settings["seeds"][0])).model for way in ("natural", "adversarial")}

    @property
    def data(self) -> tuple[npb.data.Data, npb.data.Data]:
        parts = zip(("train", "test"), self.settings["limits"], strict=True)
        return tuple(npb.data.load(self.settings["data"], part, limit=limit) for part, limit in parts)

    def _common(self, role: str) -> Any:
        return study_of(
            *self._asked(role), self.folder / role, progress=self.progress, **self.settings["trainings"][role]
        )

    def _swept(self, role: str, codes: str, cutoffs: Any) -> xr.DataTree:
        how = self.settings["trainings"][role] | {"seeds": self.settings["seeds"], "progress": self.progress}
        data = npb.training.partial.sweep(*self._asked(role), codes, cutoffs, out=self.folder / role, **how)
        return xr.DataTree.from_dict({"/partial": data})

    def _asked(self, role: str) -> tuple[nn.Module, tuple[npb.data.Data, npb.data.Data]]:
        train, test = self.data
        network = initial(self.settings["networks"][role], train, 0, normalize=self.settings["normalize"])
        return network, (train, test)
