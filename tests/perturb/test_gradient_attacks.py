"""Gradient attacks against slow loops, closed forms, hand-made numbers and foolbox."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.perturb import BIM, FGSM, GEOMETRIES, PGD, Box, ImageGenerator
from netprobe.perturb.objective import LOSSES, Goal, cross_entropy, input_gradient, margin

SHAPE = (6, 3, 5, 2)
LABELS = torch.tensor([0, 1, 2, 3, 1, 0])
every_norm = pytest.mark.parametrize("norm", GEOMETRIES)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 4)).double().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(SHAPE, dtype=torch.float64)


class Linear(nn.Module):
    """Two classes, logits (0, w·x): the loss of class 0 grows with w·x alone."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x.flatten(1) @ self.w
        return torch.stack([torch.zeros_like(score), score], dim=1)


# --- the loop itself -------------------------------------------------------------------------------------------


def slow_pgd(model, x, label, target, eps, norm, steps, restarts, streams):
    """PGD of one image, spelled out: every restart from a fresh random point, the keep-rule at the end of each."""
    geometry, stride, kept = GEOMETRIES[norm], 2.5 * eps / steps, None
    goal, sign = (label, 1) if target is None else (target, -1)
    for _ in range(restarts):
        z = (x + geometry.random_point(x, eps, streams)).clamp(0, 1)
        for _ in range(steps):
            z = z.detach().requires_grad_()
            (sign * nn.functional.cross_entropy(model(z), torch.tensor([goal]))).backward()
            g = z.grad
            if norm == "linf":
                delta = z.detach() + stride * g.sign() - x
                delta = torch.where(delta > eps, eps, torch.where(delta < -eps, -eps, delta))
            elif norm == "l2":
                delta = z.detach() + stride * g / g.pow(2).sum().sqrt() - x
                length = delta.pow(2).sum().sqrt()
                delta = delta * eps / length if length > eps else delta
            else:
                delta = z.detach() + stride * geometry.steepest(g, z.detach(), Box()) - x
                delta = geometry.project(delta, eps)
            z = (x + delta).clamp(0, 1)
        predicted = model(z).argmax().item()
        fooled = predicted != label if target is None else predicted == target
        if kept is None or fooled:
            kept = z.detach()
        if fooled:
            break
    return kept


@pytest.mark.parametrize("target", [None, 3])
@pytest.mark.parametrize("eps", [0.05, 0.3])
@every_norm
def test_pgd_is_the_slow_loop(model, x, norm, eps, target):
    """In float64; 1e-9 allows for sums taken in another order. No restart fools all images at the small eps."""
    eps *= {"linf": 1, "l2": 3, "l1": 8}[norm]
    images = torch.tensor([5, 3, 20, 8, 1, 0])
    pgd = PGD(eps, norm=norm, steps=4, restarts=3, target=target)
    found = pgd(model, x, LABELS, generator=ImageGenerator(9, images))
    for i, (image, label) in enumerate(zip(images, LABELS.tolist(), strict=True)):
        streams = ImageGenerator(9, [image])
        if label == target:
            expected = x[i : i + 1]
        else:
            expected = slow_pgd(model, x[i : i + 1], label, target, eps, norm, 4, 3, streams)
        torch.testing.assert_close(found[i : i + 1], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("norm", "attack"), [("linf", "LinfBasicIterativeAttack"), ("l2", "L2BasicIterativeAttack")])
