"""The laws of perturbations."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import random
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.perturb import GEOMETRIES, GaussianNoise, ImageGenerator, Perturbation, describe, resolve, to_spec
from netprobe.testing.law import check_laws, demand, law
from netprobe.testing.samples import Refusing, fragile, inputs, snapshot
from netprobe.testing.settings import demand_round_trip, demand_values

N = 6
IMAGE = (3, 8, 7)
SEED = 3
ROUNDING = 1e-6
"""x + delta is rounded to float32 once per coordinate, by 6e-8 at most."""
NUMBERS = torch.tensor([10, 3, 25, 7, 99, 0])
"""Places of the N images in a data set."""


def check_perturbation(
    perturbation: str | Callable, *, shapes: Iterable[tuple[int, ...]] = (IMAGE,), atol: float = 1e-10
) -> tuple[str, ...]:
    """Check that a perturbation keeps the laws of perturbations; an AssertionError tells all that it breaks.

    A function (model, x, y, *, generator) -> x' comes under the laws that can be told from calling it; a `Perturbation`
    also under those of its strength, its box and its settings. It is tried on a small network with batch norm and
    dropout, on images whose labels are the network's own, but for the first, which it gets wrong.

    Parameters
    ----------
    perturbation : a function, a `Perturbation`, or the spec of one that is enrolled.
    shapes : of single inputs, without the batch; all it is made for. The laws that need one only take the first.
    atol : how far an image may differ in another batch, in float64; more than 1e-10 for libraries that compute in
        float32.

    Returns the names of the laws that were checked. Takes a second on one core for what is quick.

    >>> from netprobe.testing import check_perturbation
    >>> check_perturbation("gaussian:std=0.1")[:3]
    ('the_result_is_like_the_input', 'inputs_and_labels_stay_as_they_are', 'the_result_is_in_the_box')
    """
    return check_laws(LAWS, PerturbationSubject(resolve(perturbation), tuple(shapes), atol))


class PerturbationSubject:
    """A perturbation that is to be checked, and what to try it on."""

    def __init__(self, perturbation: Callable, shapes: tuple[tuple[int, ...], ...] = (IMAGE,), atol: float = 1e-10):
        self.perturbation, self.shapes, self.atol = perturbation, shapes, atol
        self.moved: set[str] = set()

    def __repr__(self) -> str:
        return f"the perturbation {getattr(self.perturbation, '__qualname__', self.perturbation)}"

    @property
    def ours(self) -> bool:
        """Whether it is a `Perturbation`, with settings, a strength and a box."""
        return isinstance(self.perturbation, Perturbation)

    @property
    def norm(self) -> str | None:
        """In which its `eps` bounds the change; None where it has none."""
        eps = getattr(self.perturbation, "eps", None)
        return getattr(self.perturbation, "norm", "linf") if isinstance(eps, numbers.Real) else None

    @property
    def has_a_zero(self) -> bool:
        return self.ours and isinstance(getattr(self.perturbation, self.perturbation.strength), numbers.Real)

    def tried(self, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] | None = None) -> tuple:
        """A network, N inputs, and the labels that it gives them, but for the first."""
        shape = shape or self.shapes[0]
        model, x = fragile(shape, dtype), inputs(N, shape, dtype)
        return model, x, _labels(model, x)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, images: Tensor | None = None) -> Tensor:
        numbered = range(len(x)) if images is None else images
        return self.perturbation(model, x, y, generator=ImageGenerator(SEED, numbered))

    @functools.cached_property
    def results(self) -> list[tuple[Tensor, Tensor]]:
        """Inputs of every shape in float32, and of the first in float64, and what becomes of them."""
        found = []
        for model, x, y in [*(self.tried(shape=shape) for shape in self.shapes), self.tried(torch.float64)]:
            given = x.clone(), y.clone()
            found.append((given[0], self(model, x, y)))
            self.moved |= {
                name for name, now, was in zip("xy", (x, y), given, strict=True) if not torch.equal(now, was)
            }
        return found


@law("a NumPy result, `.float()`, a result that still requires a gradient, `x += delta`", vital=True)
def the_result_is_like_the_input(subject: PerturbationSubject) -> None:
    """The result is a finite tensor, detached, of the shape, dtype and device of x."""
    for x, changed in subject.results:
        demand(isinstance(changed, Tensor), f"returned a {type(changed).__name__}")
        for what in ("shape", "dtype", "device"):
            here, there = getattr(x, what), getattr(changed, what)
            demand(here == there, f"returned a tensor of {what} {there} for inputs of {what} {here}")
        demand(not changed.requires_grad, "the result requires a gradient")
        demand(changed.isfinite().all(), "the result is not finite")


@law("x += delta, y.clamp_(...), a view of x that is written to")
def inputs_and_labels_stay_as_they_are(subject: PerturbationSubject) -> None:
    """x and y are not changed in place."""
    demand(subject.results, "nothing was tried")
    demand(not subject.moved, f"{' and '.join(sorted(subject.moved))} changed in place")


@law("no clamp after the last step, or a clamp of the step instead of the result")
def the_result_is_in_the_box(subject: PerturbationSubject) -> None:
    """Inputs in [0, 1] stay in [0, 1]."""
    for _, changed in subject.results:
        low, high = (float(end) for end in changed.aminmax())
        demand(low >= 0 and high <= 1, f"the result goes from {low:g} to {high:g}")


@law("steps that are not projected, or a random start beside the ball", applies=lambda s: s.norm is not None)
def the_change_is_in_the_ball(subject: PerturbationSubject) -> None:
    """No image changes by more than `eps`, in the perturbation's `norm` (linf where it names none)."""
    for x, changed in subject.results:
        _demand_in_ball(subject, x, changed)


