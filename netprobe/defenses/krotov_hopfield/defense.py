"""Training on top of a layer that was learnt by the local rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
import xarray as xr
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.defenses.base import Defense
from netprobe.defenses.krotov_hopfield.conversion import convert, local_layer, without_bias
from netprobe.defenses.krotov_hopfield.learning import LocalLearning, learn
from netprobe.defenses.krotov_hopfield.prototypes import prototypes
from netprobe.defenses.krotov_hopfield.pruning import RULES as PRUNINGS
from netprobe.defenses.krotov_hopfield.pruning import check_cutoff, prune
from netprobe.defenses.krotov_hopfield.rule import RULES
from netprobe.defenses.krotov_hopfield.samples import layer_samples, patch_seed
from netprobe.defenses.natural import entropy
from netprobe.fields import choice, real, switch, whole, word
from netprobe.outputs import logits_of
from netprobe.recipes import Recipe
from netprobe.store.scratch import Scratch

READ_OUTS = ("cross-entropy", "tanh")
SMALL = {"k": 2, "local_lr": 0.02, "local_batch": 100, "local_epochs": 150}
PUBLISHED = {
    (3, 32, 32): {"k": 2, "local_lr": 0.02, "local_batch": 1000, "local_epochs": 1000},
    (1, 28, 28): {"k": 7, "local_lr": 0.04, "local_batch": 100, "local_epochs": 1000},
}
"""Settings by the shape of the images: those published for CIFAR-10 and MNIST, with 2000 units."""
DECODER = Recipe(epochs=1000, batch_size=1000, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="constant")


def published(name: str, what: str) -> str:
    """The help of a setting that the shape of the images tells."""
    cifar, mnist = (values[name] for values in PUBLISHED.values())
    return f"{what}; none: {cifar} for CIFAR-10, {mnist} for MNIST, else {SMALL[name]}"


@dataclass(frozen=True, kw_only=True, repr=False)
class KrotovHopfieldDefense(Defense):
    """One layer learnt by the local rule (`LocalRule`), pruned and frozen; then L = CE(f(x), y) over what follows it.

        h = v W^     W^ = sign(W) |W|^(p - 1)     a = ReLU(h)^n     logits = what the rest of the network makes of a

    The layer is the network's first, unless named, and learns from what enters it, each sample or patch divided by its
    L_p norm; labels are not used. `models.shallow` with power=4.5 is the published network, and divides images by their
    norms itself, so that attacks act on images in [0, 1] (`scaled_eps` converts budgets). Other networks see their own
    inputs in the forward pass. What comes before the layer is frozen with it.

    What is learnt must be accepted (`learn`), else another seed is tried. `untrained=true` is the control: the layer
    stays at its random start N(0, 1), frozen. `readout=tanh` is the original loss, with targets t = +-1 and no bias of
    the last layer: L = mean over images of sum_k |tanh(beta z_k) - t_k|^m, z the logits.

    Krotov and Hopfield, PNAS 116(16), 2019; Holzhausen et al., arXiv 2405.00679.
    """

    name: ClassVar[str] = "krotov-hopfield"
    title: ClassVar[str] = "local learning"
    recorded: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "converged": ("converged units", "1", "share of the units of p-norm R +- 0.01, before pruning"),
        "winning": ("winning units", "1", "share of the units that won a sample of local learning, before pruning"),
        "pruned": ("pruned units", "1", "share of the units that were set to zero"),
    }

    layer: str | None = field(
        default=None, metadata=word(help="the linear layer or convolution to learn locally; none: the first")
    )
    power: float | None = field(
        default=None,
        metadata=real(1, optional=True, help="n of ReLU(h)^n behind it; none: the network's own, 4.5 for a plain ReLU"),
    )
    p: float = field(default=3.0, metadata=real(1, inside=True, help="of the norm that weights come to"))
    k: int | None = field(
        default=None, metadata=whole(2, optional=True, help=published("k", "rank of the unit that is pushed away"))
    )
    delta: float = field(default=0.4, metadata=real(0, help="Delta, how much that unit is pushed away"))
    radius: float = field(default=1.0, metadata=real(0, inside=True, help="R, the p-norm that weights come to"))
    rule: str = field(default="batched", metadata=choice(RULES, help="a batch at once, or sample by sample"))
    local_epochs: int | None = field(
        default=None, metadata=whole(2, optional=True, help=published("local_epochs", "passes of local learning"))
    )
    local_lr: float | None = field(
        default=None,
        metadata=real(
            0, inside=True, optional=True, help=published("local_lr", "largest change of a weight in a step")
        ),
    )
    local_batch: int | None = field(
        default=None, metadata=whole(1, optional=True, help=published("local_batch", "samples of a step"))
    )
    patches: int = field(default=10, metadata=whole(1, help="of a convolution: random patches an image to learn from"))
    converged: float = field(default=0.9, metadata=real(0, 1, help="least share of units of p-norm R, to be accepted"))
    winning: float = field(default=0.5, metadata=real(0, 1, help="least share of units that win, to be accepted"))
    attempts: int = field(default=3, metadata=whole(1, help="seeds to try until the result is accepted"))
    prune: str = field(default="mixture", metadata=choice(PRUNINGS, help="how units to set to zero are told"))
    cutoff: float | None = field(
        default=None, metadata=real(0, optional=True, help="fixed: variance of a pruned unit; none: the published one")
    )
    readout: str = field(default="cross-entropy", metadata=choice(READ_OUTS, help="the loss of what follows"))
    beta: float = field(default=0.01, metadata=real(0, inside=True, help="tanh: factor of the logits"))
    exponent: float = field(default=6.0, metadata=real(1, help="tanh: m, power of the differences"))
    untrained: bool = field(default=False, metadata=switch(help="leave the layer at its random start: the control"))

    @property
    def draws(self) -> bool:
        return False

    @property
    def learning(self) -> LocalLearning:
        """The rule and how it is tried; for settings that are not known yet, those of small images."""
        shared = ("p", "delta", "radius", "rule", "converged", "winning", "attempts")
        mine = {name: getattr(self, name) for name in shared}
        told = {name: SMALL[name] if getattr(self, name) is None else getattr(self, name) for name in SMALL}
        lasting = {"lr": told["local_lr"], "epochs": told["local_epochs"], "batch_size": told["local_batch"]}
        return LocalLearning(**mine, **lasting, k=told["k"])

    def completed(self, data: Data) -> Self:
        known = PUBLISHED.get(tuple(data.shape), SMALL)
        return dataclasses.replace(self, **{n: value for n, value in known.items() if getattr(self, n) is None})

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe:
        return DECODER

    def build(self, model: nn.Module) -> nn.Module:
        """A copy, with the layer to learn, and what is too small or too large for the settings refused."""
        model = convert(model, self.layer, p=self.p, power=self.power, attempts=self.attempts)
        _, layer = local_layer(model)
        self.learning.check_units(len(layer.weight))
        if self.prune == "fixed" and not self.untrained:
            check_cutoff(self.cutoff, layer.weight[0].numel(), self.p, self.radius)
        return without_bias(model) if self.readout == "tanh" else model

    def prepare(self, model: nn.Module, data: Data, seed: int, progress: bool, scratch: Scratch) -> None:
        if self.untrained:
            return
        _, layer = local_layer(model)
        samples = layer_samples(
            model, layer, data, p=self.p, patches=self.patches, seed=patch_seed(seed), progress=progress
        )
        learnt = learn(samples, len(layer.weight), self.learning, seed=seed, scratch=scratch, progress=progress)
        pruned = prune(learnt.weight, self.prune, cutoff=self.cutoff, p=self.p, radius=self.radius)
        layer.put(learnt.weight, pruned.kept, pruned.cutoff, learnt.attempts)

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        if self.readout == "cross-entropy":
            return entropy(model, x, y)
        logits = logits_of(model(x), len(x))
        targets = 2 * (y[:, None] == torch.arange(logits.shape[1], device=y.device)).to(logits.dtype) - 1
        away = (torch.tanh(self.beta * logits) - targets).abs()
        return {"loss": away.pow(self.exponent).sum(1).mean(), "logits": logits}

    def records(self, model: nn.Module) -> dict[str, float]:
        """Of the layer, the same after every epoch; nothing of an untrained one."""
        if self.untrained:
            return {}
        _, layer = local_layer(model)
        converged, _, winning = layer.made()[-1].tolist()
        return {"converged": converged, "winning": winning, "pruned": 1 - layer.kept.double().mean().item()}

    def views(self, stages: Mapping[str, nn.Module], data: Data) -> dict[str, xr.Dataset]:
        """The prototypes, before and after pruning."""
        return {"prototypes": prototypes(stages["trained"], data.shape)}
