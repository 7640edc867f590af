"""For every law of defenses and of regularisers one that breaks it, in the way in which it is usually broken."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import torch
from neighbours import Centred, SmoothLabels, SquaredMean
from torch import nn
from torch.nn.functional import cross_entropy

from netprobe.fields import real


class PerImage(SmoothLabels):
    def loss(self, model, x, y, *, generator, copy):
        return {"loss": cross_entropy(model(x), y, reduction="none")}


class Stepping(SmoothLabels):
    def loss(self, model, x, y, *, generator, copy):
        terms = super().loss(model, x, y, generator=generator, copy=copy)
        terms["loss"].backward(retain_graph=True)
        return terms


class Unseeded(SmoothLabels):
    draws_seen = itertools.count()

    def loss(self, model, x, y, *, generator, copy):
        noise = 0.01 * torch.rand(x.shape, generator=torch.Generator().manual_seed(next(self.draws_seen)))
        return super().loss(model, x + noise, y, generator=generator, copy=copy)


class Summed(SmoothLabels):
    def loss(self, model, x, y, *, generator, copy):
        logits = model(x)
        return {"loss": cross_entropy(logits, y, reduction="sum"), "logits": logits}


class AttackedByAFunction(SmoothLabels):
    def validation_attack(self):
        return lambda model, x, y, *, generator: x


@dataclass(frozen=True, kw_only=True, repr=False)
class Helpless(SmoothLabels):
    other: float = field(default=1.0, metadata=real(help=""))


@dataclass(frozen=True, kw_only=True, repr=False)
class Unspeakable(SmoothLabels):
    word: str = field(default="with, a comma", metadata={"check": lambda where, value: value, "help": "a word"})


class Counting(SmoothLabels):
    """Trains the last layer alone from the second epoch that this process has seen."""

    def begin_epoch(self, model, epoch, epochs):
        model.seen = getattr(model, "seen", -1) + 1
        model[0].requires_grad_(model.seen < 2)


class Uphill(SmoothLabels):
    def loss(self, model, x, y, *, generator, copy):
        terms = super().loss(model, x, y, generator=generator, copy=copy)
        return {**terms, "loss": -terms["loss"].clamp(max=3)}


DEFENSES = {
    "the_loss_is_a_scalar_beside_logits": PerImage(),
    "a_loss_moves_nothing": Stepping(),
    "the_same_generator_gives_the_same_loss": Unseeded(),
    "the_loss_is_a_mean_over_images": Summed(),
    "the_validation_attack_is_a_perturbation": AttackedByAFunction(),
    "settings_are_values": Helpless(),
    "settings_survive_specs_and_json": Unspeakable(word="a, b"),
    "the_same_seed_gives_the_same_weights": Unseeded(),
    "a_killed_training_goes_on_to_the_same_bytes": Counting(),
    "eight_images_are_learnt_by_heart": Uphill(),
}


def regulariser(penalty: type[nn.Module]) -> Centred:
    """One with this penalty."""
    return type("Broken", (Centred,), {"penalty": lambda self, subject: penalty()})(coupling=1.0)


class OfEveryLayer(SquaredMean):
    def forward(self, model, step):
        return torch.stack([p.mean().square() for p in model.parameters()])


class Moving(SquaredMean):
    def forward(self, model, step):
        with torch.no_grad():
            model(torch.zeros(2, 1, 8, 8))  # in train mode, which moves the statistics of batch norm
        return super().forward(model, step)


class Remembering(SquaredMean):
    def __init__(self):
        super().__init__()
        self.past = torch.zeros(())

    def forward(self, model, step):
        now = super().forward(model, step)
        self.past = 0.5 * self.past + now.detach()
        return now * (1 + self.past)


class Silent(Centred):
    def recorded(self):
        return "squared mean", "", "mean^2"


@dataclass(frozen=True, kw_only=True, repr=False)
class HelplessTerm(Centred):
    other: float = field(default=1.0, metadata=real(help=""))


@dataclass(frozen=True, kw_only=True, repr=False)
class UnspeakableTerm(Centred):
    word: str = field(default="b", metadata={"check": lambda where, value: value, "help": "a word"})


REGULARISERS = {
    "the_term_joins_the_loss": regulariser(OfEveryLayer),
    "without_coupling_no_bit_changes": regulariser(Moving),
    "a_killed_training_goes_on_to_the_same_bytes": regulariser(Remembering),
    "the_term_carries_its_meaning": Silent(coupling=1.0),
    "settings_are_values": HelplessTerm(coupling=1.0),
    "settings_survive_specs_and_json": UnspeakableTerm(coupling=1.0, word="a, b"),
}
