"""Accuracy and loss of a network, against a loop over single images."""

from __future__ import annotations

import copy

import pytest
import torch
from partial_helpers import digits, tiny_net
from torch.nn.functional import cross_entropy

from netprobe.perturb import PGD, ImageGenerator
from netprobe.perturb.randomness import stream_seed
from netprobe.training.partial.measuring import measure

ATTACK = PGD(eps=0.2, steps=5)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    net = tiny_net().train()
    for batch in digits()[0].batches(64):
        net(batch.x)  # running statistics that are not those of any one batch
    return net


def one_by_one(model, data, attack, seed) -> dict:
    """-log softmax of every image, alone in its batch, the attack made on the model itself."""
    model = model.eval()
    losses, right = {"clean": [], "adversarial": []}, {"clean": 0, "adversarial": 0}
    for at in range(len(data)):
        x, y = data.inputs[at : at + 1], data.labels[at : at + 1]
        changed = attack(model, x, y, generator=ImageGenerator(stream_seed(seed, "test"), [at]))
        for condition, shown in (("clean", x), ("adversarial", changed)):
            with torch.no_grad():
                logits = model(shown).double()[0]
            losses[condition].append(float(torch.logsumexp(logits, 0) - logits[y[0]]))
            right[condition] += int(logits.argmax() == y[0])
    return {"loss": {k: sum(v) / len(v) for k, v in losses.items()}, "right": right}


def test_against_single_images(model):
    data = digits()[1]
    found, wanted = measure(model, data, ATTACK, seed=3, batch=10), one_by_one(model, data, ATTACK, 3)
    assert found["images"] == len(data)
    for condition in ("clean", "adversarial"):
        assert found[f"{condition}_correct"] == wanted["right"][condition]
        # The attack copy rounds otherwise: steps of equal sign, but a few pixels with no slope at all.
        assert found[f"{condition}_loss"] == pytest.approx(wanted["loss"][condition], rel=1e-4)
        low, high = found[f"{condition}_loss_interval"]
        assert low < found[f"{condition}_loss"] < high
    assert found["adversarial_loss"] > found["clean_loss"]


def test_batches_do_not_matter(model):
    data = digits()[1]
    one, other = (measure(model, data, ATTACK, seed=0, batch=batch) for batch in (7, 64))
    assert one.keys() == other.keys()
    assert [one[name] for name in one] == [pytest.approx(other[name], rel=1e-4) for name in one]


def test_the_attack_goes_on_when_the_model_is_fooled(model):
    """An attack that stops at the border leaves a loss of about log 2, whatever the network."""
    sure, data, strong = copy.deepcopy(model).eval(), digits()[1], PGD(eps=0.5, steps=20)
    with torch.no_grad():
        sure.linear.weight.mul_(300)
    found = measure(sure, data, strong, seed=0)
    stopped = strong.fool(sure, data.inputs, data.labels, generator=None).x
    with torch.no_grad():
        at_the_border = cross_entropy(sure(stopped), data.labels)
    assert found["adversarial_correct"] == 0 and found["adversarial_loss"] > 2 * at_the_border


def test_the_model_is_left_as_it_was(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, digits()[1], ATTACK, seed=0)
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_attacks_of_the_user(model):
    found = measure(model, digits()[1], lambda model, x, y, *, generator: x, seed=0)
    assert found["adversarial_loss"] == found["clean_loss"]
