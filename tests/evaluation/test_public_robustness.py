"""Two public networks under attack, one trained naturally, one adversarially: what is known of them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

import netprobe as npb
from netprobe.evaluation import evaluate

pytestmark = pytest.mark.slow

FILES = {
    "natural": "resnet_sgd_cyc_0.0500_NT_ep_100.pt",
    "robust": "resnet_sgd_cyc_0.0500_PGD_eps_8_Ns_10_ss_1_Nr_1_ep_100.pt",
}
STEP = "step_size=1/255"
ATTACKS = {
    **npb.sweep(npb.PGD(8 / 255, steps=20), eps=[0, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 64 / 255]),
    "fgsm": "fgsm:eps=8/255",
    "bim": f"bim:eps=8/255,steps=20,{STEP}",
    "pgd20": f"pgd:eps=8/255,steps=20,{STEP}",
    "pgd100": f"pgd:eps=8/255,steps=100,{STEP}",
    "restarts": f"pgd:eps=8/255,steps=20,{STEP},restarts=5",
}
IMAGES = 200
NOISE = 0.01  # two of 200 images, which a random start may decide


@pytest.fixture(scope="module")
def nets(data_root):
    folder = data_root / "checkpoints"
    if not all((folder / file).is_file() for file in FILES.values()):
        pytest.skip(f"needs {', '.join(FILES.values())} in $NETPROBE_DATA/checkpoints")
    return {name: npb.load("resnet32_thin", folder / file, normalize="cifar10") for name, file in FILES.items()}


@pytest.fixture(scope="module")
def found(nets, data_root):
    data = npb.data.load("cifar10-jpeg", limit=IMAGES)
    tree = evaluate(nets, data, ATTACKS, doubts=False, preflight=False, progress=False)
    return {name: tree[f"{name}/evaluation"].to_dataset() for name in nets}


def accuracy(found, model, condition):
    return float(found[model]["accuracy"].sel(condition=condition))


@pytest.mark.parametrize("model", FILES)
def test_without_a_budget_accuracy_is_the_clean_one_and_with_more_it_falls_to_nothing(found, model):
    curve = [accuracy(found, model, name) for name in ATTACKS if name.startswith("pgd@")]
    assert curve[0] == accuracy(found, model, "clean")
    assert all(later <= earlier + NOISE for earlier, later in itertools.pairwise(curve))
    assert curve[-1] <= 0.01


def test_attacks_of_more_steps_and_restarts_are_stronger_and_few_steps_suffice(found):
    fgsm, bim, pgd, long, often = (
        accuracy(found, "robust", name) for name in ("fgsm", "bim", "pgd20", "pgd100", "restarts")
    )
    assert bim <= fgsm
    assert pgd <= bim + NOISE
    assert often <= pgd
    assert pgd - long <= 0.015  # three of 200


def test_the_robust_network_stands_where_it_is_known_to_and_the_natural_one_does_not(found):
    assert accuracy(found, "natural", "pgd20") == 0
    assert 0.38 - 0.05 <= accuracy(found, "robust", "pgd20") <= 0.46 + 0.05  # 95 % of 200 images: 7 points
    assert 0.75 - 0.05 <= accuracy(found, "robust", "clean") <= 0.81 + 0.05


def test_the_loss_after_all_steps_is_far_above_that_of_guessing_for_the_natural_network_alone(nets):
    x, y, _ = next(iter(npb.data.load("cifar10-jpeg", limit=50).batches(50)))
    attack = npb.PGD(8 / 255, steps=20, step_size=1 / 255)
    losses = {}
    for name, net in nets.items():
        changed = attack(net, x, y, generator=None)
        with torch.no_grad():
            losses[name] = float(cross_entropy(net(changed), y))
    assert losses["natural"] > 3 * math.log(10)
    assert losses["robust"] < math.log(10)
