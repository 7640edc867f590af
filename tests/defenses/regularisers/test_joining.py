"""Regularisers in trainings: beside every defense, recorded, resumed, refused."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from netprobe import data
from netprobe.defenses.regularisers import (
    L2,
    REGULARISERS,
    Penalty,
    Regulariser,
    describe_regulariser,
    parse_regulariser,
)
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import digits_cnn
from netprobe.models.shallow import shallow
from netprobe.recipes import Recipe
from netprobe.testing.training import differing, killed_after
from netprobe.training import fit, loop
from netprobe.training.augmentation import order

SHORT = Recipe(epochs=2, batch_size=64, lr=0.02, schedule="constant", validation=0.0, channels_last=False)
DEFENSES = ["natural", "pgd-at:eps=0.1,steps=2", "pgd-at:eps=0.1,steps=2,mode=train", "trades:eps=0.1,steps=2"]
EVERY = [
    "l2:coupling=1e-3",
    "jacobian:site=relu,coupling=1e-2,projections=2",
    "jacobian:site=output,coupling=1e-2",
    "spectral:site=relu,coupling=1e-2,tau=3",
    "spectral-norm:coupling=1e-2",
]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=200)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return shallow(10, 64, hidden=24)


def train(model, images, regularise, defense="natural", **settings):
    return fit(defense, model, images, SHORT, regularise=regularise, progress=False, **settings)


def same(one: nn.Module, other: nn.Module) -> bool:
    return not differing(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", REGULARISERS.ours)
def test_a_name_alone_gives_the_papers_coupling_and_a_spec_another(name):
    one = parse_regulariser(name)
    assert one == REGULARISERS[name](coupling=one.coupling)
    assert parse_regulariser(f"{name}:coupling=0.25").coupling == 0.25


@pytest.mark.parametrize("spec, message", [("jacobain", "did you mean 'jacobian'"), (3, "is no regulariser")])
def test_what_is_no_regulariser(spec, message):
    with pytest.raises(NetprobeError, match=message):
        parse_regulariser(spec)


def test_it_is_the_bare_loop_with_a_term_added(network, digits):
    trained = train(network, digits, [L2(coupling=1e-2), "jacobian:site=hidden,wrt=scaled,coupling=1e-2"])
    model = copy.deepcopy(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=2e-4)
    for epoch in range(2):
        for chosen in order(len(digits), 0, epoch).split(64):
            loss = cross_entropy(model(digits.inputs[chosen]), digits.labels[chosen])
            loss = loss + 1e-2 * sum(p.square().sum() for p in model.parameters())
            loss = loss + 1e-2 * model.hidden.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained.last.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("defense", DEFENSES)
def test_terms_of_no_coupling_are_recorded_and_change_no_bit(defense, network, digits):
    plain = train(network, digits, (), defense)
    specs = [spec.partition(",coupling")[0].partition(":coupling")[0] for spec in EVERY]
    # One term draws, after the defense: what the defense draws stays as it is.
    silent = [f"{s}{',' if ':' in s else ':'}coupling=0{',tau=3' if s.startswith('spectral:') else ''}" for s in specs]
    recorded = train(network, digits, silent, defense)
    assert same(plain.last, recorded.last)
    assert (recorded.history["loss"] == plain.history["loss"]).all()
    for name in ("l2", "jacobian", "jacobian_2", "spectral", "spectral_norm"):
        assert (recorded.history[name] > 0).all()


@pytest.mark.parametrize("spec", EVERY)
def test_a_strong_coupling_brings_the_term_down(spec, network, digits):
    kind = spec.partition("coupling=")
    weak, strong = (f"{kind[0]}coupling={c}{kind[2][4:]}" for c in ("0", "0.2"))
    ends = [train(network, digits, each, epochs=6, lr=0.005).history for each in (weak, strong)]
    (name,) = json.loads(ends[0].attrs["regularisers"])
    assert float(ends[1][name][-1]) < 0.95 * float(ends[0][name][-1])


def test_beside_blocks_of_another_defense(digits):
    specs = ["l2", "jacobian:site=output", "spectral:site=linear:in,tau=2,rows=unit", "spectral-norm:layers=linear"]
    trained = train(digits_cnn(), digits, specs, "hah:blocks=1", epochs=1)
    assert trained.history["jacobian"][0] > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_terms_are_those_of_single_precision_whatever_the_pass_is_in(precision, network, digits):
    history = train(network, digits, [f"{s},coupling=0" for s in ("l2:parameters=all", "jacobian:site=relu")],
                    precision=precision, epochs=1).history  # fmt: skip
    reference = train(network, digits, ["l2:coupling=0", "jacobian:site=relu,coupling=0"], epochs=1).history
    tolerance = 0.05 if precision == "bfloat16" else 0  # 8 bits of activations, and of the weights that they move
    assert float(history["jacobian"][0]) == pytest.approx(float(reference["jacobian"][0]), rel=tolerance)


@pytest.mark.parametrize("steps", [2, 4, 6])  # 4 steps an epoch: within the first, between two, within the second
def test_a_training_that_is_killed_goes_on_to_the_same_bits(steps, network, digits, tmp_path):
    whole = train(network, digits, EVERY, "pgd-at:eps=0.1,steps=2", out=tmp_path / "whole", save_every=0.0)
    with killed_after(steps):
        train(network, digits, EVERY, "pgd-at:eps=0.1,steps=2", out=tmp_path / "parts", save_every=0.0)
    saved = torch.load(tmp_path / "parts" / "last.pt", weights_only=True)["training"]
    assert saved["progress"]["epoch"] * 4 + saved["progress"]["step"] == steps
    again = train(network, digits, EVERY, "pgd-at:eps=0.1,steps=2", out=tmp_path / "parts", save_every=0.0)
    assert same(whole.last, again.last)
    for name in ("loss", "jacobian", "jacobian_2", "spectral", "spectral_norm", "l2"):
        assert (whole.history[name] == again.history[name]).all()


def test_checkpoints_know_of_regularisers_only_if_there_are_any(network, digits, tmp_path):
    from netprobe.checkpoints import load

    trained = train("shallow", digits, "l2", out=tmp_path / "some", epochs=1)
    train("shallow", digits, (), out=tmp_path / "none", epochs=1)
    assert same(load(tmp_path / "some" / "best.pt"), trained.model)
    cards = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("some", "none")]
    assert cards[0]["netprobe"]["regularisers"] == [describe_regulariser(L2())]
    assert "regularisers" not in cards[1]["netprobe"] and "regularisation" not in cards[1]["training"]
    for other in ((), "l2:coupling=1"):
        with pytest.raises(CheckpointError, match="other regularisers"):
            train("shallow", digits, other, out=tmp_path / "some", epochs=1)


@pytest.mark.parametrize(
    "regularise, settings, message",
    [
        ("jacobian:site=conv1", {}, "unknown site pattern 'conv1'"),
        ("spectral:site=relu,tau=40", {}, "24 variables"),
        (["l2", "jacobian"], {"compile": True}, "set compile=False"),
        ("l2:coupling=-1", {}, "must be a number in"),
    ],
)
def test_mistakes_are_found_before_training(regularise, settings, message, network, digits, monkeypatch):
    monkeypatch.setattr(loop.Loop, "__init__", None)
    with pytest.raises(NetprobeError, match=message):
        train(network, digits, regularise, **settings)


def test_a_stage_without_a_pass_of_the_whole_network_is_refused_by_sites(digits):
    recipe = {"epochs": 3, "validation": 0.0, "progress": False}
    with pytest.raises(NetprobeError, match="l2 and spectral-norm, which look at weights alone"):
        fit("polarizing", "lenet", _padded(digits), "quick", regularise="jacobian", **recipe)


def _padded(images):
    stored = nn.functional.pad(images.stored.float(), [10] * 4).to(images.stored.dtype)
    return data.Data(stored, images.labels, images.classes, images.name, images.split)


def test_a_penalty_may_learn_parameters_of_its_own(network, digits, tmp_path):
    """As a regulariser that weighs layers does: they are trained with the network, and saved with the training."""

    class Weighed(Penalty):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, model, step):
            terms = torch.stack([p.square().sum() for p in (model.hidden.weight, model.linear.weight)])
            return self.weight.softmax(0) @ terms

    class Weighing(Regulariser):
        name, title = "weighing", "weighing"

        def penalty(self, subject):
            made.append(Weighed())
            return made[-1]

        def recorded(self):
            return "weighed norms", "1", "sum of weighed norms"

    made = []
    whole = train(network, digits, Weighing(coupling=0.1), out=tmp_path / "whole")
    assert made[0].weight.abs().sum() > 0
    assert "class" in describe_regulariser(Weighing(coupling=0.1))
    with killed_after(3):
        train(network, digits, Weighing(coupling=0.1), out=tmp_path / "parts", save_every=0.0)
    again = train(network, digits, Weighing(coupling=0.1), out=tmp_path / "parts", save_every=0.0)
    assert same(whole.last, again.last)
    assert torch.equal(made[0].weight, made[-1].weight)
