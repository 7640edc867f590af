"""Chapter 5 of Bakiskan (2022): networks with Hebbian / anti-Hebbian blocks, and what each component does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data
from netprobe.defenses.hah import firing
from netprobe.evaluation import corruptions
from netprobe.gallery import Study, result
from netprobe.metrics import SNR, Hoyer
from netprobe.training.initial import initial
from studies.compact import compact

COMPONENTS = {
    "standard": "hah:blocks=0",
    "HaH": "hah",
    "no-loss": "hah:scale=0",
    "batch-norm": "hah:norm=batch",
    "no-threshold": "hah:rule=none",
    "text": "hah:variant=text",
}
"""Table 5.3, and the blocks as the text describes them, where the authors' code does otherwise."""
PAIR = ("standard", "HaH")
BENCHMARK = (
    *("gaussian_noise", "shot_noise", "speckle_noise", "impulse_noise", "snow", "fog", "frost", "brightness"),
    *("defocus_blur", "gaussian_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate"),
    "spatter",
)
"""The sixteen of Table 5.2."""


class HaH(Study):
    """One network with standard blocks, with HaH blocks, without single components of them, and with fewer of them."""

    name = "hah"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "limits": (400, 60),
            "network": "digits_cnn",
            "normalize": None,
            "components": tuple(COMPONENTS),
            "blocks": 2,
            "fewer": (0, 1, 2),
            "recipe": {"recipe": "quick", "epochs": 8, "batch_size": 32, "validation": 0.0},
            "cheating": "hah:reach=all",
            "adversarial": "pgd-at:eps=8/255,step_size=2/255,steps=3",
            "linf": "apgd:eps=8/255,steps=5",
            "l2": "apgd:eps=0.5,norm=l2,steps=5",
            "attacked": None,
            "evaluation": {},
            "doubted": {"eps": (4 / 255, 8 / 255), "steps": 5, "queries": 20, "images": 30, "probe_images": 20},
            "noise": (0.1, 0.2, 0.3),
            "fmn": {"norms": ("1", "2"), "steps": 20, "images": 30},
            "corruptions": {"names": ("gaussian_noise", "contrast"), "severities": (5,)},
            "probed": 60,
            "seen": 60,
        },
        "reduced": {
            "data": "cifar10-jpeg",
            "limits": (30000, 300),
            "network": "vgg16",
            "normalize": "cifar10",
            "components": (*PAIR, "no-loss"),
            "blocks": 6,
            "fewer": (0, 6),
            "recipe": {"epochs": 3, "batch_size": 64, "schedule": "cosine", "precision": "bfloat16"},
            "adversarial": None,
            "linf": "autoattack:version=apgd,eps=2/255",
            "l2": "autoattack:version=apgd,norm=l2,eps=0.25",
            "attacked": 100,
            "evaluation": {"gradients": "bfloat16"},
            "doubted": {"eps": (1 / 255, 2 / 255), "steps": 20, "queries": 1000, "images": 100, "probe_images": 50},
            "noise": (0.02, 0.05, 0.1, 0.15, 0.2),
            "fmn": {"norms": ("2", "inf"), "steps": 30, "images": 50},
            "corruptions": {"names": BENCHMARK, "severities": (5,)},
            "probed": 300,
            "seen": 6,
        },
        "paper": {
            "data": "cifar10",
            "limits": (None, None),
            "network": "vgg16",
            "normalize": "cifar10",
            "components": tuple(COMPONENTS),
            "blocks": 6,
            "fewer": (0, 1, 2, 3, 4, 5, 6, 7),
            "recipe": {},
            "cheating": "hah:reach=all",
            "adversarial": "pgd-at:eps=8/255,step_size=2/255,steps=7",
            "linf": "autoattack:version=apgd,eps=2/255",
            "l2": "autoattack:version=apgd,norm=l2,eps=0.25",
            "attacked": None,
            "evaluation": {},
            "doubted": {"eps": (1 / 255, 2 / 255), "steps": 40, "queries": 5000, "images": 1000, "probe_images": 250},
            "noise": tuple(np.linspace(0.02, 0.2, 10).round(2).tolist()),
            "fmn": {"norms": ("0", "1", "2", "inf"), "steps": 100, "images": 1000},
            "corruptions": {"names": BENCHMARK, "severities": (5,)},
            "probed": 1000,
            "seen": 6,
        },
    }

    def components(self) -> list[xr.DataTree]:
        """Tables 5.1 and 5.3, of the components that the scale has trainings of."""
        return [self.component(name) for name in self.settings["components"]]

    @result
    def component(self, name: str) -> xr.DataTree:
        """One network of them: clean, under noise and attacked."""
        named = {"noise": npb.GaussianNoise(0.1), "linf": self.settings["linf"], "l2": self.settings["l2"]}
        return self._evaluated({name: self._network(name)}, named, self.settings["attacked"])

    @result
    def doubted(self) -> xr.DataTree:
        """Whether the gradients of these networks can be believed: by attacks with and without them."""
        how = self.settings["doubted"]
        attacks = npb.sweep(f"pgd:steps={how['steps']}", eps=how["eps"])
        attacks |= {"square": f"square:eps={how['eps'][-1]:g},queries={how['queries']}"}
        networks = {name: self._network(name) for name in self.settings["components"]}
        asked = {"doubts": True, "probe_images": how["probe_images"]}
        return self._evaluated(networks, attacks, how["images"], **asked)

    @result
    def blocks(self) -> xr.DataTree:
        """Figure 5.10: by how many blocks there are."""
        named = {"noise": npb.GaussianNoise(0.1), "linf": self.settings["linf"]}
        known = {0: "standard", self.settings["blocks"]: "HaH"}
        names = {count: known.get(count, f"blocks-{count}") for count in self.settings["fewer"]}
        networks = {f"blocks={count}": self._hah(name, f"hah:blocks={count}") for count, name in names.items()}
        return self._evaluated(networks, named, self.settings["attacked"])

    @result
    def noise(self) -> xr.DataTree:
        """Figure 5.7: accuracy over the standard deviation of noise."""
        return self._evaluated(self._pair(), npb.sweep("gaussian", eps=self.settings["noise"]))

    @result
    def corrupted(self) -> xr.DataTree:
        """Table 5.2: common corruptions, with an adversarially trained network beside, if the scale has one."""
        chosen, adversarial = self.settings["corruptions"], self.settings["adversarial"]
        networks = self._pair() | ({"AT": self._trained("AT", adversarial)} if adversarial else {})
        return self._evaluated(networks, corruptions(chosen["severities"], chosen["names"]))

    @result
    def minimum_norm(self) -> xr.DataTree:
        """Figure 5.8: FMN in several norms."""
        fmn = self.settings["fmn"]
        named = {f"fmn-l{norm}": f"fmn:norm=l{norm},steps={fmn['steps']}" for norm in fmn["norms"]}
        return self._evaluated(self._pair(), named, fmn["images"])

    @result
    def probe(self) -> xr.DataTree:
        """Figures 5.4 and 5.6: sparsity at what blocks put out, signal-to-noise ratios at what they take in."""
        metrics = [Hoyer(sites="block"), SNR(sites="block:in")]
        some, settings = self._data(self.settings["probed"]), {"preflight": False, "progress": self.progress}
        return npb.probe(self._pair(), some, {"noise": npb.GaussianNoise(0.1)}, metrics, **settings)

    @result
    def maps(self, name: str) -> xr.Dataset:
        """Figure 5.5: what the blocks of a network take in of one image, and what noise changes of it."""
        noise = {"noise": npb.GaussianNoise(0.1)}
        return npb.signal_maps(self._network(name), self._data(1), noise, "block:in")

    @result
    def fires(self) -> xr.DataTree:
        """Figure 5.3: how often each channel is among the strongest; of a cheating network too, if there is one."""
        some, networks = self._data(self.settings["probed"]), self._pair()
        if "cheating" in self.settings:
            networks |= {"cheating": self._hah("cheating", self.settings["cheating"])}
        found = {name: firing(model, some, "conv", progress=self.progress) for name, model in networks.items()}
        return xr.DataTree.from_dict({f"/{name}/firing": each for name, each in found.items()})

    @result
    def gradcam(self) -> xr.DataTree:
        """Figure 5.9: Grad-CAM at the first block."""
        some = self._data(self.settings["seen"])
        maps = {name: npb.grad_cam(model, some, layer=first_block(model)) for name, model in self._pair().items()}
        return xr.DataTree.from_dict({f"/{name}/gradcam": each for name, each in maps.items()})

    def _pair(self) -> dict[str, nn.Module]:
        return {name: self._network(name) for name in PAIR}

    def _network(self, name: str) -> nn.Module:
        return self._hah(name, COMPONENTS[name])

    def _hah(self, name: str, defense: str) -> nn.Module:
        blocks = "" if "blocks=" in defense else f"{',' if ':' in defense else ':'}blocks={self.settings['blocks']}"
        return self._trained(name, f"{defense}{blocks}")

    def _trained(self, name: str, defense: str) -> nn.Module:
        network = initial(self.settings["network"], self._images, 0, normalize=self.settings["normalize"])
        return self.train(name, defense, network, self._images, **self.settings["recipe"])

    @functools.cached_property
    def _images(self) -> Data:
        return npb.data.load(self.settings["data"], "train", limit=self.settings["limits"][0])

    def _evaluated(
        self, networks: Mapping[str, nn.Module], attacks: Any, limit: int | None = None, **asked: Any
    ) -> xr.DataTree:
        settings = {"doubts": False, "preflight": False, "progress": self.progress, **self.settings["evaluation"]}
        settings |= asked
        return compact(npb.evaluate(networks, self._data(limit), attacks, folder=self.folder / "units", **settings))

    def _data(self, limit: int | None = None) -> Data:
        return npb.data.load(self.settings["data"], limit=limit or self.settings["limits"][1])


def first_block(model: nn.Module) -> str:
    """Where the first block puts out."""
    (name, *_) = (name for name, module in model.named_modules() if "Block" in type(module).__name__)
    return name
