"""Every defense keeps the laws of `netprobe.testing`; and what each must be where it is known in closed form."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from netprobe.data import Data
from netprobe.defenses import DEFENSES, parse_defense
from netprobe.errors import NetprobeError
from netprobe.perturb import ImageGenerator
from netprobe.perturb.attack_copy import LiveCopy
from netprobe.testing.defenses import (
    LAWS,
    DefenseSubject,
    a_killed_training_goes_on_to_the_same_bytes,
    eight_images_are_learnt_by_heart,
    the_same_seed_gives_the_same_weights,
)
from netprobe.training import fit

WITHOUT_CHANGE = ["natural", "pgd-at:eps=0", "fast:eps=0", "trades:beta=0", "gaussian:std=0"]
ATTACKING = ["pgd-at:eps=0.1,steps=3", "fast:eps=0.1", "trades:eps=0.1,steps=3"]
SOME = ["natural", *ATTACKING, "gaussian:std=0.1"]
WEAK = {
    "natural": None,
    "pgd-at:eps=0.02,steps=3": None,
    "pgd-at:eps=0.02,steps=3,mode=train": None,
    "fast:eps=0.02": None,
    "trades:eps=0.02,steps=3": None,
    "gaussian:std=0.02": None,
    "polarizing:filters=4,size=3": "digits_cnn",
    "pixel-quantisation": "digits_cnn",
    "sparse-coding:patch=4,stride=2,atoms=16,steps=10,penalty=0.1,top=3": "digits_cnn",
    "hah:blocks=1": "digits_cnn",
    "sca": "mlp",
    "krotov-hopfield:local_epochs=2,converged=0,winning=0": "shallow",
}
"""Defenses with which eight images can be learnt, and a network for those that do not take any."""
SUBJECTS = {
    spec: DefenseSubject(parse_defense(spec), model, learns=not spec.startswith("sparse"))
    for spec, model in WEAK.items()
}
TRAINING = {
    the_same_seed_gives_the_same_weights,
    a_killed_training_goes_on_to_the_same_bytes,
    eight_images_are_learnt_by_heart,
}


def law_cases():
    """Those of layers and front ends, which have trainings of their own in their folders, train in the slow tests."""
    for spec, subject in SUBJECTS.items():
        for law in (law for law in LAWS if law.applies(subject)):
            slow = [pytest.mark.slow] if (WEAK[spec] or "mode=train" in spec) and law in TRAINING else []
            yield pytest.param(subject, law, marks=slow, id=f"{spec}-{law.name}")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 3, 3)
    )


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, 2, 4, 3, generator=generator), torch.arange(6) % 3


def terms(spec, network, batch, live=None):
    defense = parse_defense(spec)
    live = LiveCopy(network, batch[0]).module if live is None else live
    return defense.loss(network.train(), *batch, generator=ImageGenerator(0, range(6)), copy=live)


def test_every_defense_is_among_those_tested_here():
    assert {spec.partition(":")[0] for spec in WEAK} == set(DEFENSES.ours)


@pytest.mark.parametrize("subject, law", list(law_cases()))
def test_every_defense_keeps_the_laws(subject, law):
    law(subject)


@pytest.mark.parametrize("spec", WITHOUT_CHANGE)
def test_with_nothing_to_defend_against_it_is_natural_training(spec, network, batch):
    x, y = batch
    expected = cross_entropy(copy.deepcopy(network).train()(x), y)
    torch.testing.assert_close(terms(spec, network, batch)["loss"], expected)


class Reads(TorchDispatchMode):
    """Counts how often the host asks for the value of a tensor, for which on a GPU it would have to wait."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("spec", SOME)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_host_need_not_wait_for_a_loss(spec, mode, network, batch):
    defense = parse_defense(f"{spec},mode=train" if mode == "train" and spec in ATTACKING else spec)
    live, generator = LiveCopy(network, batch[0]), torch.Generator().manual_seed(0)
    with Reads() as reads:
        defense.loss(network.train(), *batch, generator=generator, copy=live.refresh())["loss"].backward()
    assert reads.count == 0


@pytest.mark.parametrize(
    "spec", ["pgd-at:eps=0.1,steps=3", "pgd-at:eps=1,norm=l2,steps=2,attack_loss=cw", "fast:eps=0.1"]
)
def test_what_is_crafted_is_what_the_attack_gives_when_called(spec, network, batch):
    defense, live = parse_defense(spec), LiveCopy(network, batch[0]).module
    made = defense.crafted(defense.attack(), network, *batch, ImageGenerator(0, range(6)), live)
    assert torch.equal(made, defense.attack()(live, *batch, generator=ImageGenerator(0, range(6))))


