"""The conveyor: who leaves when, with what, at what cost; and that images do not notice one another."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from netprobe.perturb import APGD, BIM, FGSM, GEOMETRIES, PGD, ImageGenerator, TargetedAPGD, cycles
from netprobe.perturb.apgd import AutoPGD
from netprobe.perturb.attack import Count, attack
from netprobe.perturb.conveyor import Conveyor
from netprobe.perturb.frozen import frozen
from netprobe.perturb.objective import Goal
from netprobe.testing.samples import Refusing

IMAGES = 23
EPS = 0.1


def network(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 5)).double().eval()


@pytest.fixture
def model() -> nn.Module:
    return network()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(IMAGES, 3, 5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture
def y(model, x) -> torch.Tensor:
    """What the model says; wrong for three images."""
    labels = model(x).argmax(1)
    labels[[1, 7, 8]] = (labels[[1, 7, 8]] + 1) % 5
    return labels


ATTACKS = {
    "fgsm": FGSM(EPS),
    "bim": BIM(EPS),
    "pgd": PGD(EPS, steps=7, restarts=3),
    "pgd-l2": PGD(0.4, steps=7, norm="l2"),
    "pgd-l1": PGD(2.0, steps=7, norm="l1"),
    "pgd-cw": PGD(EPS, steps=7, loss="cw"),
    "pgd-momentum": PGD(EPS, steps=7, momentum=1.0),
    "pgd-target": PGD(2 * EPS, steps=7, target="least-likely"),
    "pgd-random-target": PGD(2 * EPS, steps=7, target="random", restarts=2),
    "pgd-long": PGD(EPS, steps=cycles.LONG + 20, step_size=EPS / 4),
    "apgd": APGD(EPS, steps=15, restarts=2),
    "apgd-dlr": APGD(EPS, steps=15, loss="dlr"),
    "apgd-l2": APGD(0.4, steps=15, norm="l2"),
    "apgd-t": TargetedAPGD(EPS, steps=15, targets=3),
    "apgd-t-all": TargetedAPGD(EPS, steps=15, targets=9),
}
every_attack = pytest.mark.parametrize("way", ATTACKS.values(), ids=ATTACKS)


def fool(way, model, x, y, rows=None, slots=6, **settings):
    rows = torch.arange(len(x)) if rows is None else rows
    return way.fool(model, x[rows], y[rows], generator=ImageGenerator(5, rows), slots=slots, **settings)


def wrong(model, x, y):
    return model(x).argmax(1) != y


@every_attack
def test_what_it_says_is_what_the_model_says(way, model, x, y):
    found = fool(way, model, x, y)
    size = GEOMETRIES[way.norm].size(found.x - x)
    assert (size <= way.eps + 1e-9).all()
    assert ((found.x >= 0) & (found.x <= 1)).all()
    if way.target is None:
        assert torch.equal(found.fooled, wrong(model, found.x, y))
        assert found.fooled.any()
        assert not found.fooled.all()
    else:
        assert (wrong(model, found.x, y) | ~found.fooled | wrong(model, x, y)).all()


@every_attack
def test_images_notice_neither_their_neighbours_nor_the_slots(way, model, x, y):
    """Auto-PGD compares values, which at a corner of the ball differ by the rounding of the model: it may part."""
    whole = fool(way, model, x, y)
    for slots in (1, 4, 100):
        again = fool(way, model, x, y, slots=slots)
        apart = ((again.x - whole.x).abs() > 1e-9).flatten(1).any(1)
        assert apart.sum() <= (2 if isinstance(way, AutoPGD) else 0)
        for field in ("fooled", "forwards", "backwards"):
            assert torch.equal(getattr(again, field)[~apart], getattr(whole, field)[~apart])
        assert torch.equal(again.fooled, whole.fooled)
    some = torch.tensor([20, 3, 11, 4])
    part = fool(way, model, x, y, some, slots=2)
    torch.testing.assert_close(part.x, whole.x[some], rtol=0, atol=1e-9)
    assert torch.equal(part.fooled, whole.fooled[some])


@every_attack
def test_the_model_is_never_shown_an_empty_batch(way, model, x, y):
    fool(way, Refusing(model), x, y)
    fool(way, Refusing(model), x, (model(x).argmax(1) + 1) % 5)


@every_attack
def test_same_seed_same_bytes(way, model, x, y):
    one, other = (fool(way, model, x, y) for _ in range(2))
    assert torch.equal(one.x, other.x)


@every_attack
def test_never_weaker_than_the_last_step_alone(way, model, x, y):
    if way.target is not None:
        return
    last = way(model, x, y, generator=ImageGenerator(5, torch.arange(len(x))))
    found = fool(way, model, x, y)
    if way.restarts == 1 and not isinstance(way, TargetedAPGD):  # else their draws part after the first restart
        assert not (wrong(model, last, y) & ~found.fooled).any()
    assert found.fooled.sum() >= wrong(model, last, y).sum()


def test_what_is_wrong_anyhow_leaves_at_once_unchanged(model, x, y):
    found = fool(PGD(EPS, steps=7), model, x, y)
    at_once = wrong(model, x, y)
    assert torch.equal(found.x[at_once], x[at_once])
    assert found.fooled[at_once].all()
    assert (found.forwards[at_once] == 1).all()
    assert (found.backwards[at_once] == 0).all()


def test_no_strength_is_no_attack(model, x, y):
    found = fool(PGD(0), model, x, y)
    assert torch.equal(found.x, x)
    assert torch.equal(found.fooled, wrong(model, x, y))
    assert not found.backwards.any()


def test_the_first_step_that_fools_is_the_last(model, x, y):
    """Step by step by hand, image by image."""
    way = BIM(EPS, steps=9)
    found = fool(way, model, x, y)
    for i in range(len(x)):
        z, steps = x[i : i + 1], 0
        while steps < way.steps and not wrong(model, z, y[i : i + 1]):
            z = z.detach().requires_grad_()
            gradient = torch.autograd.grad(nn.functional.cross_entropy(model(z), y[i : i + 1]), z)[0]
            z = (x[i : i + 1] + (z - x[i : i + 1] + way.stride * gradient.sign()).clamp(-EPS, EPS)).clamp(0, 1)
            steps += 1
        looked = min(steps + 1, way.steps)  # the gradient at a point is taken with the look whether it fools
        assert found.backwards[i] == (looked if steps else 0)
        torch.testing.assert_close(found.x[i : i + 1], z.detach(), rtol=0, atol=1e-9)


def test_passes_are_counted_as_they_happen(model, x, y):
    way = PGD(EPS, steps=7, restarts=2, eot=2)
    with frozen(model), Count(model) as count:
        conveyor = Conveyor(way, model, model, 6, ImageGenerator(5, torch.arange(len(x))))
        found = conveyor.run(x, Goal(y))
    assert found.forwards.sum() == count.images
    assert (found.backwards % 2 == 0).all()
    assert found.backwards.max() == 2 * 7 * 2


def test_the_bar_sees_every_image_once(model, x, y):
    for way in (*ATTACKS.values(), PGD(EPS, target=2), PGD(0)):
        seen = []
        fool(way, model, x, y, advance_bar=seen.append)
        assert sum(seen) == IMAGES


def test_images_of_the_target_class_are_not_attacked(model, x, y):
    found = fool(PGD(EPS, steps=7, target=2), model, x, y)
    assert torch.equal(found.x[y == 2], x[y == 2])
    assert not found.backwards[y == 2].any()


def test_verdicts_are_the_models_own(model, x, y):
    """A copy that is fooled by everything convinces no one."""

    class Foolish(nn.Module):
        def forward(self, x):
            return -model(x)

    with frozen(model):
        conveyor = Conveyor(PGD(1e-4, steps=3), model, Foolish(), 6, ImageGenerator(5, torch.arange(len(x))))
        found = conveyor.run(x, Goal(y))
    assert torch.equal(found.fooled, wrong(model, found.x, y))
    assert found.fooled.sum() < IMAGES / 2


def test_searches_that_repeat_themselves_leave_early_and_change_nothing(model, x, y):
    way = PGD(EPS, steps=300, step_size=EPS / 4)
    short, full = fool(way, model, x, y), Unwatched(**dataclasses.asdict(way))
    full = fool(full, model, x, y)
    assert torch.equal(short.fooled, full.fooled)
    assert (full.backwards[~full.fooled] == 300).all()
    assert short.backwards[~short.fooled].double().mean() < 100


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Unwatched(PGD):
    @property
    def repeats_itself(self) -> bool:
        return False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fingerprints_tell_rows_apart(dtype):
    x = torch.rand(100, 3, 4, dtype=dtype)
    prints = cycles.fingerprint(x)
    assert len(prints.unique()) == 100
    assert torch.equal(prints, cycles.fingerprint(x.clone()))
    x[3, 1, 2] = torch.nextafter(x[3, 1, 2], torch.ones((), dtype=dtype))
    assert (cycles.fingerprint(x) != prints).nonzero().flatten().tolist() == [3]


def test_closed_circles():
    history, step = torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    walks = torch.tensor([[4, 0], [5, 1], [6, 0], [5, 3]])
    back = [cycles.closed(history, step + i, now).tolist() for i, now in enumerate(walks)]
    assert back == [[False, False], [False, False], [False, True], [True, False]]


# --- any perturbation ------------------------------------------------------------------------------------------


def test_a_users_function_is_asked_batch_by_batch(model, x, y):
    def shift(model, x, y, *, generator):
        model(x)
        return (x + 0.3).clamp(0, 1)

    found = attack(shift, model, x, y, generator=None, slots=10)
    assert torch.equal(found.x, (x + 0.3).clamp(0, 1))
    assert torch.equal(found.fooled, wrong(model, found.x, y))
    assert (found.forwards == 2).all()
    assert (found.backwards == -1).all()


def test_ours_are_fooled_their_own_way(model, x, y):
    way = PGD(EPS, steps=5)
    found = attack(way, model, x, y, generator=ImageGenerator(5, torch.arange(len(x))), slots=6)
    assert torch.equal(found.x, fool(way, model, x, y).x)


def test_gradients_in_half_precision_verdicts_in_full():
    model = network().float()
    x = torch.rand(IMAGES, 3, 5, 2, generator=torch.Generator().manual_seed(2))
    y = model(x).argmax(1)
    found = fool(PGD(EPS, steps=10), model, x, y, gradients=torch.bfloat16)
    assert torch.equal(found.fooled, wrong(model, found.x, y))
    exact = fool(PGD(EPS, steps=10), model, x, y)
    assert abs(int(found.fooled.sum()) - int(exact.fooled.sum())) <= 2
