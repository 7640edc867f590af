"""What every enrolled perturbation owes its user: the laws of `netprobe.testing`, and more.

A class new in PERTURBATIONS is tested here for free.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.perturb import APGD, GEOMETRIES, PERTURBATIONS, PGD, GradientAttack, ImageGenerator, Perturbation
from netprobe.perturb.apgd import AutoPGD
from netprobe.perturb.corruptions import Corruption
from netprobe.perturb.standing import StandingAttack
from netprobe.testing.perturbations import LAWS, ROUNDING, PerturbationSubject
from netprobe.testing.samples import fragile, inputs, snapshot

# Corruptions have severities and are for images only: corruptions/test_corruption_laws.py has their laws. Attacks that
# leave mistakes as they are, some of them from other libraries: test_standing_laws.py.
ENROLLED = {name: cls for name, cls in PERTURBATIONS.ours.items() if not issubclass(cls, (Corruption, StandingAttack))}
STRENGTH = 0.07
SHAPES = {"image": (3, 7, 2), "vector": (11,), "waveform": (37,), "video": (2, 1, 4, 6)}


def _made(cls: type[Perturbation], strength: float = STRENGTH, **settings: object) -> Perturbation:
    """Auto-PGD with fewer than its 100 steps, but with checkpoints."""
    return cls(strength, **({"steps": 12} if issubclass(cls, AutoPGD) else {}) | settings)


def _cases() -> dict[str, Perturbation]:
    """Every class as it comes; every attack also in every norm, with the other loss, targets and several passes."""
    cases = {name: _made(cls) for name, cls in ENROLLED.items()}
    for name, cls in ENROLLED.items():
        if issubclass(cls, GradientAttack):
            cases |= {f"{name}-{norm}": _made(cls, 5 * STRENGTH, norm=norm) for norm in GEOMETRIES if norm != "linf"}
            settings = {f.name for f in dataclasses.fields(cls)}
            if {"loss", "target"} <= settings:
                cases[f"{name}-cw"] = _made(cls, loss="cw", eot=2, normalised=True)
                cases |= {f"{name}-to-{t}": _made(cls, target=t) for t in ("least-likely", "random", 2)}
    cases["pgd-momentum"] = PGD(STRENGTH, momentum=0.9)
    cases["apgd-dlr"] = _made(APGD, loss="dlr")
    cases["pgd-restarts"] = PGD(STRENGTH, steps=3, restarts=4)
    cases["pgd-restarts-random-target"] = PGD(STRENGTH, steps=3, restarts=4, target="random", norm="l2")
    return cases


CASES = _cases()
# Auto-PGD chooses its steps, and may end in one corner of the ball from any start.
TAKING_GIVEN_STEPS = {name: one for name, one in CASES.items() if not isinstance(one, AutoPGD)}
every_case = pytest.mark.parametrize("perturbation", CASES.values(), ids=CASES)
every_class = pytest.mark.parametrize("cls", ENROLLED.values(), ids=ENROLLED)


SUBJECTS = {name: PerturbationSubject(one, tuple(SHAPES.values())) for name, one in CASES.items()}


@pytest.mark.parametrize("law", LAWS, ids=[law.name for law in LAWS])
@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_every_perturbation_keeps_the_laws(subject, law):
    if law.applies(subject):
        law(subject)


def batch(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs in [0, 1] and labels."""
    return inputs(shape[0], shape[1:]), torch.arange(shape[0]) % 5


def run(perturbation, model, x, y):
    return perturbation(model, x, y, generator=ImageGenerator(3, range(len(x))))


@every_case
def test_it_does_something_to_every_image(perturbation):
    model, (x, y) = fragile((3, 17, 5)), batch((20, 3, 17, 5))
    moved = (run(perturbation, model, x, y) != x).flatten(1).any(1)
    there_already = (y == 2) & (getattr(perturbation, "target", None) == 2)
    assert torch.equal(moved, ~there_already)


def draws(perturbation: Perturbation) -> bool:
    """Whether it uses random numbers."""
    attack = isinstance(perturbation, GradientAttack)
    return not attack or perturbation.random_start or perturbation.target == "random"


@pytest.mark.parametrize("generator", ["image", "plain", "global"])
@pytest.mark.parametrize("perturbation", TAKING_GIVEN_STEPS.values(), ids=TAKING_GIVEN_STEPS)
def test_another_seed_gives_another_result_where_it_draws(perturbation, generator):
    """Attacks with steps too short for two starts to end in the same corner of the ball."""
    model, (x, y) = fragile((3, 7, 2)), batch((5, 3, 7, 2))
    if getattr(perturbation, "steps", 1) > 1:
        perturbation = dataclasses.replace(perturbation, step_size=perturbation.eps / 1000)

    def once(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        generators = {"image": ImageGenerator(seed, range(5)), "plain": torch.Generator().manual_seed(seed)}
        return perturbation(model, x, y, generator=generators.get(generator))

    assert torch.equal(once(7), once(8)) == (not draws(perturbation))


@every_case
def test_meanwhile_it_is_in_eval_mode_with_frozen_parameters(perturbation):
    model, (x, y) = fragile((3, 7, 2)), batch((5, 3, 7, 2))
    seen = []
    model.register_forward_hook(
        lambda *_: seen.extend([*(m.training for m in model.modules()), *(p.requires_grad for p in model.parameters())])
    )
    run(perturbation, model, x, y)
    assert not any(seen)
    assert bool(seen) == isinstance(perturbation, GradientAttack)


class Breaks(nn.Module):
    """Fails at its second call, in the middle of an attack."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("broken on purpose")
        return self.model(x)


@pytest.mark.parametrize(
    "perturbation", [PGD(STRENGTH), PGD(STRENGTH, target="random"), PGD(STRENGTH, steps=1, restarts=2)]
)
def test_the_model_is_left_as_found_when_it_fails(perturbation):
    model, (x, y) = Breaks(fragile((3, 7, 2))), batch((5, 3, 7, 2))
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        run(perturbation, model, x, y)
    assert snapshot(model) == before


@every_class
def test_settings_are_checked_when_made(cls):
    strength = cls.strength
    for value in (-0.1, float("nan"), float("inf"), "8/255", None, True):
        with pytest.raises(NetprobeError, match=f"{cls.__name__}.{strength}"):
            cls(value)
    with pytest.raises(NetprobeError, match="low=1 must be below high=0"):
        cls(STRENGTH, low=1, high=0)
    with pytest.raises(TypeError, match="positional"):
        cls(STRENGTH, 0.5)  # every other setting is given by name


@every_class
def test_a_strength_in_grey_levels_is_refused(cls):
    with pytest.raises(NetprobeError, match=r"8/255|in \[0, 1\]"):
        cls(8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_case
def test_same_noise_on_the_gpu(perturbation):
    """1e-5 for noise, which is arithmetic only; attacks may flip the signs of vanishing gradients."""
    model, (x, y) = fragile((3, 7, 2)), batch((5, 3, 7, 2))
    here = run(perturbation, model, x, y)
    there = run(perturbation, model.cuda(), x.cuda(), y.cuda())
    assert there.device.type == "cuda"
    if not isinstance(perturbation, GradientAttack):
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)
    norm = PerturbationSubject(perturbation).norm
    assert norm is None or GEOMETRIES[norm].size(there.cpu().double() - x.double()).max() <= perturbation.eps + ROUNDING
