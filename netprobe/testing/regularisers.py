"""The laws of regularisers."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
from torch import nn

from netprobe.data import Data
from netprobe.defenses import Defense
from netprobe.defenses.regularisers import Regulariser, describe_regulariser, parse_regulariser, regulariser_spec
from netprobe.recipes import Recipe
from netprobe.testing.law import check_laws, demand, law
from netprobe.testing.settings import demand_round_trip, demand_values
from netprobe.testing.training import SHORT, demand_goes_on, differing, digits, small_net, trained
from netprobe.training import Trained

TWO_EPOCHS = dataclasses.replace(SHORT, epochs=2)


def check_regulariser(
    regulariser: str | Regulariser,
    *,
    defense: str | Defense = "natural",
    model: str | nn.Module | None = None,
    data: Data | None = None,
    recipe: Recipe = TWO_EPOCHS,
) -> tuple[str, ...]:
    """Check that a regulariser keeps the laws of regularisers; an AssertionError tells all that it breaks.

    It joins short trainings of `model` on `data` with `defense`, which are killed and begun again. Its coupling must be
    above 0; the other parameters are those of `check_defense`.

    Returns the names of the laws that were checked. Takes some seconds on one core with the defaults.

    >>> from netprobe.defenses.regularisers import L2
    >>> from netprobe.testing import check_regulariser
    >>> check_regulariser(L2())[:2]
    ('the_term_joins_the_loss', 'without_coupling_no_bit_changes')
    """
    return check_laws(LAWS, RegulariserSubject(parse_regulariser(regulariser), defense, model, data, recipe))


class RegulariserSubject:
    """A regulariser that is to be checked, and the training that it joins."""

    def __init__(
        self,
        regulariser: Regulariser,
        defense: str | Defense = "natural",
        model: str | nn.Module | None = None,
        data: Data | None = None,
        recipe: Recipe = TWO_EPOCHS,
    ) -> None:
        self.regulariser, self.defense, self.recipe = regulariser, defense, recipe
        self.network = small_net() if model is None else model
        self.data = digits() if data is None else data

    def __repr__(self) -> str:
        return f"the regulariser {self.regulariser!r}"

    @property
    def given(self) -> tuple:
        return self.defense, self.network, self.data, self.recipe

    def trained(self, *regularisers: Regulariser) -> Trained:
        return trained(*self.given, regularise=regularisers)

    @functools.cached_property
    def whole(self) -> Trained:
        """A training with it that nothing disturbs."""
        return self.trained(self.regulariser)

    @functools.cached_property
    def without(self) -> Trained:
        """The same training without it."""
        return self.trained()


@law("a penalty that is no scalar; a NaN at the first step", vital=True)
def the_term_joins_the_loss(subject: RegulariserSubject) -> None:
    """The history has the term R, and a loss that is the defense's plus coupling * R; the weights end elsewhere."""
    history, coupling = subject.whole.history, subject.regulariser.coupling
    demand(coupling > 0, "its coupling is 0: give it one, so that there is something to check")
    (name,) = json.loads(history.attrs["regularisers"])
    demand(np.isfinite(history[name]).all(), f"R is {history[name].values}")
    total = history["unregularised_loss"] + coupling * history[name]
    close = np.allclose(history["loss"], total, rtol=1e-5)
    demand(close, f"the loss is {history['loss'].values}, of its parts {total.values}")
    moved = differing(subject.whole.last.state_dict(), subject.without.last.state_dict())
    demand(moved, "training with it ends with the weights of training without")


@law("draws from the defense's generator, batch norm's statistics moved by a forward pass of its own")
def without_coupling_no_bit_changes(subject: RegulariserSubject) -> None:
    """With coupling=0 R is recorded, and training is what it would be without, to the last bit."""
    silent = subject.trained(dataclasses.replace(subject.regulariser, coupling=0))
    (name,) = json.loads(silent.history.attrs["regularisers"])
    demand(np.isfinite(silent.history[name]).all(), f"R is {silent.history[name].values}")
    moved = differing(silent.last.state_dict(), subject.without.last.state_dict())
    demand(not moved, f"other weights: {', '.join(moved[:4])}")


@law("an R that is remembered in an attribute; it must be a buffer of the penalty")
def a_killed_training_goes_on_to_the_same_bytes(subject: RegulariserSubject) -> None:
    """Killed within the first epoch, or within the second, and begun again it ends as one that was not."""
    demand_goes_on((1, 5), subject.whole, *subject.given, regularise=subject.regulariser)


@law("`recorded` that does not return three strings")
def the_term_carries_its_meaning(subject: RegulariserSubject) -> None:
    """`recorded` gives R's long name, unit and definition."""
    told = subject.regulariser.recorded()
    demand(len(told) == 3 and all(isinstance(part, str) and part for part in told), f"recorded() is {told!r}")


@law("a setting without `metadata`, a dataclass that is not frozen")
def settings_are_values(subject: RegulariserSubject) -> None:
    """It is frozen, hashable and equal to a copy of itself, every setting has a line of help, the class its names."""
    demand_values(subject.regulariser)


@law("settings that are no numbers, words, true, false or none")
def settings_survive_specs_and_json(subject: RegulariserSubject) -> None:
    """Its spec reads back as an equal one, and so does its description in JSON."""
    one = subject.regulariser
    demand_round_trip(one, regulariser_spec(one), describe_regulariser(one), "regulariser")


LAWS = (
    the_term_joins_the_loss,
    without_coupling_no_bit_changes,
    a_killed_training_goes_on_to_the_same_bytes,
    the_term_carries_its_meaning,
    settings_are_values,
    settings_survive_specs_and_json,
)
