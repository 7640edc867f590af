"""Chapter 3 of Bakiskan (2022): which layers must be trained adversarially, and what that changes in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data, data_root
from netprobe.errors import MissingData
from netprobe.gallery import Study, result
from netprobe.store import provenance, stamped
from netprobe.training.initial import initial
from netprobe.training.partial.planning import study_of
from netprobe.training.partial.units import Whole

QUICK = {"recipe": "quick", "epochs": 8, "batch_size": 32, "adversarial": "pgd-at:eps=0.15,steps=2"}
RELEASED = "resnet_sgd_cyc_0.0500_{}_ep_100.pt"
"""Checkpoints of canbakiskan/neuro-inspired-defense, in the folder `checkpoints` of the data root."""
NEAREST = {
    "fmn": "fmn:norm=l2,steps=100",
    "h8": "hopskipjump:steps=8",
    "h32": "hopskipjump:steps=32",
    "b1k": "boundary:steps=1000",
    "b5k": "boundary:steps=5000",
    "b25k": "boundary:steps=25000",
}
"""Attacks that look for the nearest error, for longer and longer."""
PUBLISHED = {"adversarial": "pgd-at:eps=8/255,step_size=2/255,steps=10"}


class Depth(Study):
    """Two networks, one for each optimiser of the chapter, trained naturally, adversarially and in parts.

    The whole networks are those that the partial trainings begin with. Each is attacked by its own PGD. At the scale
    "reduced" they are two that the author of the work trained (narrow ResNet-32, SGD); what is trained in parts there
    is a small network on digits.
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
            "nearest": {
                "images": 12,
                "attacks": {"fmn": "fmn:norm=l2,steps=20", "h2": "hopskipjump:steps=2", "b50": "boundary:steps=50"},
            },
        },
        "reduced": {
            "data": "cifar10-jpeg",
            "limits": (None, 200),
            "networks": {"sgd": "resnet32_thin"},
            "normalize": "cifar10",
            "checkpoints": {
                "natural": RELEASED.format("NT"),
                "adversarial": RELEASED.format("PGD_eps_8_Ns_10_ss_1_Nr_1"),
            },
            "attack": "pgd:eps=8/255,step_size=1/255,steps=40",
            "nearest": {"images": 12, "attacks": NEAREST},
            "parts": {
                "data": "digits",
                "limits": (None, None),
                "networks": {"sgd": "digits_cnn"},
                "normalize": None,
                "trainings": {"sgd": {"recipe": "quick", "adversarial": "pgd-at:eps=0.15,steps=7"}},
                "cutoffs": "blocks",
                "layers": "all",
                "seeds": (0, 1, 2),
            },
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
            "nearest": {"images": 100, "attacks": NEAREST | {"h64": "hopskipjump:steps=64"}},
        },
    }

    @property
    def roles(self) -> tuple[str, ...]:
        """The optimisers that there are networks of."""
        return tuple(self.settings["networks"])

    @property
    def parts(self) -> Mapping[str, Any]:
        """The settings of what is trained in parts."""
        return self.settings | self.settings.get("parts", {})

    @result
    def partial(self, role: str) -> xr.DataTree:
        """Every code in two parts, at every cutoff."""
        return self._swept(role, "A1N2,N1A2,A2N1,N2A1", "cutoffs")

    @result
    def layers(self, role: str) -> xr.DataTree:
        """A single layer trained the other way."""
        return self._swept(role, "N2A1_l", "layers")

    @result
    def probe(self, role: str) -> xr.DataTree:
        """Perturbation-to-signal ratios at the outputs of convolutions."""
        attack = {"pgd": self.settings.get("attack") or self._common(role).attack}
        some, settings = _images(self.settings, "test"), {"preflight": False, "progress": self.progress}
        return npb.probe(self.pair(role), some, attack, "psr", "conv", **settings)

    @result
    def weights(self, role: str) -> xr.DataTree:
        """Singular values, filters and batch norm."""
        settings = {"method": "circular", "padding": "circular", "layers": "conv"}
        return npb.weights.analyse(
            self.pair(role), _images(self.settings, "test").shape, progress=self.progress, **settings
        )

    @result
    def nearest(self, role: str) -> xr.DataTree:
        """Minimal perturbations: their norms and spatial frequencies; no values of single images."""
        asked = self.settings["nearest"]
        some = npb.data.load(self.settings["data"], limit=asked["images"])
        settings = {"doubts": False, "preflight": False, "spectra": True, "progress": self.progress}
        networks = self.pair(role)
        found = npb.evaluate(networks, some, asked["attacks"], folder=self.folder / "nearest", **settings)
        nodes = [found[name][what] for name in networks for what in ("minimum_norm", "perturbation_spectrum")]
        groups = {node.path: node.to_dataset().drop_dims("image", errors="ignore") for node in nodes}
        return stamped(groups, provenance(found))

    def both(self, of: str) -> xr.DataTree:
        """The results of both networks, as models of one tree."""
        networks = self.parts["networks"].items()
        return xr.DataTree.from_dict({f"/{name}, {role}": getattr(self, of)(role) for role, name in networks})

    def pair(self, role: str) -> dict[str, nn.Module]:
        """The network trained naturally and adversarially."""
        if role not in self.roles:
            raise MissingData(f"at scale {self.scale} there is no network for {role}: see --scale")
        if "checkpoints" in self.settings:
            return {way: self._loaded(role, file) for way, file in self.settings["checkpoints"].items()}
        common = self._common(role)
        return {way: common.trained(Whole(way, self.settings["seeds"][0])).model for way in ("natural", "adversarial")}

    def _loaded(self, role: str, file: str) -> nn.Module:
        path = data_root() / "checkpoints" / file
        if not path.is_file():
            raise MissingData(f"no checkpoint {file} in {path.parent}: see Data in the main README")
        return npb.load(self.settings["networks"][role], path, normalize=self.settings["normalize"])

    def _common(self, role: str) -> Any:
        return study_of(*self._asked(role), self.folder / role, progress=self.progress, **self.parts["trainings"][role])

    def _swept(self, role: str, codes: str, where: str) -> xr.DataTree:
        how = self.parts["trainings"][role] | {"seeds": self.parts["seeds"], "progress": self.progress}
        data = npb.training.partial.sweep(*self._asked(role), codes, self.parts[where], out=self.folder / role, **how)
        return xr.DataTree.from_dict({"/partial": data})

    def _asked(self, role: str) -> tuple[nn.Module, tuple[Data, Data]]:
        train, test = (_images(self.parts, split) for split in ("train", "test"))
        return initial(self.parts["networks"][role], train, 0, normalize=self.parts["normalize"]), (train, test)


def _images(settings: Mapping[str, Any], split: str) -> Data:
    limits = dict(zip(("train", "test"), settings["limits"], strict=True))
    return npb.data.load(settings["data"], split, limit=limits[split])