@law("a gradient that is zero, such as of what was detached")
def it_does_something(subject: PerturbationSubject) -> None:
    """It changes images of one shape or another."""
    changes = any(not torch.equal(changed, x) for x, changed in subject.results)
    demand(changes, f"inputs of the shapes {subject.shapes} came back as they were")


@law(
    usually="a clamp, a change of dtype and back; returning x itself, which others change",
    applies=lambda s: s.has_a_zero,
)
def strength_zero_is_the_identity(subject: PerturbationSubject) -> None:
    """With a strength of 0 it returns x to the last bit, as a tensor of its own."""
    model, x, y = subject.tried()
    nothing = dataclasses.replace(subject.perturbation, **{subject.perturbation.strength: 0})
    same = PerturbationSubject(nothing)(model, x, y)
    demand(torch.equal(same, x), f"{nothing!r} changes x by up to {float((same - x).abs().max()):g}")
    demand(same.data_ptr() != x.data_ptr(), f"{nothing!r} returns x itself")


@law("torch.rand_like, numpy.random or random, which know nothing of the generator; use `perturb.randomness`")
def the_same_generator_gives_the_same_bytes(subject: PerturbationSubject) -> None:
    """Generators of one seed give one result, and where one is given the global random state stays as it is."""
    model, x, y = subject.tried()
    makers = {
        "an ImageGenerator": lambda: ImageGenerator(7, range(N)),
        "a torch.Generator": lambda: torch.Generator().manual_seed(7),
        "torch's global generator": lambda: torch.default_generator.manual_seed(7) and None,
    }
    for which, make in makers.items():
        results = []
        for _ in range(2):
            torch.rand(1)  # time passes
            random.random(), np.random.random()
            generator = make()
            state = _global_state()
            results.append(subject.perturbation(model, x, y, generator=generator))
            demand(generator is None or _global_state() == state, f"{which} was given, and global random state moved")
        demand(torch.equal(*results), f"two results with {which} of one seed differ")


@law("statistics over the batch, a loss that is a mean, draws for the whole batch at once")
def an_image_does_not_notice_its_batch(subject: PerturbationSubject) -> None:
    """With an `ImageGenerator` the result for an image is the same in any batch."""
    model, x, y = subject.tried(torch.float64)
    together = subject(model, x, y, NUMBERS)
    for rows in ([4], [3, 1], [5, 4, 3, 2, 1, 0]):
        alone = subject(model, x[rows], y[rows], NUMBERS[rows])
        torch.testing.assert_close(alone, together[rows], rtol=0, atol=subject.atol)


@law("draws for some images of the batch only; use `perturb.randomness.select`")
def draws_after_it_do_not_notice_the_batch(subject: PerturbationSubject) -> None:
    """What is drawn with the same generator afterwards does not depend on which images were in the batch."""
    model, x, y = subject.tried(torch.float64)

    def then_noise(rows: Tensor) -> Tensor:
        generator = ImageGenerator(SEED, rows)
        subject.perturbation(model, x[rows], y[rows], generator=generator)
        return GaussianNoise(0.1)(model, x[rows], y[rows], generator=generator)

    everyone = torch.arange(N)
    torch.testing.assert_close(then_noise(everyone[2:4]), then_noise(everyone)[2:4], rtol=0, atol=1e-12)


@law("model.eval() without going back, loss.backward(), hooks that stay; use `perturb.frozen.frozen`")
def the_model_is_left_as_found(subject: PerturbationSubject) -> None:
    """Modes, hooks, parameters, their gradients and flags, and buffers of the model are what they were."""
    model, x, y = subject.tried()
    before = snapshot(model)
    subject(model, x, y)
    parts = ("modes or hooks", "parameters' flags or identities", "gradients", "parameters or buffers")
    moved = [part for part, was, now in zip(parts, before, snapshot(model), strict=True) if was != now]
    demand(not moved, f"changed: {', '.join(moved)}")


