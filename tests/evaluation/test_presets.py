"""The preset of a publication: which conditions it comes to, what it refuses, and that they are evaluated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluating_helpers import QUIET
from tiny import ConvNet, seeded
from torch import nn

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.evaluation import BlackBox, evaluate, preset
from netprobe.perturb import APGD, FGSM, GaussianNoise, SaltAndPepper, UniformNoise
from netprobe.perturb.decision import Boundary
from netprobe.perturb.transfer import Transfer


def named(name: str, shape=(3, 32, 32), n=4):
    return npb.data.load((torch.rand(n, *shape), torch.arange(n) % 4), name=name)


MODELS = {"one": seeded(ConvNet, seed=1)}
TWIN = {"twin": seeded(ConvNet, seed=2)}


@pytest.mark.parametrize(
    ("name", "noise", "salt", "fgsm", "white"),
    [
        ("cifar10-jpeg", 0.1, 0.1, 0.02, 1 / 255),
        ("grey CIFAR-100", 0.1, 0.1, 0.005, 1 / 255),
        ("fashion-mnist", 0.5, 0.3, 0.5, 0.05),
    ],
)
def test_strengths_are_those_of_the_publication(name, noise, salt, fgsm, white):
    found = preset("black-box", MODELS, named(name), TWIN)
    largest = {GaussianNoise: noise, UniformNoise: noise, SaltAndPepper: salt}
    for kind, most in largest.items():
        strengths = [getattr(p, p.strength) for p in found.values() if type(p) is kind]
        np.testing.assert_allclose(strengths, np.linspace(0, most, 10)[1:])  # the clean images stand for 0
    transferred = [p for p in found.values() if isinstance(p, Transfer)]
    np.testing.assert_allclose([p.eps for p in transferred], np.linspace(0, fgsm, 10)[1:])
    assert all(p.attack == FGSM(p.eps) and p.surrogate.model is TWIN["twin"] for p in transferred)
    assert min(p.eps for p in found.values() if isinstance(p, APGD)) == pytest.approx(white)
    assert sum(isinstance(p, Boundary) for p in found.values()) == 5
    assert sum("@" in n and n.partition("@")[0] in npb.perturb.corruptions.BENCHMARK for n in found) == 15 * 5


def test_grey_images_and_settings():
    spec = "black-box:parts=noise:boundary:corruptions,ranges=mnist,points=3,gaussian=0.2,severities=2:4,repeats=1"
    found = preset(spec, MODELS, named("mine", (1, 28, 28)))
    assert [p.std for p in found.values() if isinstance(p, GaussianNoise)] == [0.1, 0.2]
    assert found["boundary 50 steps-1"] == Boundary(steps=50, away_from="prediction")
    assert len(found) == 3 * 2 + 1 + 15 * 2
    both = BlackBox(parts=("boundary",), boundary_steps=(50, 5000), repeats=2)
    assert [p.steps for p in preset(both, MODELS, named("cifar10")).values()] == [50, 50, 5000, 5000]
    spec = "black-box:parts=boundary,boundary_steps=50:5000,repeats=2"
    assert preset(spec, MODELS, named("cifar10")) == preset(both, MODELS, named("cifar10"))


@pytest.mark.parametrize(
    ("spec", "data", "said"),
    [
        ("black-box", "cifar10", "transfers FGSM from a surrogate.*parts=noise:boundary:corruptions:white-box"),
        ("black-box:parts=noise", "mine", "no strengths for data called 'mine'.*ranges=NAME"),
        ("black-box:parts=noize", "cifar10", "did you mean 'noise'"),
        ("blackbox", "cifar10", "did you mean 'black-box'"),
        ("black-box:step=3", "cifar10", "unknown setting"),
    ],
)
def test_mistakes_are_told_before_any_work(spec, data, said):
    with pytest.raises(NetprobeError, match=said):
        preset(spec, MODELS, named(data))


def test_a_surrogate_is_another_network():
    wrapped = npb.models.Normalized(seeded(ConvNet, seed=1), (0.5,) * 3, (0.2,) * 3)
    for same in (MODELS["one"], seeded(ConvNet, seed=1), wrapped):
        with pytest.raises(NetprobeError, match=r"surrogate 'twin' has the weights of 'one'.*white-box"):
            preset("black-box", MODELS, named("cifar10"), {"twin": same})


def test_waveforms_are_refused():
    sounds = npb.data.load((torch.rand(4, 100), torch.arange(4) % 2), name="words")
    with pytest.raises(NetprobeError, match="an evaluation of images"):
        preset("black-box", MODELS, sounds)


def test_it_is_evaluated_as_any_conditions_are(tmp_path):
    data = named("cifar10", (3, 16, 16), 6)
    asked = preset("black-box:parts=noise:transfer:corruptions:white-box,points=2,severities=1", MODELS, data, TWIN)
    tree = evaluate(MODELS, data, asked, folder=tmp_path, **QUIET)
    units = {path: path.stat().st_mtime_ns for path in tmp_path.glob("units/*.npz")}
    again = evaluate(MODELS, data, asked, folder=tmp_path, **QUIET)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("units/*.npz")} == units  # nothing was done twice
    assert tree["one/evaluation"].to_dataset().identical(again["one/evaluation"].to_dataset())
    roles = dict(zip(tree["one/evaluation"]["condition"].values, tree["one/evaluation"]["role"].values, strict=True))
    assert roles["gaussian@0.1"] == "noise"
    assert roles["fgsm from twin@0.02"] == roles["white-box apgd@1/255"] == "attack"
    table = tree["one/corruptions"]
    np.testing.assert_allclose(table["mean_accuracy"], table["accuracy"].mean("corruption"))
    low, high = table["mean_accuracy_interval"].values.T
    assert (low <= table["mean_accuracy"].values).all() and (table["mean_accuracy"].values <= high).all()


class Brightness(nn.Module):
    """Class 1 above a mean of 0.5."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def test_boundary_distances_by_hand():
    """Of a linear rule the nearest boundary is known: (mean - 0.5)^2 for the mean square of the perturbation."""
    pytest.importorskip("foolbox")
    means = torch.tensor([0.3, 0.42, 0.56, 0.65, 0.7])
    data = npb.data.load((means[:, None, None, None].expand(5, 1, 2, 2).clone(), torch.tensor([0, 0, 1, 1, 0])))
    repeats = {f"near-{k}": Boundary(steps=60, away_from="prediction") for k in (1, 2)}
    asked = repeats | {"fmn": "fmn:norm=l2", "far": "boundary:steps=1"}
    tree = evaluate({"m": Brightness()}, data, asked, **QUIET)
    found = tree["m/boundary_distance"]
    exact = (means.numpy() - 0.5) ** 2
    square = found["square"]
    np.testing.assert_allclose(square.sel(repeat="fmn")[:4], exact[:4], rtol=0.01)
    assert np.isnan(square.sel(repeat=["fmn", "far"])[:, 4]).all()  # it was wrong already
    assert (square.sel(repeat=list(repeats)) >= exact * 0.999).all()  # and of all five images
    assert found["attack"].values.tolist() == ["near", "fmn", "far"]
    medians = [np.median(square.sel(repeat=f"near-{k}")) for k in (1, 2)]
    np.testing.assert_allclose(found["median"].sel(attack="near"), np.mean(medians))
    assert not np.allclose(*(square.sel(repeat=f"near-{k}") for k in (1, 2)))  # other noise
    low, high = found["median_interval"].sel(attack="near").values
    assert low <= float(found["median"].sel(attack="near")) <= high
    assert tree["m/minimum_norm/success"].sel(condition="near-1") == 1  # of those right when clean
    assert tree["m/evaluation/forwards"].sel(condition="near-1").min() > 60


def test_images_that_withstand_count_as_farther():
    from netprobe.evaluation.boundary_distance import _interval, _median

    rows = np.array([[1.0, 2.0, np.inf, np.nan], [3.0, 4.0, np.inf, np.nan]])
    assert _median(rows) == 3.0 and _median(np.array([[1.0, np.inf, np.inf]])) == np.inf
    assert np.isposinf(_interval(rows)[1]) and _interval(rows)[0] == 2.0
    assert np.isnan(_median(np.full((1, 2), np.nan))) and np.isnan(_interval(np.full((1, 2), np.nan))).all()
