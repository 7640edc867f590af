"""arXiv 2410.03952: networks regularised to find images as alike as their pixels are, and how robust they become."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data, data_root
from netprobe.defenses.regularisers import Similarity as Regulariser
from netprobe.errors import MissingData
from netprobe.evaluation.presets import BlackBox
from netprobe.gallery import Study, result
from netprobe.perturb import Boundary
from netprobe.store import provenance, stamped
from netprobe.training.initial import initial

PLAIN, REGULARISED = "plain", "regularised"
GREY, TARGETS, IMAGES, COLOUR = "grey", "targets", "images", "colour"
"""Variants: the first, and those of Figs. 2 (other targets), 3 (images of other sets) and 4 (and in colour)."""
STAGES = ("re:^relu$", "layer1", "layer2", "layer3", "layer4")
NARROW = {"stem": 7, "width": 16}
NOTHING = "similarity:coupling=0,pairs=1"
"""Plain training, with a look at how alike images are found."""
ABOUT_1 = "similarity:coupling=1,pairs=8,seed={seed}"
SAMPLES = "images={root}/imagenet-samples,split=all,size=36"
"""One image of each class of ImageNet."""
SHORT = {"precision": "bfloat16", "milestones": (1, 2, 3)}
PHOTOGRAPHS = {
    "data": {"what": "cifar10-jpeg"},
    "limits": (10000, 150),
    "network": ("resnet18", NARROW | {"normalize": ((0.5,), (0.2,))}),
    "ways": {PLAIN: NOTHING, REGULARISED: ABOUT_1},
    "recipe": SHORT | {"epochs": 8, "cycles": (4,)},
    "black_box": {
        "parts": ("noise", "transfer", "corruptions", "white-box"),
        "points": 4,
        "severities": (4,),
        "white_box": (1 / 255,),
    },
}
STROKES = {
    "limits": (6000, 150),
    "network": ("resnet18", NARROW),
    "recipe": SHORT | {"epochs": 4, "cycles": ()},
    "black_box": {"parts": ("noise", "transfer", "white-box"), "points": 4, "white_box": (0.1,)},
}
ON_DIGITS = "similarity:coupling=4,count=200,sites=relu*"
OTHER_DIGITS = {
    PLAIN: None,
    "own images": f"{ON_DIGITS},threshold=0.4",
    "other images": f"{ON_DIGITS},threshold=0.4,images=digits,split=test",
}
DIGIT_TARGETS = {"S^Th": f"{ON_DIGITS},threshold=0.4", "S^pixel": f"{ON_DIGITS},threshold=none"}
DIGITS = {
    "data": {"what": "digits"},
    "limits": (400, 60),
    "network": ("digits_cnn", {}),
    "ways": {PLAIN: None, REGULARISED: "similarity:coupling=4,threshold=0.4,count=200,sites=relu*"},
    "recipe": {"recipe": "quick", "epochs": 6, "batch_size": 32, "validation": 0.0},
    "black_box": {"parts": ("noise", "transfer"), "points": 4},
}
BRIEF = DIGITS | {
    "limits": (100, 20),
    "recipe": DIGITS["recipe"] | {"epochs": 4},
    "black_box": DIGITS["black_box"] | {"points": 3},
    "boundary": {"steps": 10, "repeats": 2, "images": 4, "long": None},
}
ON_CIFAR = "similarity:coupling=10,threshold=0.8"
IMAGENET = "images=imagenet,size=48"
"""Squares of as many pixels as the work's 36 x 64, from a folder of that name."""
BY_TARGETS = {"S^Th": f"{ON_CIFAR},{IMAGENET}", "S^pixel": f"similarity:coupling=10,threshold=none,{IMAGENET}"}
BY_IMAGES = {
    PLAIN: None,
    "CIFAR-10": ON_CIFAR,
    "CIFAR-100": f"{ON_CIFAR},images=cifar100",
    "ImageNet": f"{ON_CIFAR},{IMAGENET}",
}
PUBLISHED = {
    "data": {"what": "cifar10", "channels": 1},
    "limits": (None, None),
    "network": ("resnet18", {}),
    "ways": {PLAIN: None, REGULARISED: ON_CIFAR},
    "recipe": {"recipe": Regulariser().published("resnet18", (1, 32, 32))},
    "black_box": {"parts": ("noise", "transfer"), "points": 10},
}