def test_a_gradient_that_is_not_finite_shows_in_the_loss(network, batch):
    live = LiveCopy(network, batch[0]).module
    with torch.no_grad():
        live.get_parameter("net.4.bias")[0] = torch.inf  # of the copy alone: the loss itself is made without it
    assert terms("pgd-at:eps=0.1", network, batch, live)["loss"].isnan()


@pytest.mark.parametrize("spec", SOME[1:])
def test_inputs_outside_the_box_are_refused_before_training(spec):
    waveforms = Data(torch.linspace(-1, 1, 40).view(4, 10), torch.tensor([0, 1, 0, 1]), ("low", "high"), "ramps")
    network = nn.Sequential(nn.Linear(10, 2))
    with pytest.raises(NetprobeError, match=r"go from -1 to 1, .* set its low and high"):
        fit(spec, network, waveforms, epochs=1, validation=0, progress=False)
    fit(f"{spec},low=-1", network, waveforms, epochs=1, validation=0, progress=False)


@pytest.mark.parametrize("spec", ATTACKING)
def test_crafting_in_eval_mode_leaves_batch_norm_alone_and_in_train_mode_moves_it(spec, network, batch):
    updates = 2 if spec.startswith("trades") else 1  # forward passes in the loss itself
    terms(spec, network, batch)
    assert network[1].num_batches_tracked == updates
    terms(f"{spec},mode=train", network, batch)
    assert network[1].num_batches_tracked > 2 * updates


@pytest.mark.parametrize("spec", ATTACKING)
def test_what_is_trained_on_is_worse_than_the_clean_images(spec, network, batch):
    worse = terms(spec, copy.deepcopy(network), batch)["loss"]
    assert worse > terms("natural", network, batch)["loss"]


def test_r_fgsm_is_one_step_from_a_random_point_clipped_twice(network, batch):
    x, y = batch
    seen = []
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    live = LiveCopy(network, x).module
    terms("fast:eps=0.1,step_size=0.13", network, batch, live)
    drawn = ImageGenerator(0, range(6)).block("random", x.shape)
    start = (x + 0.1 * (2 * drawn - 1)).clamp(0, 1)
    point = start.clone().requires_grad_()
    cross_entropy(live(point), y, reduction="sum").backward()
    expected = (x + (start - x + 0.13 * point.grad.sign()).clamp(-0.1, 0.1)).clamp(0, 1)
    torch.testing.assert_close(seen[-1], expected)


def test_r_fgsm_with_no_step_is_training_on_uniform_noise(network, batch):
    x, y = batch
    drawn = ImageGenerator(0, range(6)).block("random", x.shape)
    expected = cross_entropy(copy.deepcopy(network).train()((x + 0.1 * (2 * drawn - 1)).clamp(0, 1)), y)
    torch.testing.assert_close(terms("fast:eps=0.1,step_size=0", network, batch)["loss"], expected)


def test_trades_is_cross_entropy_and_a_divergence_whose_gradient_reaches_both_arguments(network, batch):
    x, y = batch
    seen, live = [], LiveCopy(network, x).module
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    found = terms("trades:eps=0.1,steps=3,beta=6", network, batch, live)
    found["loss"].backward()
    ours = network[0].weight.grad.clone()
    assert len(seen) == 2
    reference = copy.deepcopy(network).train()
    reference.zero_grad()
    clean, there = [reference(part) for part in (seen[0], seen[1])]
    spread = nn.KLDivLoss(reduction="sum")(there.log_softmax(1), clean.softmax(1)) / len(x)
    (cross_entropy(clean, y) + 6 * spread).backward()
    assert found["divergence"] > 0
    torch.testing.assert_close(found["divergence"], spread)
    torch.testing.assert_close(ours, reference[0].weight.grad, rtol=1e-4, atol=1e-6)  # ours is made in float64


def test_trades_looks_for_its_point_inside_the_ball_and_the_box(network, batch):
    defense = parse_defense("trades:eps=0.1,steps=4")
    x, _ = batch
    found = defense.farthest(network, x, ImageGenerator(0, range(6)), LiveCopy(network, x).module)
    assert (found - x).abs().max() <= 0.1 + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
