"""Holzhausen et al., arXiv 2405.00679: a layer learnt locally beside others, and how smooth they all are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import xarray as xr
from torch import nn

import netprobe as npb
from netprobe.data import Data
from netprobe.defenses import Natural, parse_defense
from netprobe.defenses.krotov_hopfield.defense import DECODER
from netprobe.defenses.krotov_hopfield.prototypes import unpruned
from netprobe.defenses.regularisers import parse_regulariser
from netprobe.devices import preferred_device
from netprobe.errors import MissingData
from netprobe.gallery import Study, result
from netprobe.geometry import critical_distances, decision_plane, jacobian_norms, unit_spectra
from netprobe.geometry.walks import NARROW, WIDE
from netprobe.recipes import Recipe, preset
from netprobe.store import model_card, provenance, stamped, versions
from netprobe.training import Trained
from netprobe.training.initial import initial

HIDDEN, LOCAL_POWER = 2000, 4.5
ENOUGH = 3500
"""Images of a step of which a spectrum of 2000 eigenvalues is told, as by Nassar et al., arXiv 2012.04729."""
STRENGTHS = 100
"""How many eps are walked, if nothing else is said."""
FOLLOWED = 8
"""Even parts of a training after which a network is measured too, and after its first epoch and before it."""
CONTROL = "untrained"
WALKS = {"random": WIDE, "fgsm": NARROW, "pgd": NARROW}
SITE, REPRESENTATION, SCALED = "hidden", "relu", "scale"


class Kind(NamedTuple):
    """How one of the networks is trained, and its published numbers, in the order of `COLUMNS`."""

    regularise: tuple[str, ...] = ()
    local: bool = False
    batch_norm: bool = False
    paper: tuple[float | None, ...] | None = None

    @property
    def power(self) -> float:
        return LOCAL_POWER if self.local else 1.0


KINDS = {
    "KH": Kind(local=True, paper=(47.2, 3.1, 0.124, 0.120, 2.67, 1.29, None)),
    CONTROL: Kind(local=True, paper=(None, None, None, None, 1.53, 0.11, None)),
    "BP": Kind(paper=(56.2, 1.1, 0.040, 0.039, 2.92, 0.97, None)),
    "L2": Kind(("l2:coupling=5e-4",), paper=(51.9, 2.6, 0.105, 0.101, 4.11, 2.46, None)),
    "JReg": Kind(("jacobian:coupling=1e-3,site=hidden,wrt=scale",), paper=(55.9, 1.8, 0.068, 0.065, 3.54, 1.42, None)),
    "SpecReg": Kind(("spectral:coupling=1,site=re:^relu$",), batch_norm=True),
}
"""Published for CIFAR-10, one seed. Those of SpecReg are left out: its hidden layer stayed at its initial values."""


class Smoothness(Study):
    """The networks of `KINDS`, on images of unit L_3 norm.

    Which there are of a scale, of each data set and with how many seeds, `members` says; figures are of the first data
    set and the first seed, but for those of training, which are of all seeds.
    """

    name = "smoothness"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "members": {"digits": dict.fromkeys(KINDS, 1)},
            "limits": (None, 120),
            "walked": 20,
            "blocks": True,
            "training": {
                "hidden": 60,
                "local": {
                    "digits": "krotov-hopfield:local_lr=0.05,local_epochs=100,local_batch=50,converged=0.1,winning=0.1"
                },
                "decoder_epochs": 5,
                "epochs": 8,
                "batch_size": 100,
            },
            "strengths": 10,
            "counts": (10, 30),
            "points": 11,
        },
        "reduced": {
            "members": {
                "mnist": dict.fromkeys(KINDS, 3),
                "cifar10-jpeg": dict.fromkeys(KINDS, 1),
            },
            "limits": (None, None),
            "walked": 100,
            "blocks": False,
            "training": {
                "hidden": HIDDEN,
                "local": {
                    "mnist": "krotov-hopfield:local_epochs=60,converged=0.7",
                    "cifar10-jpeg": "krotov-hopfield:local_lr=0.03,local_epochs=100,local_batch=100,converged=0.7",
                },
                "decoder_epochs": 8,
                "epochs": 8,
                "batch_size": 500,
            },
            "strengths": STRENGTHS,
            "counts": (10, 100, 1000),
            "points": 25,
        },
        "paper": {
            "members": {"cifar10": dict.fromkeys(KINDS, 1)},
            "limits": (None, None),
            "walked": 1000,
            "blocks": True,
            "training": {
                "hidden": HIDDEN,
                "local": {"cifar10": "krotov-hopfield"},
                "decoder_epochs": 1000,
                "epochs": 1000,
                "batch_size": 1000,
            },
            "strengths": 400,
            "counts": (10, 50, 100, 500, 1000, 1500),
            "points": 101,
        },
    }

    @property
    def first(self) -> str:
        """The data set of all figures."""
        return next(iter(self.settings["members"]))

    @property
    def networks(self) -> list[str]:
        """Those that are compared; `untrained` is the control of the first."""
        return [name for name in self._seeds if name != CONTROL]

    @property
    def _seeds(self) -> Mapping[str, int]:
        """How many there are of each network, of the first data set."""
        return self.settings["members"][self.first]

    def every(self, data: str) -> dict[str, list[xr.DataTree]]:
        """What is measured of every network trained on these, by name, seed by seed."""
        members = self.settings["members"][data].items()
        return {name: [self.measured(data, name, str(seed)) for seed in range(seeds)] for name, seeds in members}

    @result
    def measured(self, data: str, name: str, seed: str) -> xr.DataTree:
        """Accuracy, distances, norms of Jacobians, exponents of spectra; single images only where they are walked."""
        how = {each: self.settings[each] for each in ("walked", "blocks", "strengths")} | self._training(data)
        found = of_network(
            name,
            int(seed),
            self._train(data),
            self._test(data),
            self._networks_kept(data),
            progress=self.progress,
            keep_epochs=self._followed(name),
            **how,
        )
        groups = {node.path: node.to_dataset() for node in found.subtree if node.has_data}
        small = {"/accuracy": groups["/accuracy"].drop_dims("image"), "/spectra": groups["/spectra"].drop_dims("rank")}
        return stamped(groups | small, provenance(found))

    @result
    def units(self, name: str) -> xr.Dataset:
        """Spectra of some of the pre-activations and of all, under images and under noise."""
        return self._spectra(self._network(name))

    @result
    def plane(self, name: str) -> xr.Dataset:
        """Decisions and Jacobians on a plane through one image."""
        where = {"site": REPRESENTATION, "wrt": SCALED, "points": self.settings["points"], "progress": self.progress}
        return decision_plane(self._network(name), self._test(self.first), **where)

    @result
    def prototypes(self) -> xr.Dataset:
        """The units learnt locally, before and after pruning."""
        return npb.prototypes(self._network("KH"), self._test(self.first).shape)

    @result
    def unpruned(self) -> xr.Dataset:
        """Their spectra with all units there."""
        return self._spectra(unpruned(self._network("KH")))

    @result
    def history(self) -> xr.DataTree:
        """How the networks were trained; of KH the read-out."""
        return xr.DataTree.from_dict({f"/{name}/history": self._trained(name).history for name in self.networks})

    @result
    def followed(self, name: str, seed: str) -> xr.Dataset:
        """Accuracy, loss and Jacobians of test images after some epochs of a training."""
        sites, some = [SITE, f"re:^{REPRESENTATION}$"], {"images": self.settings["walked"], "progress": self.progress}
        return npb.follow(self._trained(name, int(seed)), self._test(self.first), sites, wrt=SCALED, **some)

    def training(self) -> xr.DataTree:
        """The networks followed through their trainings, those of several seeds as their mean; names say how many.

        Where nothing is computed, of those seeds of which there are results.
        """
        every = {name: self._seeds_followed(name) for name in self.networks}
        there = {name: seeds for name, seeds in every.items() if seeds} or {self.networks[0]: ["0"]}
        found = {f"{name}-{seed}": self.followed(name, seed) for name, seeds in there.items() for seed in seeds}
        tree = xr.DataTree.from_dict({f"/{name}/followed": data for name, data in found.items()})
        several = {name: seeds for name, seeds in there.items() if len(seeds) > 1}
        means = npb.over_seeds(tree, {name: [f"{name}-{seed}" for seed in seeds] for name, seeds in several.items()})
        shown = {name: means[name] if name in several else tree[f"{name}-{seeds[0]}"] for name, seeds in there.items()}
        return xr.DataTree(children={_counted(name, len(there[name])): each for name, each in shown.items()})

    def _seeds_followed(self, name: str) -> list[str]:
        every = map(str, range(self._seeds[name]))
        return [seed for seed in every if self.run or (self.folder / f"followed-{name}-{seed}.nc").exists()]

    def distances(self) -> xr.DataTree:
        """Those of the networks, as models of one tree."""
        found = {name: self.measured(self.first, name, "0")["distances"].to_dataset() for name in self.networks}
        return xr.DataTree.from_dict({f"/{name}/distances": data for name, data in found.items()})

    def compared_units(self, names: list[str] | None = None) -> xr.DataTree:
        """The spectra of the networks, likewise."""
        return xr.DataTree.from_dict({f"/{name}/units": self.units(name) for name in names or self.networks})

    def _network(self, name: str) -> nn.Module:
        return self._trained(name).last

    def _trained(self, name: str, seed: int = 0) -> Any:
        if name not in self._seeds:
            raise MissingData(f"at scale {self.scale} there is no network {name} in this study: see --scale")
        how = self._training(self.first) | {"keep_epochs": self._followed(name), "progress": self.progress}
        return trained(name, seed, self._train(self.first), self._networks_kept(self.first), **how)

    def _training(self, data: str) -> dict[str, Any]:
        """How networks are trained on these; how long units learn locally depends on the images."""
        how = self.settings["training"]
        return how | {"local": how["local"][data]}

    def _followed(self, name: str) -> tuple[int, ...]:
        """The epochs after which a network is measured: of units that stay, those of what is on top of them."""
        epochs = self.settings["training"]["decoder_epochs" if KINDS[name].local else "epochs"]
        return tuple(sorted({0, 1, *np.linspace(0, epochs, FOLLOWED + 1).round().astype(int).tolist()}))

    def _spectra(self, model: nn.Module) -> xr.Dataset:
        return unit_spectra(
            model, self._test(self.first), [SITE], units=self.settings["counts"], progress=self.progress
        )

    def _networks_kept(self, data: str) -> Path:
        return self.folder / "training" / data

    def _train(self, data: str) -> Data:
        return npb.data.load(data, "train", limit=self.settings["limits"][0])

    def _test(self, data: str) -> Data:
        return npb.data.load(data, limit=self.settings["limits"][1])


def _counted(name: str, trainings: int) -> str:
    """A network's name in legends."""
    return f"{name}, one training" if trainings == 1 else f"{name}, mean of {trainings} trainings"