@law("autograd.grad without torch.inference_mode(False) and torch.enable_grad() around it")
def it_works_where_gradients_are_off(subject: PerturbationSubject) -> None:
    """Under no_grad and under inference_mode it gives the same bytes, and leaves gradients off."""
    model, x, y = subject.tried()
    before, expected = snapshot(model), subject(model, x, y)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            same = torch.equal(subject(model, x + 0, y + 0), expected)
            demand(not torch.is_grad_enabled(), f"gradients are on after it, under {context.__name__}")
        demand(same, f"another result under {context.__name__}")
    demand(snapshot(model) == before, "the model was changed")


@law("indexing the images that still stand, when none does")
def the_model_is_never_shown_an_empty_batch(subject: PerturbationSubject) -> None:
    """Whether some images or all are classified wrongly from the start, the model never gets a batch of nothing."""
    model, x, y = subject.tried()
    for labels in (y, (predicted(model, x) + 1) % 5):
        subject(Refusing(model), x, labels)


@law("no call of `self.check_inputs(x)`", applies=lambda s: s.ours)
def inputs_that_would_be_silently_wrong_are_refused(subject: PerturbationSubject) -> None:
    """Inputs outside the box, NaN, bytes, half precision and empty batches are a NetprobeError."""
    model, x, y = subject.tried()
    bad = {
        "inputs above the box": x + 0.5,
        "inputs below the box": x - 0.5,
        "NaN": torch.full_like(x, torch.nan),
        "bytes": (255 * x).byte(),
        "half precision": x.half(),
        "an empty batch": x[:0],
        "a single number": torch.tensor(0.5),
    }
    for what, wrong in bad.items():
        try:
            subject.perturbation(model, wrong, y, generator=None)
        except NetprobeError:
            continue
        raise AssertionError(f"{what} were taken")


@law("clamp(0, 1) in place of `self.box.clip`", applies=lambda s: s.ours)
def another_box_is_kept(subject: PerturbationSubject) -> None:
    """Inputs in [-1, 1] stay there with low=-1, and use that box."""
    model, x, _ = subject.tried()
    wide, x = PerturbationSubject(dataclasses.replace(subject.perturbation, low=-1.0)), 2 * x - 1
    changed = wide(model, x, _labels(model, x))
    low, high = (float(end) for end in changed.aminmax())
    demand(low >= -1 and high <= 1, f"{wide} goes from {low:g} to {high:g}")
    demand(low < 0, f"{wide} makes nothing smaller than {low:g} of inputs down to {float(x.min()):g}")
    if wide.norm:
        _demand_in_ball(wide, x, changed)


@law("a setting without `metadata`, a dataclass that is not frozen", applies=lambda s: s.ours)
def settings_are_values(subject: PerturbationSubject) -> None:
    """It is frozen, hashable and equal to a copy of itself, every setting has a line of help, the class its names."""
    demand_values(subject.perturbation)
    strength = type(subject.perturbation).strength
    known = [f.name for f in dataclasses.fields(subject.perturbation)]
    demand(strength in known, f"strength={strength!r} is none of the settings {', '.join(known)}")


@law("settings that are no numbers, words, true, false or none", applies=lambda s: s.ours)
def settings_survive_specs_and_json(subject: PerturbationSubject) -> None:
    """Its spec reads back as an equal one, and so does its description in JSON."""
    one = subject.perturbation
    demand_round_trip(one, to_spec(one), describe(one), "perturbation")


LAWS = (
    the_result_is_like_the_input,
    inputs_and_labels_stay_as_they_are,
    the_result_is_in_the_box,
    the_change_is_in_the_ball,
    it_does_something,
    strength_zero_is_the_identity,
    the_same_generator_gives_the_same_bytes,
    an_image_does_not_notice_its_batch,
    draws_after_it_do_not_notice_the_batch,
    the_model_is_left_as_found,
    it_works_where_gradients_are_off,
    the_model_is_never_shown_an_empty_batch,
    inputs_that_would_be_silently_wrong_are_refused,
    another_box_is_kept,
    settings_are_values,
    settings_survive_specs_and_json,
)


def _demand_in_ball(subject: PerturbationSubject, x: Tensor, changed: Tensor) -> None:
    largest = float(GEOMETRIES[subject.norm].size(changed.double() - x.double()).max())
    eps = subject.perturbation.eps
    demand(largest <= eps + ROUNDING, f"a change of {largest:.6g} in {subject.norm}, eps={eps:g}")


def predicted(model: nn.Module, x: Tensor) -> Tensor:
    """The classes (B,) that the model gives in eval mode; it is left as found."""
    with undisturbed(model), torch.no_grad():
        return model(x).argmax(1)


def _labels(model: nn.Module, x: Tensor) -> Tensor:
    """Those that the model gives, but for the first, of several."""
    y = predicted(model, x)
    if len(y) > 1:
        y[0] = (y[0] + 1) % 5
    return y


def _global_state() -> list[bytes]:
    """Of torch's, numpy's and Python's global generators."""
    states = torch.get_rng_state().numpy(), np.random.get_state()[1], np.array(random.getstate()[1])
    return [state.tobytes() for state in states]
