"""A classifier behind a front end: ensembles of a random one, and the bypass."""

import pytest
import torch
from torch import nn

from netprobe.defenses.front_end import BYPASS, Defended, FrontEnd
from netprobe.perturb.backward import surrogates
from netprobe.perturb.objective import predict
from netprobe.store.fingerprint import fingerprint


class Noisy(FrontEnd):
    backward_passes = ("plain", BYPASS)

    def transform(self, x):
        return x + torch.randn_like(x)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Defended(Noisy(), nn.Sequential(nn.Flatten(), nn.Linear(12, 4))).eval()


X = torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def test_predictions_are_the_mean_of_probabilities(model):
    model.front.realisations = 5
    torch.manual_seed(2)
    found = predict(model, X)
    torch.manual_seed(2)
    passes = [model.classifier(X + torch.randn_like(X)).double().softmax(1) for _ in range(5)]
    torch.testing.assert_close(found.double().exp(), sum(passes) / 5)


@pytest.mark.parametrize("state", ["gradients", "training"])
def test_gradients_and_training_see_single_realisations(model, state):
    model.front.realisations = 5
    model.train(state == "training")
    torch.manual_seed(2)
    with torch.set_grad_enabled(state == "gradients"):
        found = model(X)
    torch.manual_seed(2)
    torch.testing.assert_close(found, model.classifier(X + torch.randn_like(X)))


def test_more_realisations_vary_less(model):
    def spread(realisations):
        model.front.realisations = realisations
        return torch.stack([predict(model, X) for _ in range(30)]).std(0).mean()

    assert spread(20) < spread(1) / 2


def test_the_bypass_is_the_classifier_alone_where_gradients_are_asked_for(model):
    with surrogates(model, BYPASS):
        assert torch.equal(model(X), model.classifier(X))
        with torch.no_grad():
            assert not torch.equal(model(X), model.classifier(X))


def test_another_number_of_realisations_is_another_model(model):
    before = fingerprint(model)
    model.front.realisations = 2
    assert fingerprint(model) != before
