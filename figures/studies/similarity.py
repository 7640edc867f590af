"""arXiv 2410.03952: networks regularised to find images as alike as their pixels are, and how robust they become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data
from netprobe.defenses.regularisers import Similarity as Regulariser
from netprobe.evaluation.presets import BlackBox
from netprobe.gallery import Study, result
from netprobe.perturb import Boundary


class Similarity(Study):
    """Networks with the regulariser and without (plain), each trained with several seeds.

    Curves are means over the trainings with t intervals. Attacks are transferred from one more plain network.
    """

    name = "similarity"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": {"what": "digits"},
            "limits": (400, 60),
            "network": "digits_cnn",
            "regulariser": "similarity:coupling=4,threshold=0.4,count=200,sites=relu*",
            "seeds": 2,
            "recipe": {"recipe": "quick", "epochs": 6, "batch_size": 32, "validation": 0.0},
            "noise": {"points": 4},
            "boundary": {"steps": 25, "repeats": 2, "images": 8, "long": 100},
            "corruptions": {"severities": (1, 4), "names": ("gaussian_noise", "defocus_blur", "contrast")},
            "compared": 40,
            "rsa": {"resamples": 50, "permutations": 100},
        },
        "paper": {
            "data": {"what": "cifar10", "channels": 1},
            "limits": (None, None),
            "network": "resnet18",
            "regulariser": "similarity:coupling=10,threshold=0.8",
            "seeds": 7,
            "recipe": {"recipe": Regulariser().published("resnet18", (1, 32, 32))},
            "noise": {"points": 10},
            "boundary": {"steps": 50, "repeats": 5, "images": 1000, "long": 5000},
            "corruptions": {"severities": (1, 2, 3, 4, 5), "names": None},
            "compared": 1000,
            "rsa": {"resamples": 200, "permutations": 1000},
        },
    }

    @result
    def noise(self) -> xr.DataTree:
        """Figure 2: noises and transferred FGSM over their strengths."""
        test, surrogate = self._test(), {"surrogate": self._network("plain", self.settings["seeds"])}
        preset = BlackBox(parts=("noise", "transfer"), **self.settings["noise"])
        return npb.over_seeds(self._evaluated(test, preset.conditions(test, surrogate)))

    @result
    def boundary(self) -> xr.DataTree:
        """Figure 2: distances that the Boundary attack finds in few steps, and in many."""
        steps, repeats, images, long = self.settings["boundary"].values()
        named = {
            f"boundary {steps} steps-{n}": Boundary(steps=steps, away_from="prediction") for n in range(1, repeats + 1)
        }
        named[f"boundary {long} steps"] = Boundary(steps=long, away_from="prediction")
        return npb.over_seeds(self._evaluated(self._test(images), named))

    @result
    def corrupted(self) -> xr.DataTree:
        """Figure 5: common corruptions, of one seed each."""
        return self._evaluated(self._test(), self._corruptions(), seeds=1)

    @result
    def gains(self) -> xr.DataTree:
        """What is gained under corruptions of low and high frequency."""
        spectra = npb.perturbation_spectra(None, self._test(), self._corruptions(), progress=self.progress)
        return npb.frequency_gains(self.corrupted(), spectra, "plain-0")

    @result
    def spectra(self) -> xr.DataTree:
        """Spatial frequencies of minimal perturbations, of one seed each."""
        images = self._test(self.settings["boundary"]["images"])
        attack = {"boundary": Boundary(steps=self.settings["boundary"]["long"])}
        return npb.perturbation_spectra(self._networks(1), images, attack, progress=self.progress)

    @result
    def matrices(self) -> xr.DataTree:
        """Figure 1: how alike images are in pixels and in the layers."""
        some = self._test(self.settings["compared"])
        settings = {"sites": "relu*", "preflight": False, "progress": self.progress}
        return npb.similarity_matrices(self._networks(1), some, **settings)

    @result
    def rsa(self) -> xr.DataTree:
        """The correlations of these matrices."""
        return npb.rsa(self.matrices(), among=False, progress=self.progress, **self.settings["rsa"])

    def _corruptions(self) -> dict[str, Any]:
        chosen = self.settings["corruptions"]
        if chosen["names"] is None:
            return BlackBox(parts=("corruptions",), severities=chosen["severities"]).conditions(self._test(), {})
        return npb.evaluation.corruptions(chosen["severities"], chosen["names"], self._test().shape[0])

    def _evaluated(self, data: Data, attacks: Any, seeds: int | None = None) -> xr.DataTree:
        settings = {"doubts": False, "preflight": False, "progress": self.progress}
        networks = self._networks(seeds or self.settings["seeds"])
        return npb.evaluate(networks, data, attacks, folder=self.folder / "units", **settings)

    def _networks(self, seeds: int) -> dict[str, nn.Module]:
        return {f"{way}-{seed}": self._network(way, seed) for way in ("plain", "regularised") for seed in range(seeds)}

    def _network(self, way: str, seed: int) -> nn.Module:
        train = npb.data.load(**self.settings["data"], split="train", limit=self.settings["limits"][0])
        how = {"regularise": self.settings["regulariser"]} if way == "regularised" else {}
        how |= self.settings["recipe"] or {"recipe": npb.defenses.regularisers.Regulariser().published("", (1, 32, 32))}
        return self.train(f"{way}-{seed}", "natural", self.settings["network"], train, seed=seed, **how)

    def _test(self, limit: int | None = None) -> Data:
        return npb.data.load(**self.settings["data"], limit=limit or self.settings["limits"][1])