def couplings(published: float, less: float, threshold: float) -> dict[str, str]:
    """Ways to train: plain, with the published coupling, and with less of it."""
    term = f"similarity:coupling={{}},threshold={threshold},pairs=8,seed={{{{seed}}}}"
    return {PLAIN: NOTHING, REGULARISED: term.format(published), "less": term.format(less)}


class Similarity(Study):
    """Networks with the regulariser and without (plain), each trained with several seeds, of one variant or more.

    A variant says on which data what is trained, in which `ways`: each a regulariser, or None, {seed} being that of the
    training and {root} the data root. Figures are of the first variant if they do not say of which. Curves are means
    over the trainings with t intervals. Attacks are transferred from one more plain network.
    """

    name = "similarity"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "variants": {
                GREY: DIGITS,
                TARGETS: BRIEF | {"ways": {PLAIN: None, **DIGIT_TARGETS}},
                IMAGES: BRIEF | {"ways": OTHER_DIGITS},
                COLOUR: BRIEF | {"data": {"what": "digits", "channels": 3}, "ways": OTHER_DIGITS},
            },
            "seeds": 2,
            "boundary": {"steps": 25, "repeats": 2, "images": 8, "long": 100},
            "minimal": {"steps": 100, "images": 8},
            "corruptions": {"severities": (1, 4), "names": ("gaussian_noise", "defocus_blur", "contrast")},
            "sites": "relu*",
            "compared": 40,
            "rsa": {"resamples": 50, "permutations": 100},
        },
        "reduced": {
            "variants": {
                GREY: PHOTOGRAPHS
                | {
                    "data": {"what": "cifar10-jpeg", "channels": 1},
                    "ways": {PLAIN: NOTHING, REGULARISED: ABOUT_1, "low": f"{ABOUT_1},kept=low"},
                },
                IMAGES: PHOTOGRAPHS
                | {
                    "data": {"what": "cifar10-jpeg", "channels": 1},
                    "ways": {PLAIN: NOTHING, "cifar10-jpeg": ABOUT_1, "ImageNet": f"{ABOUT_1},{SAMPLES}"},
                },
                COLOUR: PHOTOGRAPHS | {"ways": {PLAIN: NOTHING, "cifar10-jpeg": ABOUT_1}},
                "mnist": STROKES | {"data": {"what": "mnist"}, "ways": couplings(4, 0.4, threshold=0.2)},
                "fashion-mnist": STROKES | {"data": {"what": "fashion-mnist"}, "ways": couplings(10, 1, threshold=0.8)},
            },
            "seeds": 3,
            "boundary": {"steps": 50, "repeats": 3, "images": 150, "long": None},
            "minimal": {"steps": 1000, "images": 30},
            "corruptions": {"severities": (1, 2, 3, 4, 5), "names": None},
            "sites": STAGES,
            "compared": 64,
            "rsa": {"resamples": 200, "permutations": 1000},
        },
        "paper": {
            "variants": {
                GREY: PUBLISHED,
                TARGETS: PUBLISHED | {"ways": {PLAIN: None, **BY_TARGETS}},
                IMAGES: PUBLISHED | {"ways": BY_IMAGES},
                COLOUR: PUBLISHED | {"data": {"what": "cifar10"}, "ways": BY_IMAGES},
            },
            "seeds": 7,
            "boundary": {"steps": 50, "repeats": 5, "images": 1000, "long": 5000},
            "minimal": {"steps": 5000, "images": 1000},
            "corruptions": {"severities": (1, 2, 3, 4, 5), "names": None},
            "sites": STAGES,
            "compared": 1000,
            "rsa": {"resamples": 200, "permutations": 1000},
        },
    }

    @result
    def black_box(self, variant: str) -> xr.DataTree:
        """Figures 2 to 4: noises and transferred FGSM over strengths, and what else of the preset the scale has."""
        test = self._test(variant)
        surrogate = {PLAIN: self._network(variant, PLAIN, self.settings["seeds"])}
        attacks = BlackBox(**self._variant(variant)["black_box"]).conditions(test, surrogate)
        return npb.over_seeds(self._evaluated(variant, test, attacks))

    @result
    def boundary(self, variant: str) -> xr.DataTree:
        """Likewise distances that the Boundary attack finds in few steps, and in many."""
        about = self._variant(variant).get("boundary", self.settings["boundary"])
        steps, repeats, images, long = about.values()
        named = {f"boundary {steps} steps-{n}": _boundary(steps) for n in range(1, repeats + 1)}
        named |= {f"boundary {long} steps": _boundary(long)} if long else {}
        return npb.over_seeds(self._evaluated(variant, self._test(variant, images), named))

    @result
    def corrupted(self) -> xr.DataTree:
        """Figure 5: common corruptions, of one seed each."""
        found = self._evaluated(self.first, self._test(), self._corruptions(), seeds=1)
        names = (name for name in found.children if "corruptions" in found[name])
        tables = {f"/{name}/corruptions": found[name]["corruptions"].to_dataset() for name in names}
        return stamped(tables, provenance(found))

    def each_corruption(self) -> xr.DataTree:
        """The same, mean over the trainings if the scale has corruptions of all of them."""
        every = self.black_box(self.first)
        return every if "corruptions" in every[PLAIN] else self.corrupted()

    @result
    def gains(self) -> xr.DataTree:
        """What is gained under corruptions of low and high frequency."""
        spectra = npb.perturbation_spectra(None, self._test(), self._corruptions(), progress=self.progress)
        return npb.frequency_gains(self.corrupted(), spectra, f"{PLAIN}-0")

    @result
    def spectra(self) -> xr.DataTree:
        """Spatial frequencies of minimal perturbations, of one seed each."""
        steps, images = self.settings["minimal"].values()
        networks, attack = self._networks(self.first, 1), {"boundary": _boundary(steps)}
        return npb.perturbation_spectra(networks, self._test(limit=images), attack, progress=self.progress)

    @result
    def matrices(self) -> xr.DataTree:
        """Figure 1: how alike images are in pixels and in the layers."""
        some, networks = self._test(limit=self.settings["compared"]), self._networks(self.first, 1)
        settings = {"sites": self.settings["sites"], "preflight": False, "progress": self.progress}
        return npb.similarity_matrices(networks, some, **settings)

    @result
    def rsa(self) -> xr.DataTree:
        """The correlations of these matrices."""
        return npb.rsa(self.matrices(), among=False, progress=self.progress, **self.settings["rsa"])

    @property
    def first(self) -> str:
        """The variant of figures that do not say which."""
        return next(iter(self.settings["variants"]))

    def _variant(self, name: str) -> Mapping[str, Any]:
        if name not in self.settings["variants"]:
            raise MissingData(f"at scale {self.scale} no network of this study is trained on {name}: see --scale")
        return self.settings["variants"][name]

    def _corruptions(self) -> dict[str, Any]:
        severities, names = self.settings["corruptions"].values()
        if names is None:
            return BlackBox(parts=("corruptions",), severities=severities).conditions(self._test(), {})
        return npb.evaluation.corruptions(severities, names, self._test().shape[0])

    def _evaluated(self, variant: str, data: Data, attacks: Any, seeds: int | None = None) -> xr.DataTree:
        settings = {"doubts": False, "preflight": False, "progress": self.progress}
        networks = self._networks(variant, seeds or self.settings["seeds"])
        return npb.evaluate(networks, data, attacks, folder=self.folder / "units", **settings)

    def _networks(self, variant: str, seeds: int) -> dict[str, nn.Module]:
        ways = self._variant(variant)["ways"]
        return {f"{way}-{seed}": self._network(variant, way, seed) for way in ways for seed in range(seeds)}

    def _network(self, variant: str, way: str, seed: int) -> nn.Module:
        about = self._variant(variant)
        train = _images(**about["data"], split="train", limit=about["limits"][0], seed=seed)
        term = about["ways"][way]
        how = {"regularise": term.format(seed=seed, root=data_root())} if term else {}
        architecture, arguments = about["network"]
        how |= {"seed": seed} | about["recipe"]
        network = initial(architecture, train, seed, **arguments)
        return self.train(f"{variant}-{way}-{seed}", "natural", network, train, **how)

    def _test(self, variant: str | None = None, limit: int | None = None) -> Data:
        about = self._variant(variant or self.first)
        return npb.data.load(**about["data"], limit=limit or about["limits"][1])


@functools.lru_cache
def _images(**which: Any) -> Data:
    """Photographs are decoded once for all networks that learn from them."""
    return npb.data.load(**which)


def _boundary(steps: int) -> Boundary:
    return Boundary(steps=steps, away_from="prediction")
