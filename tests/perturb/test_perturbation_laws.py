"""What every enrolled perturbation owes its user. A class new in PERTURBATIONS is tested here for free."""

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

# Corruptions have severities and are for images only: corruptions/test_corruption_laws.py has their laws. Attacks that
# leave mistakes as they are, some of them from other libraries: test_standing_laws.py.
ENROLLED = {name: cls for name, cls in PERTURBATIONS.items() if not issubclass(cls, (Corruption, StandingAttack))}
STRENGTH = 0.07
CLASSES = 5
SHAPES = {
    "vector": (6, 11),
    "waveform": (4, 37),
    "image": (5, 3, 7, 2),
    "video": (3, 2, 1, 4, 6),
    "one": (1, 3, 7, 2),
}


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
every_case = pytest.mark.parametrize("perturbation", CASES.values(), ids=CASES)
every_class = pytest.mark.parametrize("cls", ENROLLED.values(), ids=ENROLLED)


class Refusing(nn.Module):
    """A network that, as many do, cannot take an empty batch."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert len(x), "shown an empty batch"
        return self.net(x)


def network(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network in train mode with all that must be left alone: statistics, dropout, frozen parts, gradients."""
    torch.manual_seed(1)
    inputs = torch.Size(shape[1:]).numel()
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, 16),
        nn.BatchNorm1d(16),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(16, CLASSES),
    ).to(dtype)
    model[2].running_mean.fill_(0.1)
    model[1].bias.requires_grad_(False)
    model[5].weight.grad = torch.full_like(model[5].weight, 0.25)
    model[3].eval()
    return model


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs in [0, 1], some of them at the edges, and labels."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    x = ((x - 0.5) * 1.3 + 0.5).clamp(0, 1)
    return x, torch.arange(shape[0]) % CLASSES


def run(perturbation, model, x, y, seed=3, images=None):
    return perturbation(model, x, y, generator=ImageGenerator(seed, range(len(x)) if images is None else images))


def assert_in_ball(perturbation: Perturbation, x: torch.Tensor, changed: torch.Tensor) -> None:
    """1e-6: x + delta is rounded to float32 once per coordinate, by 6e-8 at most."""
    norm = getattr(perturbation, "norm", "linf" if perturbation.strength == "eps" else None)
    if norm is not None:
        size = GEOMETRIES[norm].size(changed.double() - x.double())
        assert size.max() <= perturbation.eps + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@every_case
def test_result_is_in_ball_and_box_and_like_the_input(perturbation, shape, dtype):
    model, (x, y) = network(shape, dtype), batch(shape, dtype)
    before = x.clone()
    changed = run(perturbation, model, x, y)
    assert (changed.shape, changed.dtype, changed.device) == (x.shape, x.dtype, x.device)
    assert not changed.requires_grad
    assert changed.min() >= 0 and changed.max() <= 1
    assert_in_ball(perturbation, x, changed)
    assert torch.equal(x, before)


@every_case
def test_it_does_something_to_every_image(perturbation):
    model, (x, y) = network((20, 3, 17, 5)), batch((20, 3, 17, 5))
    moved = (run(perturbation, model, x, y) != x).flatten(1).any(1)
    there_already = (y == 2) & (getattr(perturbation, "target", None) == 2)
    assert torch.equal(moved, ~there_already)


@every_case
def test_strength_zero_is_the_identity_to_the_last_bit(perturbation):
    nothing = dataclasses.replace(perturbation, **{perturbation.strength: 0})
    model, (x, y) = network((5, 3, 7, 2)), batch((5, 3, 7, 2))
    same = run(nothing, model, x, y)
    assert torch.equal(same, x)
    assert same.data_ptr() != x.data_ptr()


def draws(perturbation: Perturbation) -> bool:
    """Whether it uses random numbers."""
    attack = isinstance(perturbation, GradientAttack)
    return not attack or perturbation.random_start or perturbation.target == "random"


