"""Section 4.2 and appendix B of Bakiskan (2022): the sparse coding front end, with dropout and without."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data, data_root
from netprobe.errors import MissingData
from netprobe.gallery import Study, result
from netprobe.perturb import PGD, ZOO, HopSkipJump, Transfer
from netprobe.perturb.backward import declared_passes
from netprobe.training.initial import initial
from studies.compact import compact

BENCHMARKS = {"NT": "natural", "AT": "pgd-at", "TRADES": "trades"}
PUBLIC = {
    "NT": "resnet_sgd_cyc_0.0500_NT_ep_100.pt",
    "AT": "resnet_sgd_cyc_0.0500_PGD_eps_8_Ns_10_ss_1_Nr_1_ep_100.pt",
}
"""Released networks of the work, in the folder `checkpoints` of the data root."""
SOURCE = "canbakiskan/neuro-inspired-defense"
"""Where they are from."""


class SparseCoding(Study):
    """Networks behind the front end (sparse-T; stochastic, and its unsupervised twin) and without: NT, AT, TRADES."""

    name = "sparse-coding"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "limits": (200, 30),
            "network": "digits_cnn",
            "normalize": None,
            "front": "sparse-coding:patch=4,stride=2,atoms=40,steps=20,eps=8/255",
            "tops": (2, 4),
            "stochastic": "top=8,dropout=0.5",
            "budgets": {"eps": 8 / 255, "l2": 0.6, "l1": 6.0},
            "attack": {"steps": 5, "restarts": 2},
            "averaged": {"steps": 5, "eot": 2},
            "variants": {
                "baseline": {"steps": 5, "restarts": 2, "step_size": 1 / 255, "backward": "smooth"},
                "U=2T": {"steps": 5, "restarts": 2, "step_size": 1 / 255, "backward": "smooth-topu"},
            },
            "curve": {"eps": (8, 64, 128), "steps": 5, "restarts": 2},
            "evaluation": {},
            "decision": {"steps": 3, "images": 6, "zoo": {"steps": 10, "binary_search_steps": 2}},
            "recipe": {"recipe": "quick", "epochs": 5, "batch_size": 32, "validation": 0.0},
            "recipes": {},
            "benchmarks": ("NT", "AT", "TRADES"),
            "adversarial": "eps=8/255,step_size=1/255,steps=3",
            "public": {},
        },
        "reduced": {
            "data": "cifar10-jpeg",
            "limits": (10000, 100),
            "network": "resnet32_thin",
            "normalize": "cifar10",
            "front": "sparse-coding",
            "tops": (15,),
            "stochastic": "top=50,dropout=0.95",
            "budgets": {"eps": 8 / 255, "l2": 0.6, "l1": 30.0},
            "attack": {"steps": 40, "restarts": 5},
            "averaged": {"steps": 20, "eot": 10},
            "variants": {
                "baseline": {"steps": 40, "restarts": 2, "step_size": 1 / 255, "backward": "smooth"},
                "U=2T": {"steps": 40, "restarts": 2, "step_size": 1 / 255, "backward": "smooth-topu"},
            },
            "curve": {"eps": (4, 8, 16, 32, 64, 128), "steps": 40, "restarts": 1},
            "evaluation": {"gradients": "bfloat16"},
            "decision": {"steps": 10, "images": 50, "zoo": {"steps": 1000}},
            "recipe": {"epochs": 4, "precision": "bfloat16"},
            "recipes": {"unsupervised": {"epochs": 6}},
            "benchmarks": ("NT", "AT"),
            "adversarial": None,
            "public": PUBLIC,
        },
        "paper": {
            "data": "cifar10",
            "limits": (None, None),
            "network": "resnet32_thin",
            "normalize": "cifar10",
            "front": "sparse-coding",
            "tops": (1, 2, 5, 10, 15, 20),
            "stochastic": "top=50,dropout=0.95",
            "budgets": {"eps": 8 / 255, "l2": 0.6, "l1": 30.0},
            "attack": {"steps": 40, "restarts": 100},
            "averaged": {"steps": 20, "eot": 40},
            "variants": {
                "baseline": {"steps": 40, "restarts": 10, "step_size": 1 / 255, "backward": "smooth"},
                "U=2T": {"steps": 40, "restarts": 10, "step_size": 1 / 255, "backward": "smooth-topu"},
                "1000 steps": {"steps": 1000, "step_size": 0.5 / 255, "backward": "smooth"},
                "100 restarts": {"steps": 40, "restarts": 100, "step_size": 1 / 255, "backward": "smooth"},
                "U=2T, 100 restarts": {"steps": 40, "restarts": 100, "step_size": 1 / 255, "backward": "smooth-topu"},
            },
            "curve": {"eps": (4, 8, 16, 24, 32, 40, 48, 56, 64, 128), "steps": 40, "restarts": 100},
            "evaluation": {},
            "decision": {"steps": None, "images": 100, "zoo": {"steps": 1000}},
            "recipe": {},
            "recipes": {},
            "benchmarks": ("NT", "AT", "TRADES"),
            "adversarial": "eps=8/255,step_size=1/255,steps=10",
            "public": {},
        },
    }

    @property
    def top(self) -> int:
        """T of all figures: 15 of those of the work, and the larger of the small ones."""
        tops = self.settings["tops"]
        return 15 if 15 in tops else tops[-1]

    @property
    def networks(self) -> list[str]:
        """The one with the front end, then those without."""
        return ["sparse", *self.settings["benchmarks"]]

    @result
    def attacked(self, name: str) -> xr.DataTree:
        """Table 4.5: a network under attacks in four balls."""
        budgets = self.settings["budgets"]
        balls = {
            "linf-ce": {"eps": budgets["eps"]},
            "linf-cw": {"eps": budgets["eps"], "loss": "cw"},
            "l2": {"eps": budgets["l2"], "norm": "l2"},
            "l1": {"eps": budgets["l1"], "norm": "l1"},
        }
        network, shared = self._network(name), self.settings["attack"]
        way = "smooth-topu" if declared_passes(network) else None
        named = {kind: PGD(**ball, **shared, step_size=ball["eps"] / 8, backward=way) for kind, ball in balls.items()}
        return self._evaluated({name: network}, named)

    @result
    def stochastic(self) -> xr.DataTree:
        """Tables 4.2 and 4.3: the front end with dropout under white-box attacks, and such made elsewhere."""
        eps, averaged = self.settings["budgets"]["eps"], self.settings["averaged"]
        shared = {"step_size": 1 / 255, "random_start": False}
        twin, surrogate = self._stochastic("unsupervised"), self._benchmark("AT")
        named = {
            "white-box": PGD(eps, **shared, **averaged, normalised=True, backward="smooth"),
            "pw-t": Transfer(PGD(eps, **shared, **averaged, normalised=True, backward="front-end"), twin),
            "black-box": Transfer(PGD(eps, **shared, steps=averaged["steps"]), surrogate),
        }
        return self._evaluated({"sparse": self._stochastic("supervised")}, named)

    @result
    def restarts(self) -> xr.DataTree:
        """Table B.1: networks with each T, under attacks of other passes, steps and restarts."""
        named = {name: PGD(self.settings["budgets"]["eps"], **each) for name, each in self.settings["variants"].items()}
        networks = {f"T={top}": self._sparse(top) for top in self.settings["tops"]}
        return self._evaluated(networks, named)

    @result
    def decision(self) -> xr.DataTree:
        """Table B.2: HopSkipJump from the nearest image of another class."""
        given = {"steps": self.settings["decision"]["steps"]} if self.settings["decision"]["steps"] else {}
        attack = HopSkipJump(start="nearest", **given).with_pool(self._test())
        return self._evaluated(self._all(), {"hopskipjump": attack}, self.settings["decision"]["images"])

    @result
    def scores(self) -> xr.DataTree:
        """Table B.3: ZOO."""
        decision = self.settings["decision"]
        return self._evaluated(self._all(), {"zoo": ZOO(**decision["zoo"])}, decision["images"])

    @result
    def atoms(self) -> xr.Dataset:
        """The dictionary, and how much each atom is used."""
        return npb.dictionary_atoms(self._sparse(self.top), self._train.take(100, 0), progress=self.progress)

    @result
    def steps(self) -> xr.Dataset:
        """The code of a patch of one image, with dropout."""
        return npb.code_steps(self._stochastic("supervised"), self._test().inputs[0])

    @result
    def correlations(self) -> xr.Dataset:
        """Figure 4.10: the correlations of a patch with atoms and with the first filters of a network without them."""
        return npb.patch_correlations(self._sparse(self.top), self._benchmark("NT"), self._train.inputs[0])

    @result
    def curve(self) -> xr.DataTree:
        """Figure 4.13: accuracy over eps, with steps of eps / 8."""
        curve = self.settings["curve"]
        shared = {"steps": curve["steps"], "restarts": curve["restarts"], "backward": "smooth-topu"}
        named = {f"pgd@{eps}/255": PGD(eps / 255, step_size=eps / 255 / 8, **shared) for eps in curve["eps"]}
        return self._evaluated({"sparse": self._sparse(self.top)}, named)

    @result
    def surrogates(self) -> xr.Dataset:
        """Figure B.2: the quantiser and its smooth surrogates."""
        return npb.surrogate_curves()

    def _all(self) -> dict[str, nn.Module]:
        return {name: self._network(name) for name in self.networks}

    def _network(self, name: str) -> nn.Module:
        return self._benchmark(name) if name in BENCHMARKS else self._sparse(self.top)

    def _sparse(self, top: int) -> nn.Module:
        return self._behind(f"sparse-{top}", f"top={top}")

    def _stochastic(self, training: str) -> nn.Module:
        return self._behind(training, f"{self.settings['stochastic']},training={training}")

    def _behind(self, name: str, settings: str) -> nn.Module:
        front = self.settings["front"]
        return self._trained(name, f"{front}{',' if ':' in front else ':'}{settings}")

    def _benchmark(self, name: str) -> nn.Module:
        if name in self.settings["public"]:
            return self._released(self.settings["public"][name])
        way = BENCHMARKS[name]
        return self._trained(name, way if way == "natural" else f"{way}:{self.settings['adversarial']}")

    def _released(self, file: str) -> nn.Module:
        path = data_root() / "checkpoints" / file
        if not path.exists():
            raise MissingData(f"no checkpoint {file} of {SOURCE} in {str(path.parent)!r}: put it there")
        return npb.load(self.settings["network"], path, normalize=self.settings["normalize"])

    def _trained(self, name: str, defense: str) -> nn.Module:
        network = initial(self.settings["network"], self._train, 0, normalize=self.settings["normalize"])
        recipe = self.settings["recipe"] | self.settings["recipes"].get(name, {})
        return self.train(name, defense, network, self._train, **recipe)

    def _evaluated(self, networks: Mapping[str, nn.Module], attacks: Any, limit: int | None = None) -> xr.DataTree:
        test = self._test() if limit is None else npb.data.load(self.settings["data"], limit=limit)
        settings = {"doubts": False, "preflight": False, "progress": self.progress, **self.settings["evaluation"]}
        return compact(npb.evaluate(networks, test, attacks, folder=self.folder / "units", **settings))

    @functools.cached_property
    def _train(self) -> Data:
        return npb.data.load(self.settings["data"], "train", limit=self.settings["limits"][0])

    def _test(self) -> Data:
        return npb.data.load(self.settings["data"], limit=self.settings["limits"][1])