def test_bim_is_foolboxs(model, x, norm, attack):
    """The same settings in an independent implementation; its own float32 constants allow 1e-6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox")
        theirs = getattr(foolbox.attacks, attack)(rel_stepsize=0.25, steps=10, random_start=False)
        network = foolbox.PyTorchModel(model.float(), bounds=(0, 1))
        expected = theirs.run(network, x.float(), foolbox.criteria.Misclassification(LABELS), epsilon=0.2)
    ours = BIM(0.2, norm=norm, steps=10)(model, x.float(), LABELS, generator=None)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_fgsm_is_one_step_of_bim(model, x):
    for norm in GEOMETRIES:
        one, many = FGSM(0.1, norm=norm), BIM(0.1, norm=norm, steps=1)
        assert torch.equal(one(model, x, LABELS, generator=None), many(model, x, LABELS, generator=None))


def test_the_step_is_tied_to_eps():
    assert [a.stride for a in (FGSM(0.2), BIM(0.2), PGD(0.2, steps=50), PGD(0.2, step_size=0.3))] == [
        0.2,
        0.025,
        0.01,
        0.3,
    ]


# --- closed forms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [FGSM(0.2), BIM(0.2), PGD(0.2, step_size=0.1)], ids=lambda attack: attack.name)
@every_norm
def test_on_a_linear_model_the_score_grows_by_eps_times_the_dual_norm(norm, attack):
    """No attack can do better than eps ||w||_dual. Away from the box; of 40 coordinates the L1 step moves one.

    PGD forgets its random start by a factor 2/3 a step or faster, and the gain is flat at the best point: 1e-6.
    """
    w = torch.randn(40, dtype=torch.float64)
    x = 0.5 + 0.1 * torch.rand(3, 5, 8, dtype=torch.float64)
    attack = dataclasses.replace(attack, norm=norm)
    adversarial = attack(Linear(w), x, torch.zeros(3, dtype=torch.long), generator=None)
    gain = (adversarial - x).flatten(1) @ w
    dual = {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[norm]
    torch.testing.assert_close(gain, (0.2 * dual).expand(3), rtol=1e-6, atol=0)


def test_in_the_box_too_the_linear_model_is_solved():
    """Linf: every coordinate at its own end, min(eps, distance to the edge) away."""
    w, x = torch.randn(40, dtype=torch.float64), torch.rand(3, 40, dtype=torch.float64)
    best = torch.where(w > 0, (x + 0.3).clamp(max=1), (x - 0.3).clamp(min=0))
    for attack in (FGSM(0.3), BIM(0.3), PGD(0.3)):
        found = attack(Linear(w), x, torch.zeros(3, dtype=torch.long), generator=None)
        torch.testing.assert_close(found, best, rtol=0, atol=1e-12)


def test_l1_uses_its_budget_at_the_edge_of_the_box():
    """The two best coordinates are at the edge: an attack that steps there all the same gains nothing."""
    w = torch.tensor([3.0, 2.0, 1.0, 0.1], dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0, 0.2, 0.2]], dtype=torch.float64)
    found = BIM(0.5, norm="l1")(Linear(w), x, torch.tensor([0]), generator=None)
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0, 0.7, 0.2]], dtype=torch.float64))


def test_more_work_is_never_weaker(model, x):
    """On this fixed case: loss under FGSM <= BIM <= PGD with restarts; and more eps, more loss."""

    def loss(attack) -> float:
        adversarial = attack(model, x, LABELS, generator=ImageGenerator(1, range(6)))
        return nn.functional.cross_entropy(model(adversarial), LABELS).item()

    losses = [loss(attack) for attack in (FGSM(0.0), FGSM(0.1), BIM(0.1), BIM(0.2), BIM(0.4))]
    assert losses == sorted(losses) and losses[0] < losses[-1]


# --- losses, targets -------------------------------------------------------------------------------------------


def test_losses_by_hand():
    logits = torch.tensor([[2.0, 5.0, 1.0], [0.0, 0.0, 0.0], [90.0, 0.0, 10.0]])
    labels = torch.tensor([1, 0, 2])
    # margins z_y - max other: 5 - 2, 0, 10 - 90; the hinge is at -50.
    assert margin(logits, labels, targeted=False).tolist() == [-53, -50, 0]
    assert margin(logits, labels, targeted=True).tolist() == [-47, -50, -130]
    assert cross_entropy(logits, labels, targeted=False)[1].item() == pytest.approx(math.log(3))
    assert torch.equal(cross_entropy(logits, labels, True), -cross_entropy(logits, labels, False))


@pytest.mark.parametrize("loss", ["ce", "cw"])
def test_goals_know_what_fooled_means(loss):
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    labels = torch.tensor([0, 1])
    assert Goal(labels, loss=loss).reached(logits).tolist() == [False, True]
    assert Goal(labels, targeted=True, loss=loss).reached(logits).tolist() == [True, False]


def test_confident_models_still_have_a_gradient():
    """With a margin of 25 the float32 probability of the label is exactly 1, and so its gradient exactly 0."""
    model, x, labels = Linear(torch.full((5,), 5.0)), torch.ones(2, 5), torch.tensor([1, 1])
    z = x.clone().requires_grad_()
    nn.functional.cross_entropy(model(z), labels).backward()
    assert torch.equal(z.grad, torch.zeros_like(x))
    gradient = input_gradient(model, x, Goal(labels))
    expected = -5 * math.exp(-25)
    torch.testing.assert_close(gradient, torch.full((2, 5), expected), rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", ["ce", "cw"])
@every_norm
def test_targeted_attacks_reach_their_class(model, x, norm, loss):
    """With a ball as large as the box every target of this small network can be reached."""
    eps = {"linf": 1.0, "l2": 5.5, "l1": 30.0}[norm]
    for target in range(4):
        found = PGD(eps, norm=norm, steps=100, restarts=3, target=target, loss=loss)(model, x, LABELS, generator=None)
        there = model(found).argmax(1) == target
        assert there[target != LABELS].all()
        assert torch.equal(found[target == LABELS], x[target == LABELS])


def test_least_likely_target_is_the_smallest_logit_but_never_the_label(model, x):
    logits = model(x)
    smallest = logits.argmin(1)
    goal = FGSM(0.1, target="least-likely").goal(model, x, LABELS, None)
    assert goal.targeted and torch.equal(goal.labels[smallest != LABELS], smallest[smallest != LABELS])
    away = FGSM(0.1, target="least-likely").goal(model, x, smallest, None)
    assert torch.equal(away.labels, logits.argsort(1)[:, 1])


def test_random_targets_are_any_other_class_alike(model):
    """4,000 images, three other classes: 1,333 each, 30 the standard deviation."""
    x, y = torch.rand(4000, 3, 5, 2, dtype=torch.float64), torch.full((4000,), 2)
    goal = FGSM(0.1, target="random").goal(model, x, y, ImageGenerator(1, range(4000)))
    counts = goal.labels.bincount(minlength=4)
    assert counts[2] == 0 and (counts[[0, 1, 3]] - 4000 / 3).abs().max() < 4 * 30


# --- restarts, randomised models -------------------------------------------------------------------------------


class Counting(nn.Module):
    """Counts the images it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.images = model, []

    def forward(self, x):
        self.images.append(len(x))
        return self.model(x)