def measure(
    model: nn.Module, test: Data, some: Data, blocks: bool = True, progress: bool = True, strengths: int = STRENGTHS
) -> dict[str, xr.Dataset]:
    """What is told of a network: of all test images, or of `some` what takes longer.

    blocks : whether exponents get intervals over images, which take long and are not needed beside several seeds.
    strengths : how many eps are walked.
    """
    evaluated = npb.evaluate({"network": model}, test, None, doubts=False, progress=progress)
    shown, grids = {"progress": progress}, {name: np.geomspace(*reach, strengths) for name, reach in WALKS.items()}
    sites = [SITE, f"re:^{REPRESENTATION}$"]
    return {
        "/accuracy": evaluated["network/evaluation"].to_dataset(),
        "/distances": critical_distances(model, some, tuple(WALKS), eps=grids, **shown),
        "/jacobians": jacobian_norms(model, some, f"re:^{REPRESENTATION}$", wrt=SCALED, **shown),
        "/spectra": unit_spectra(model, test, sites, units=(), jackknife=blocks, **shown),
    }


def of_network(
    name: str,
    seed: int,
    train: Data,
    test: Data,
    out: Path,
    *,
    walked: int,
    blocks: bool,
    strengths: int = STRENGTHS,
    progress: bool = True,
    **how: Any,
) -> xr.DataTree:
    """What is measured of one network, which is trained first; read from its file in `out` where that is done."""
    model = trained(name, seed, train, out, progress=progress, **how).model
    about = {"model": model_card(model), "data": test.describe(), "walked": walked, "blocks": blocks}
    about |= {"versions": versions()} | ({} if strengths == STRENGTHS else {"strengths": strengths})
    path = out / f"{name}-{seed}.nc"
    if path.exists() and provenance(kept := npb.open_results(path)) == about:
        return kept
    groups = measure(model, test, test.take(min(walked, len(test)), 0), blocks, progress, strengths)
    tree = stamped(groups, about)
    npb.save_results(tree, path)
    return tree


