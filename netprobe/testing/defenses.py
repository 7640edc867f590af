"""The laws of defenses."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.defenses import Defense, defense_spec, describe_defense, parse_defense
from netprobe.perturb import ImageGenerator, Perturbation
from netprobe.perturb.attack_copy import LiveCopy
from netprobe.recipes import Recipe
from netprobe.store.scratch import Scratch
from netprobe.testing.law import check_laws, demand, law
from netprobe.testing.settings import demand_round_trip, demand_values
from netprobe.testing.training import SHORT, demand_equal, demand_goes_on, differing, digits, small_net, trained
from netprobe.training import Trained
from netprobe.training.initial import defended, initial

B = 8
"""Images of a batch."""
TO_LEARN = {"epochs": 60, "batch_size": B, "lr": 0.05, "validation": 0.0}


def check_defense(
    defense: str | Defense,
    *,
    model: str | nn.Module | None = None,
    data: Data | None = None,
    recipe: Recipe = SHORT,
    learns: bool = True,
) -> tuple[str, ...]:
    """Check that a defense keeps the laws of defenses; an AssertionError tells all that it breaks.

    It is tried on batches, and in short trainings of `model` on `data`, which are killed and begun again.

    Parameters
    ----------
    defense : a `Defense`, or the spec of one that is enrolled; a weak one, which eight images can be learnt with.
    model : what is trained; a module, or a name as for `netprobe.fit`. Default: a small convolutional network with
        batch norm and dropout.
    data : some ten to hundred training images. Default: 64 handwritten digits, 8x8.
    recipe : of these trainings; its epochs must be enough for every stage of the defense.
    learns : whether eight images are to be learnt by heart.

    Returns the names of the laws that were checked. Takes some seconds on one core with the defaults.
    """
    return check_laws(LAWS, DefenseSubject(parse_defense(defense), model, data, recipe, learns))


class DefenseSubject:
    """A defense that is to be checked, and what is trained with it."""

    def __init__(
        self,
        defense: Defense,
        model: str | nn.Module | None = None,
        data: Data | None = None,
        recipe: Recipe = SHORT,
        learns: bool = True,
    ) -> None:
        self.defense, self.recipe, self.learns = defense, recipe, learns
        self.plain = small_net() if model is None else model
        self.data = digits() if data is None else data

    def __repr__(self) -> str:
        return f"the defense {self.defense!r}"

    @functools.cached_property
    def completed(self) -> Defense:
        return self.defense.completed(self.data)

    @functools.cached_property
    def _ready(self) -> nn.Module:
        defense, data, epochs = self.completed, self.data, self.recipe.epochs
        network = defended(initial(self.plain, data, 0, channels=defense.channels(data.shape[0])), defense, 0)
        defense.prepare(network, data, 0, False, Scratch())
        defense.begin_epoch(network, epochs - 1, epochs)
        return network

    @property
    def network(self) -> nn.Module:
        """What is trained, as it is in the last epoch, in train mode."""
        return copy.deepcopy(self._ready).train()

    @functools.cached_property
    def batch(self) -> tuple[Tensor, Tensor]:
        (batch,) = self.data.select(range(B)).batches(B, torch.device("cpu"))
        return batch.x, batch.y

    def terms(self, network: nn.Module, x: Tensor, y: Tensor, images: Tensor | None = None) -> dict[str, Tensor]:
        """What the defense's loss returns; dropout draws the same every time."""
        numbered = torch.arange(len(x)) if images is None else images
        attacked = LiveCopy(network, x).module if self.completed.needs_copy else network
        generator = ImageGenerator(0, numbered) if self.completed.draws else None
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return self.completed.loss(network.train(), x, y, generator=generator, copy=attacked)

    def trained(self, recipe: Recipe | None = None, data: Data | None = None, **settings: Any) -> Trained:
        return trained(self.defense, self.plain, data or self.data, recipe or self.recipe, **settings)

    @functools.cached_property
    def whole(self) -> Trained:
        """A training that nothing disturbs."""
        return self.trained()


@law('a loss under another name than "loss", a loss per image, no "logits"', vital=True)
def the_loss_is_a_scalar_beside_logits(subject: DefenseSubject) -> None:
    """`loss` returns "loss", a finite scalar, "logits" (B, K), and scalars."""
    network, (x, y) = subject.network, subject.batch
    terms = subject.terms(network, x, y)
    missing = [name for name in ("loss", "logits") if name not in terms]
    demand(not missing, f"no {' and no '.join(missing)} among {', '.join(terms)}")
    shape = tuple(terms["logits"].shape)
    demand(len(shape) == 2 and shape[0] == B, f"logits have the shape {shape} for {B} images")
    for name in terms.keys() - {"logits"}:
        demand(terms[name].shape == (), f"{name!r} has the shape {tuple(terms[name].shape)}")
    demand(terms["loss"].isfinite(), f"the loss is {terms['loss'].item()}")


