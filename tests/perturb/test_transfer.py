"""Transfer: crafted on one model, judged by another, named by weights."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.perturb import PGD, BackwardPass, ImageGenerator, describe, eps_of, family, resolve
from netprobe.perturb.attack import attack
from netprobe.perturb.square import Square
from netprobe.perturb.transfer import Surrogate, Transfer, transfers


def made(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


@pytest.fixture
def models() -> tuple[nn.Module, nn.Module]:
    return made(1), made(2)


X, Y = torch.rand(9, 2, 5, 3, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4


def test_it_is_the_attack_on_the_surrogate(models):
    model, surrogate = models
    transfer, own = Transfer("pgd:eps=0.1,steps=3", surrogate), PGD(0.1, steps=3)
    found = transfer(model, X, Y, generator=ImageGenerator(4, range(9)))
    assert torch.equal(found, own(surrogate, X, Y, generator=ImageGenerator(4, range(9))))
    assert not torch.equal(found, own(model, X, Y, generator=ImageGenerator(4, range(9))))


def test_the_verdict_is_the_models_and_its_mistakes_stay(models):
    model, surrogate = models
    transfer = resolve(Transfer(PGD(0.3, steps=3), surrogate))
    outcome = attack(transfer, model, X, Y, generator=ImageGenerator(4, range(9)), slots=4)
    with torch.no_grad():
        wrong = copy.deepcopy(model).eval()(X).argmax(1) != Y
        final = copy.deepcopy(model).eval()(outcome.x).argmax(1) != Y
    assert torch.equal(outcome.fooled, final)
    assert torch.equal((outcome.x == X).flatten(1).all(1), wrong) and 0 < wrong.sum() < 9
    assert torch.equal(outcome.forwards, torch.where(wrong, 1, 1 + 3 + 1))
    assert model.training and surrogate.training


def test_any_attack_can_be_transferred(models):
    model, surrogate = models
    transfer = Transfer(Square(0.2, queries=5), surrogate)
    found = transfer.fool(model, X, Y, generator=ImageGenerator(4, range(9)), slots=4)
    again = transfer.fool(model, X, Y, generator=ImageGenerator(4, range(9)), slots=9)
    assert torch.equal(found.x, again.x)
    assert (found.x - X).abs().max() <= 0.2 + 1e-6


def test_it_is_named_by_the_weights_of_the_surrogate(models):
    model, surrogate = models
    told = json.loads(json.dumps(describe(Transfer("pgd:eps=0.1", surrogate))))
    assert told == {
        "perturbation": "netprobe.perturb.transfer.Transfer",
        "attack": "PGD(eps=0.1)",
        "surrogate": f"Sequential of sha256 {Surrogate(surrogate).sha256}",
    }
    same, other = Transfer(PGD(0.1), copy.deepcopy(surrogate)), Transfer(PGD(0.1), model)
    assert Transfer(PGD(0.1), surrogate) == same != other
    assert len({Transfer(PGD(0.1), surrogate), same, other}) == 2
    assert (eps_of(same), family(same), same.norm) == (0.1, "transferred PGD", "linf")


def test_mistakes_are_named(models):
    with pytest.raises(NetprobeError, match="must be a model"):
        Transfer(PGD(0.1), "resnet")
    with pytest.raises(NetprobeError, match="unknown perturbation 'pdg'"):
        Transfer("pdg:eps=0.1", models[0])
    with pytest.raises(NetprobeError, match="the model has 4 classes"):
        Transfer(PGD(0.1), models[0]).fool(models[1], X, Y + 3, generator=None)


class Masked(BackwardPass):
    backward_passes = ("one", "other")

    def backward_surrogate(self, name=None):
        return super().backward_surrogate()


def test_every_gradient_attack_from_every_source_by_every_pass(models):
    plain, masked = models[0], nn.Sequential(Masked(nn.Identity()), models[1])
    attacks = {"pgd": PGD(0.1), "square": Square(0.1), "chosen": PGD(0.1, backward="other")}
    found = transfers(attacks, {"plain": plain, "twin": masked})
    names = ["pgd from plain", "pgd from twin by one", "pgd from twin by other"]
    assert list(found) == [*names, "chosen from plain", "chosen from twin"]
    assert [found[name].attack.backward for name in names] == [None, "one", "other"]
    assert found["chosen from twin"].attack == attacks["chosen"]
    assert found[names[1]].surrogate.model is masked
    swept = transfers({"pgd@0.1": PGD(0.1), "pgd@0.2": PGD(0.2)}, {"plain": plain})
    assert list(swept) == ["pgd from plain@0.1", "pgd from plain@0.2"]


def test_nothing_to_transfer_is_an_error(models):
    with pytest.raises(
        NetprobeError, match="nothing can be transferred from twin: none of square is a gradient attack"
    ):
        transfers({"square": Square(0.1)}, {"twin": models[0]})
    assert transfers({"square": Square(0.1)}, {}) == {}


def test_surrogates_of_equal_weights_and_other_settings_differ(models):
    soft, hard = (nn.Sequential(nn.Flatten(), nn.LeakyReLU(slope)) for slope in (0.1, 0.2))
    assert Surrogate(soft) != Surrogate(hard)
    assert Surrogate(soft) == Surrogate(copy.deepcopy(soft))