def test_fooled_images_are_final_and_cost_nothing_more(model, x):
    """Half of the images are already wrong and stay so: one climb and one look each; the others get all restarts."""
    predicted = model(x).argmax(1)
    wrong = torch.tensor([True, False, True, False, True, False])
    labels = torch.where(wrong, (predicted + 1) % 4, predicted)
    tiny = {"eps": 1e-6, "steps": 2}
    counting = Counting(model)
    found = PGD(**tiny, restarts=3)(counting, x, labels, generator=ImageGenerator(1, range(6)))
    assert counting.images == [6, 6, 6] + [3, 3, 3] * 2
    first = PGD(**tiny)(model, x, labels, generator=ImageGenerator(1, range(6)))
    assert torch.equal(found, first)  # images that no restart fools keep the first result as well


def test_the_keep_rule_image_by_image():
    """Four images, told by their first coordinate: fooled by climb 1, by climb 2 (and 3, 4), by none, by climb 3."""
    seen = []

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Scripted(PGD):
        def climb(self, model, x, goal, generator):
            seen.append(x[:, 0].tolist())
            fooled = {0.0: [1, 2, 3, 4], 0.25: [2, 3, 4], 0.5: [], 0.75: [3]}
            hit = torch.tensor([len(seen) in fooled[image] for image in x[:, 0].tolist()])
            return torch.stack([x[:, 0], hit.float(), torch.full_like(x[:, 0], len(seen) / 8)], dim=1)

    x = torch.tensor([[0.0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0.75, 0, 0]])
    model = Returns(lambda z: torch.stack([1 - z[:, 1], z[:, 1]], dim=1))
    found = Scripted(0.1, restarts=5)(model, x, torch.zeros(4, dtype=torch.long), generator=None)
    assert seen == [[0.0, 0.25, 0.5, 0.75], [0.25, 0.5, 0.75], [0.5, 0.75], [0.5], [0.5]]
    assert (8 * found[:, 2]).tolist() == [1, 2, 1, 3]


def test_restarts_stop_when_all_are_fooled(model, x):
    counting = Counting(model)
    labels = (model(x).argmax(1) + 1) % 4
    PGD(1e-6, steps=2, restarts=50)(counting, x, labels, generator=None)
    assert counting.images == [6, 6, 6]