@law("loss.backward() inside `loss`, an attack on `model` in place of `copy`, `x += delta`, torch.no_grad()")
def a_loss_moves_nothing(subject: DefenseSubject) -> None:
    """Making a loss leaves parameters, their gradients and flags, and the batch alone; its gradient reaches what is
    trained."""
    network, (x, y) = subject.network, subject.batch
    given, before = (x.clone(), y.clone()), copy.deepcopy(dict(network.named_parameters()))
    loss = subject.terms(network, x, y)["loss"]
    parameters = dict(network.named_parameters())
    demand(torch.equal(x, given[0]) and torch.equal(y, given[1]), "the batch was changed in place")
    moved = differing(parameters, before)
    demand(not moved, f"changed: {', '.join(moved)}")
    flags = [name for name, p in parameters.items() if p.requires_grad != before[name].requires_grad]
    demand(not flags, f"requires_grad was changed of {', '.join(flags)}")
    demand(all(p.grad is None for p in parameters.values()), "parameters have gradients before backward")
    learnt = any(p.requires_grad for p in parameters.values())
    demand(loss.requires_grad or not learnt, "the loss has no gradient")
    if loss.requires_grad:
        loss.backward()
        reached = [name for name, p in parameters.items() if p.grad is not None and p.requires_grad]
        demand(reached, "the gradient reaches no parameter that is trained")


@law("torch.rand and its like in place of draws from the generator (`perturb.randomness`)")
def the_same_generator_gives_the_same_loss(subject: DefenseSubject) -> None:
    """Generators of one seed give the same loss and logits, to the last bit."""
    first, again = (subject.terms(subject.network, *subject.batch) for _ in range(2))
    moved = differing(first, again)
    demand(not moved, f"two losses with one seed differ in {', '.join(moved)}")


@law('a sum over the batch, or reduction="sum"; learning rates would depend on the batch size')
def the_loss_is_a_mean_over_images(subject: DefenseSubject) -> None:
    """A batch that holds every image twice, with the same draws, has the same loss."""
    (x, y), images = subject.batch, torch.arange(B)
    batches = (x, y, images), (torch.cat([x, x]), torch.cat([y, y]), torch.cat([images, images]))
    once, twice = (subject.terms(_without_dropout(subject.network), *batch)["loss"].item() for batch in batches)
    # 2 %: sums in another order turn the sign of gradients that vanish, and so single steps of attacks
    close = abs(twice - once) <= 0.02 * max(abs(once), 1e-3)
    demand(close, f"the loss is {once:.5g}, of every image twice {twice:.5g}")


@law("a function in place of a Perturbation, an attack that leaves the box")
def the_validation_attack_is_a_perturbation(subject: DefenseSubject) -> None:
    """`validation_attack` is None, or a Perturbation that takes the training images."""
    attack, (x, y) = subject.completed.validation_attack(), subject.batch
    if attack is not None:
        demand(isinstance(attack, Perturbation), f"validation_attack is {attack!r}")
        attack(subject.network, x, y, generator=ImageGenerator(0, range(B)))


@law("a setting without `metadata`, a dataclass that is not frozen")
def settings_are_values(subject: DefenseSubject) -> None:
    """It is frozen, hashable and equal to a copy of itself, every setting has a line of help, the class its names."""
    demand_values(subject.defense)


@law("settings that are no numbers, words, true, false or none")
def settings_survive_specs_and_json(subject: DefenseSubject) -> None:
    """Its spec reads back as an equal one, and so does its description in JSON."""
    for one in (subject.defense, subject.completed):
        demand_round_trip(one, defense_spec(one), describe_defense(one), "defense")


@law("state in the defense, sets and dicts in another order, random numbers beside the generator")
def the_same_seed_gives_the_same_weights(subject: DefenseSubject) -> None:
    """Two trainings end with the same bytes, and leave the network that they were given as it was."""
    before = copy.deepcopy(subject.plain)
    demand_equal(subject.trained(), subject.whole, "trained again")
    if isinstance(before, nn.Module):
        moved = differing(subject.plain.state_dict(), before.state_dict())
        demand(not moved, f"the network that was given was changed: {', '.join(moved)}")


@law("what is remembered outside buffers and parameters; `begin_epoch` that counts instead of reading `epoch`")
def a_killed_training_goes_on_to_the_same_bytes(subject: DefenseSubject) -> None:
    """Killed within the first epoch, or within a later one, and begun again it ends as one that was not."""
    steps = len(subject.whole.history.epoch) * _steps(subject)
    moments = tuple(sorted({1, steps - 1}))
    given = (subject.defense, subject.plain, subject.data, subject.recipe)
    demand_goes_on(moments, subject.whole, *given)


@law("a gradient of the wrong sign, a term that outweighs the labels", applies=lambda s: s.learns)
def eight_images_are_learnt_by_heart(subject: DefenseSubject) -> None:
    """Sixty epochs of eight images, without validation, end with all of them right."""
    recipe = dataclasses.replace(subject.recipe, **TO_LEARN)
    accuracy = float(subject.trained(recipe, subject.data.select(range(B))).history["accuracy"][-1])
    demand(accuracy == 1, f"training accuracy {accuracy:.1%} after {recipe.epochs} epochs")


LAWS = (
    the_loss_is_a_scalar_beside_logits,
    a_loss_moves_nothing,
    the_same_generator_gives_the_same_loss,
    the_loss_is_a_mean_over_images,
    the_validation_attack_is_a_perturbation,
    settings_are_values,
    settings_survive_specs_and_json,
    the_same_seed_gives_the_same_weights,
    a_killed_training_goes_on_to_the_same_bytes,
    eight_images_are_learnt_by_heart,
)


def _without_dropout(network: nn.Module) -> nn.Module:
    """The same, with dropout that drops nothing: it draws for the batch as a whole."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return network


def _steps(subject: DefenseSubject) -> int:
    """Of an epoch, as `Recipe.validation` and `batch_size` make them."""
    images = len(subject.data) - round(subject.recipe.validation * len(subject.data))
    return max(images // subject.recipe.batch_size, 1)
