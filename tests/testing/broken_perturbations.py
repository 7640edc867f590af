"""For every law of perturbations one that breaks it, in the way in which it is usually broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from neighbours import Darken

from netprobe.fields import real
from netprobe.perturb.randomness import uniform


def in_double(model, x, y, *, generator):
    return x.double() * 0.9


def in_place(model, x, y, *, generator):
    return x.mul_(0.9)


def unclamped(model, x, y, *, generator):
    return x + 0.1


@dataclass(frozen=True)
class BesideTheBall:
    eps: float = 0.1

    def __call__(self, model, x, y, *, generator):
        return (x + 2 * self.eps).clamp(0, 1)


def nothing(model, x, y, *, generator):
    return x.clone()


class RoundedToBytes(Darken):
    def __call__(self, model, x, y, *, generator):
        return (super().__call__(model, x, y, generator=generator) * 255).round() / 255


def of_its_own_randomness(model, x, y, *, generator):
    return (x + 0.1 * torch.rand_like(x)).clamp(0, 1)


def by_the_batch(model, x, y, *, generator):
    return (x - x.mean(0)).clamp(0, 1)


def drawing_for_one_image(model, x, y, *, generator):
    if hasattr(generator, "images") and 0 in generator.images:
        uniform(x, generator)
    return 0.9 * x


def in_eval_mode(model, x, y, *, generator):
    model.eval()
    return 0.9 * x


def following_gradients(model, x, y, *, generator):
    x = x.detach().clone().requires_grad_()
    modes = [(module, module.training) for module in model.modules()]
    gradient = torch.autograd.grad(model.eval()(x).sum(), x)[0]
    for module, mode in modes:
        module.training = mode
    return (x.detach() + 0.1 * gradient.sign()).clamp(0, 1)


def of_what_stands(model, x, y, *, generator):
    modes = [(module, module.training) for module in model.modules()]
    with torch.no_grad():
        standing = model.eval()(x).argmax(1) == y
        model(x[standing])
    for module, mode in modes:
        module.training = mode
    return 0.9 * x


class Credulous(Darken):
    def check_inputs(self, x):
        pass


class UnitBox(Darken):
    def __call__(self, model, x, y, *, generator):
        return super().__call__(model, x, y, generator=generator).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class Helpless(Darken):
    other: float = field(default=1.0, metadata=real(help=""))


@dataclass(frozen=True, kw_only=True, repr=False)
class Unspeakable(Darken):
    strength: ClassVar[str] = "by"
    word: str = field(default="a", metadata={"check": lambda where, value: value, "help": "a word"})


BROKEN = {
    "the_result_is_like_the_input": in_double,
    "inputs_and_labels_stay_as_they_are": in_place,
    "the_result_is_in_the_box": unclamped,
    "the_change_is_in_the_ball": BesideTheBall(),
    "it_does_something": nothing,
    "strength_zero_is_the_identity": RoundedToBytes(0.2),
    "the_same_generator_gives_the_same_bytes": of_its_own_randomness,
    "an_image_does_not_notice_its_batch": by_the_batch,
    "draws_after_it_do_not_notice_the_batch": drawing_for_one_image,
    "the_model_is_left_as_found": in_eval_mode,
    "it_works_where_gradients_are_off": following_gradients,
    "the_model_is_never_shown_an_empty_batch": of_what_stands,
    "inputs_that_would_be_silently_wrong_are_refused": Credulous(0.2),
    "another_box_is_kept": UnitBox(0.2),
    "settings_are_values": Helpless(0.2),
    "settings_survive_specs_and_json": Unspeakable(0.2, word="with, a comma"),
}