class Jittery(nn.Module):
    """Logits (0, (w + n)·x) with fresh n ~ N(0, 5^2): a randomised defence whose mean is linear."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = w

    def forward(self, x):
        score = (x.flatten(1) * (self.w + 5 * torch.randn_like(x.flatten(1)))).sum(1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_eot_gradient_is_the_mean_over_passes():
    model, x, goal = Jittery(torch.randn(30)), torch.rand(4, 30), Goal(torch.zeros(4, dtype=torch.long))
    torch.manual_seed(3)
    together = input_gradient(model, x, goal, passes=5)
    torch.manual_seed(3)
    singly = [input_gradient(model, x, goal) for _ in range(5)]
    torch.testing.assert_close(together, torch.stack(singly).mean(0))


def test_eot_beats_a_randomised_defence():
    """The gain of one sign step along the mean score: averaging 100 gradients finds most signs of w, one hardly any."""
    w = torch.randn(60)
    x = torch.full((20, 60), 0.5)

    def gain(eot: int) -> float:
        found = FGSM(0.1, eot=eot, loss="cw")(Jittery(w), x, torch.zeros(20, dtype=torch.long), generator=None)
        return (((found - x) @ w).mean() / (0.1 * w.abs().sum())).item()

    assert gain(1) < 0.4 and gain(100) > 0.8


def test_the_models_own_randomness_runs_on():
    """Were the global random state put back, an evaluation would meet the noise that the attack has seen."""
    model, x, y = Jittery(torch.randn(30)), torch.rand(4, 30), torch.zeros(4, dtype=torch.long)
    torch.manual_seed(3)
    first_noise = torch.randn(4, 30)
    torch.manual_seed(3)
    FGSM(0.1)(model, x, y, generator=None)
    assert not torch.equal(torch.randn(4, 30), first_noise)


# --- mistakes --------------------------------------------------------------------------------------------------


class Returns(nn.Module):
    def __init__(self, output) -> None:
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output(x)


def score(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)[:, :4]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: score(x).sum(1), r"float64 tensor of shape \(6,\)"),
        (lambda x: {"features": score(x)}, "no logits"),
        (lambda x: score(x).detach(), "no gradient with respect to its input"),
        (lambda x: score(x) * torch.tensor([1.0] * 3 + [torch.nan]), "not finite"),
        (lambda x: score(x)[:, :3], "go from 0 to 3, but the model has 3 classes"),
        (lambda x: (score(x) - score(x)).sqrt(), "input gradient of 6 of 6 images is not finite"),
    ],
    ids=["vector", "mapping", "detached", "nan", "classes", "gradient"],
)
@pytest.mark.parametrize("target", [None, "least-likely"])
def test_models_that_cannot_be_attacked_are_named(x, output, message, target):
    with pytest.raises(NetprobeError, match=message):
        PGD(0.1, target=target)(Returns(output), x, LABELS, generator=None)


@pytest.mark.parametrize(
    "wrap", [lambda z: {"logits": z}, lambda z: (z, None), lambda z: [z]], ids=["dict", "tuple", "list"]
)
def test_wrapped_logits_are_attacked_all_the_same(model, x, wrap):
    wrapped = Returns(lambda z: wrap(model(z)))
    expected = BIM(0.1)(model, x, LABELS, generator=None)
    assert torch.equal(BIM(0.1)(wrapped, x, LABELS, generator=None), expected)


def test_a_model_that_writes_into_its_input_is_attacked_all_the_same(model, x):
    writing, plain = Returns(lambda z: model(z.sub_(0.5))), Returns(lambda z: model(z - 0.5))
    attack = PGD(0.1, restarts=2, target="least-likely")
    found = [attack(m, x, LABELS, generator=ImageGenerator(1, range(6))) for m in (writing, plain)]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS - 1, "go from -1 to 2"),
        (LABELS + 1, "go from 1 to 4, but the model has 4 classes"),
        (LABELS.double(), "whole numbers"),
        (LABELS[:, None], r"shape \(6, 1\)"),
        (LABELS[:5], "5 labels for 6 images"),
    ],
)
def test_labels_that_do_not_fit_are_named(model, x, labels, message):
    for target in (None, "random"):
        with pytest.raises(NetprobeError, match=message):
            BIM(0.1, target=target)(model, x, labels, generator=None)


def test_a_target_the_model_does_not_have_is_named(model, x):
    with pytest.raises(NetprobeError, match="go from 7 to 7, but the model has 4 classes"):
        BIM(0.1, target=7)(model, x, LABELS, generator=None)


@pytest.mark.parametrize("margin", [1.0, 30.0, 100.0, 600.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_cross_entropy_of_a_sure_network_keeps_its_gradient(margin, sign):
    """(1 - p_y) (q - e_y), q the softmax of the others: nothing is lost to 1 - p_y = 0."""
    logits = torch.tensor([[sign * margin, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0])
    value = LOSSES["ce"](logits, y, False)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    m = np.logaddexp(0.0, 1.0) - sign * margin
    np.testing.assert_allclose(value.item(), np.logaddexp(0, m), rtol=1e-12)
    q = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    np.testing.assert_allclose(gradient[0], np.exp(-np.logaddexp(0, -m)) * np.array([-1, *q]), rtol=1e-12)
    assert gradient.abs().max() > 0