@pytest.mark.parametrize("generator", ["image", "plain", "global"])
@every_case
def test_same_seed_same_result(perturbation, generator):
    """Attacks with steps too short for two starts to end in the same corner of the ball."""
    model, (x, y) = network((5, 3, 7, 2)), batch((5, 3, 7, 2))
    chooses_its_steps = isinstance(perturbation, AutoPGD)  # and may end in one corner of the ball from any start
    if getattr(perturbation, "steps", 1) > 1 and not chooses_its_steps:
        perturbation = dataclasses.replace(perturbation, step_size=perturbation.eps / 1000)

    def once(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        generators = {"image": ImageGenerator(seed, range(5)), "plain": torch.Generator().manual_seed(seed)}
        return perturbation(model, x, y, generator=generators.get(generator))

    assert torch.equal(once(7), once(7))
    assert chooses_its_steps or torch.equal(once(7), once(8)) == (not draws(perturbation))


@pytest.mark.parametrize("rows", [[4], [3, 1], [5, 4, 3, 2, 1, 0]], ids=str)
@every_case
def test_an_image_does_not_notice_its_batch(perturbation, rows):
    """In float64: matrix products of another size round differently, 1e-16 of values near 1."""
    model, (x, y) = network((6, 3, 7, 2), torch.float64), batch((6, 3, 7, 2), torch.float64)
    images = torch.tensor([10, 3, 25, 7, 99, 0])
    together = run(perturbation, model, x, y, images=images)
    alone = run(perturbation, model, x[rows], y[rows], images=images[rows])
    torch.testing.assert_close(alone, together[rows], rtol=0, atol=1e-10)


@every_case
def test_draws_after_it_do_not_notice_the_batch_either(perturbation):
    """Restarts draw for some images only: the next perturbation with the same generator must not see which."""
    model, (x, y) = network((6, 3, 7, 2), torch.float64), batch((6, 3, 7, 2), torch.float64)
    images = torch.arange(6)

    def then_noise(rows: torch.Tensor) -> torch.Tensor:
        generator = ImageGenerator(3, images[rows])
        perturbation(model, x[rows], y[rows], generator=generator)
        return PERTURBATIONS["gaussian"](0.1)(model, x[rows], y[rows], generator=generator)

    torch.testing.assert_close(then_noise(images[2:4]), then_noise(images)[2:4], rtol=0, atol=1e-12)


@every_case
def test_waveforms_have_their_own_box(perturbation):
    wave = dataclasses.replace(perturbation, low=-1.0)
    x, y = batch((4, 37))
    x = 2 * x - 1
    changed = run(wave, network((4, 37)), x, y)
    assert changed.min() >= -1 and changed.max() <= 1
    assert changed.min() < -0.9  # the box is not the images' box
    assert_in_ball(wave, x, changed)


def snapshot(model: nn.Module) -> list:
    return [
        [(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()],
        [(name, p.requires_grad, id(p), id(p.grad)) for name, p in model.named_parameters()],
        [p.grad.tolist() for p in model.parameters() if p.grad is not None],
        {name: value.tolist() for name, value in model.state_dict().items()},
    ]


@every_case
def test_the_model_is_left_as_found(perturbation):
    model, (x, y) = network((5, 3, 7, 2)), batch((5, 3, 7, 2))
    before = snapshot(model)
    run(perturbation, model, x, y)
    assert snapshot(model) == before


@every_case
def test_meanwhile_it_is_in_eval_mode_with_frozen_parameters(perturbation):
    model, (x, y) = network((5, 3, 7, 2)), batch((5, 3, 7, 2))
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
    model, (x, y) = Breaks(network((5, 3, 7, 2))), batch((5, 3, 7, 2))
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        run(perturbation, model, x, y)
    assert snapshot(model) == before


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@every_case
def test_works_where_gradients_are_off(perturbation, context):
    model, (x, y) = network((5, 3, 7, 2)), batch((5, 3, 7, 2))
    before, expected = snapshot(model), run(perturbation, model, x, y)
    with context():
        assert torch.equal(run(perturbation, model, x + 0, y + 0), expected)
        assert torch.is_grad_enabled() is False
    assert snapshot(model) == before


@every_case
def test_inputs_that_would_be_silently_wrong_are_refused(perturbation):
    model, (x, y) = network((5, 3, 7, 2)), batch((5, 3, 7, 2))
    bad = {
        r"must be in \[0, 1\]": [x + 0.5, x - 0.5, torch.full_like(x, torch.nan)],
        "float32 or float64": [(255 * x).byte(), x.half()],
        "not empty": [x[:0], torch.tensor(0.5)],
    }
    for message, inputs in bad.items():
        for wrong in inputs:
            with pytest.raises(NetprobeError, match=message):
                perturbation(model, wrong, y, generator=None)


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


@every_class
def test_classes_are_values(cls):
    assert cls(STRENGTH) == cls(STRENGTH) != cls(STRENGTH / 2)
    assert len({cls(STRENGTH), cls(STRENGTH)}) == 1
    assert all(f.metadata["help"] for f in dataclasses.fields(cls))
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls(STRENGTH).low = -1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_case
def test_same_noise_on_the_gpu(perturbation):
    """1e-5 for noise, which is arithmetic only; attacks may flip the signs of vanishing gradients."""
    model, (x, y) = network((5, 3, 7, 2)), batch((5, 3, 7, 2))
    here = run(perturbation, model, x, y)
    there = run(perturbation, model.cuda(), x.cuda(), y.cuda())
    assert there.device.type == "cuda"
    if not isinstance(perturbation, GradientAttack):
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)
    assert_in_ball(perturbation, x, there.cpu())