def trained(
    name: str,
    seed: int,
    data: Data,
    out: Path,
    *,
    hidden: int,
    local: str,
    decoder_epochs: int,
    epochs: int,
    batch_size: int,
    keep_epochs: tuple[int, ...] = (),
    progress: bool = True,
) -> Trained:
    """One of the networks after its last epoch, which is what was published, and after `keep_epochs`."""
    kind, folder = KINDS[name], out / f"{name}-{seed}"
    network = initial("shallow", data, seed, hidden=hidden, power=kind.power, batch_norm=kind.batch_norm)
    how = {"seed": seed, "validation": 0.0, "out": folder, "name": folder.name, "progress": progress}
    how |= {"keep_epochs": keep_epochs, "device": preferred_device()}
    if kind.local:
        defense = dataclasses.replace(parse_defense(local), untrained=name == CONTROL)
        return npb.fit(defense, network, data, DECODER, epochs=decoder_epochs, batch_size=batch_size, **how)
    many = max(batch_size, ENOUGH) if kind.batch_norm else batch_size
    recipe = _recipe(kind, data, epochs).with_settings(epochs=epochs, batch_size=min(many, len(data)))
    return npb.fit("natural", network, data, recipe, regularise=kind.regularise, **how)


def _recipe(kind: Kind, data: Data, epochs: int) -> Recipe:
    """The published rates, which are of many epochs; where there are fewer, Adam's falls by a cosine."""
    whole = preset("paper", Natural(), "shallow", data.shape, map(parse_regulariser, kind.regularise))
    return whole if epochs >= whole.epochs else DECODER.with_settings(schedule="cosine")
