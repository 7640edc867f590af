"""Masked gradients are found for the right reason, sound models are left alone, and chance raises no doubt."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import netprobe as npb
from netprobe.evaluation import evaluate
from netprobe.evaluation.doubts.judgement import Evidence, Judgement, gain, stronger
from netprobe.evaluation.paired import Paired
from netprobe.perturb import PGD
from netprobe.recipes import QUICK
from netprobe.training import fit

ATTACK = {"pgd": "pgd:eps=0.15,steps=20"}


class Around(nn.Module):
    """A network with something done to its inputs or its outputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


class Quantised(Around):
    def forward(self, x):
        return self.net((8 * x).round() / 8)


class Hidden(Around):
    """Nearly all of the gradient is held back."""

    def forward(self, x):
        return self.net(x.detach() + 1e-3 * (x - x.detach()))


class Steep(Around):
    """Quantised by steps that are steep instead of sharp: the gradient is large or tiny, and seldom of any use."""

    def forward(self, x):
        low = (8 * x).floor()
        return self.net((low + torch.sigmoid(60 * (8 * x - low - 0.5))) / 8)


class Noisy(Around):
    def forward(self, x):
        return self.net(x + 0.2 * torch.randn_like(x))


class Scaled(Around):
    def forward(self, x):
        return 100 * self.net(x)


class Softmax(Around):
    def forward(self, x):
        return self.net(x).softmax(1)


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    """A natural and an adversarially trained network, trained enough to be right on most digits."""
    train = npb.data.load("digits", "train")
    recipe = QUICK.with_settings(epochs=6, batch_size=64, validation=0.0)
    defenses = {"natural": "natural", "robust": "pgd-at:eps=0.1,steps=4"}
    return {name: fit(spec, "digits_cnn", train, recipe, progress=False).model for name, spec in defenses.items()}


def doubted(models, perturbations=None, **settings):
    data = npb.data.load("digits", "test").take(120, 0)
    settings = {"preflight": False, "progress": False, "probe_images": 60, **settings}
    return evaluate(models, data, perturbations or ATTACK, **settings)["doubts"].to_dataset()


def flagged(data, model: str) -> set[str]:
    rows = (data["row_model"] == model) & (data["status"] == "flagged")
    return set(data["row_check"].values[rows.values])


def verdict(data, model: str) -> str:
    return str(data["verdict"].sel(subject=model).item())


@pytest.fixture(scope="module")
def sound(nets):
    sweep = {**npb.sweep(PGD(0.1, steps=20), eps=[0.05, 0.1, 0.15]), "fgsm": "fgsm:eps=0.15"}
    return doubted(nets, sweep)


def test_sound_models_raise_no_doubt(sound):
    for model in ("natural", "robust"):
        assert flagged(sound, model) == set(), verdict(sound, model)
        assert verdict(sound, model) == "no sign of masked gradients in 12 checks (1 could not be run)"
    assert sound.sizes["finding"] == 0


def test_every_check_leaves_its_evidence(sound):
    from netprobe.evaluation.doubts import CHECKS

    own = sound["row_check"].values[sound["row_model"].values == "robust"]
    assert len(dict.fromkeys(own)) == len(CHECKS) == 13
    not_run = sound.isel(row=sound["status"].values == "not run")
    assert set(not_run["row_check"].values) == {"black box"} and "add square" in str(not_run["quantity"].values[0])
    shares = sound.isel(row=np.isfinite(sound["low"].values))
    assert (shares["low"] <= shares["value"]).all() and (shares["value"] <= shares["high"]).all()


@pytest.mark.parametrize(
    ("sin", "check", "reason"),
    [
        (Quantised, "zero or tiny gradients", "the input gradient is zero or missing on many images"),
        (Hidden, "zero or tiny gradients", "the input gradient is far too small for how much noise moves the outputs"),
        (Noisy, "randomness", "the model is random, and pgd attack single draws of it (no EOT)"),
        (Scaled, "scaled-up logits", "the logits are scaled up so far that the cross-entropy saturates"),
        (Softmax, "softmax outputs", "the outputs are probabilities, not logits"),
    ],
)
@pytest.mark.parametrize("net", ["natural", "robust"])
def test_each_sin_is_named_first(nets, sin, check, reason, net):
    data = doubted({"sinner": sin(nets[net])})
    assert check in flagged(data, "sinner")
    assert verdict(data, "sinner").startswith(f"do not trust the accuracies under attack because {reason}")
    (first, *_) = data["check"].values
    assert first == check and data["severity"].values[0] == "error"


@pytest.mark.parametrize("net", ["natural", "robust"])
def test_a_loss_that_cannot_be_followed_falls_to_a_single_step(nets, net):
    data = doubted({"steep": Steep(nets[net])})
    assert "single step" in flagged(data, "steep")
    assert "a single step breaks more images than many" in verdict(data, "steep")


def test_noise_alone_is_no_other_sin(nets):
    """Every attempt at a random model breaks a few more images: that is no evidence of weak steps."""
    data = doubted({"noisy": Noisy(nets["robust"])})
    assert flagged(data, "noisy") <= {"randomness", "huge eps"}


def test_averaging_over_the_noise_is_a_note(nets):
    data = doubted({"noisy": Noisy(nets["robust"])}, {"pgd": "pgd:eps=0.15,steps=3,eot=4"})
    assert "randomness" not in flagged(data, "noisy")
    assert "note" in data["severity"].values and "EOT" in str(data["evidence"].values)


def test_a_weak_attack_is_named(nets):
    data = doubted({"robust": nets["natural"]}, {"weak": "pgd:eps=0.15,steps=2,step_size=0.02,random_start=false"})
    assert "more steps and restarts" in flagged(data, "robust")


def test_a_single_step_alone_is_a_weak_attack(nets):
    data = doubted({"natural": nets["natural"]}, {"fgsm": "fgsm:eps=0.15"})
    assert flagged(data, "natural") == {"more steps and restarts"}


def away(model, x, y, *, generator):
    """Leaves the box, but not its ball."""
    return x + 0.4


def far(model, x, y, *, generator):
    """Leaves its ball, but not the box."""
    return (x + 0.4).clamp(0, 1)


away.eps, away.norm, far.eps, far.norm = 0.5, "linf", 0.3, "linf"


@pytest.mark.parametrize("away", [away, far])
def test_leaving_the_ball_or_the_box_is_an_error(nets, away):
    data = doubted({"natural": nets["natural"]}, {"pgd": ATTACK["pgd"], "away": away})
    assert "ball and box" in flagged(data, "natural")
    assert "away left the ball or the range of inputs" in verdict(data, "natural")


def blunted(model, x, y, *, generator):
    """Noise of full length that asks for no gradient."""
    return (x + 0.15 * torch.randn(x.shape, generator=generator).sign()).clamp(0, 1)


blunted.eps, blunted.norm, blunted.surrogate = 0.15, "linf", None


def test_black_box_attacks_are_compared_with_gradients_of_the_same_budget(nets):
    perturbations = ATTACK | {"black": blunted}
    sound, masked = (doubted({"m": net}, perturbations) for net in (nets["natural"], Scaled(nets["natural"])))
    assert "black box" not in flagged(sound, "m") and "not run" not in black_box_row(sound)
    assert "black" in str(masked["quantity"].values)


def black_box_row(data) -> list[str]:
    return list(data["status"].values[data["row_check"].values == "black box"])


def test_more_standing_at_a_larger_eps_is_flagged(nets):
    """A fixed step makes an attack weaker than itself with a smaller ball: here by hand, a callable that gives up."""
    steps = npb.sweep(PGD(0.1, steps=10), eps=[0.02, 0.2])
    lame = dataclasses.replace(steps["pgd@0.2"], step_size=1e-6, random_start=False)
    data = doubted(
        {"m": nets["natural"]}, {"pgd@0.15": dataclasses.replace(lame, eps=0.15, step_size=0.05), "pgd@0.2": lame}
    )
    assert "monotone in eps" in flagged(data, "m")


def test_clean_images_alone_leave_little_to_check(nets):
    data = evaluate(nets["natural"], npb.data.load("digits", "test").take(40, 0), None, preflight=False, progress=False)
    text = str(data["doubts"]["verdict"].values[0])
    assert text == "no sign of masked gradients in 5 checks (8 could not be run)"


def test_chance_is_no_doubt():
    """Ten of ten images to one side are doubted, nine of nine are not (2^-9 > 0.001 > 2^-10)."""
    names = ("pgd", "square")
    assert not stronger("c", names, Paired(50, 9, 0, 41), "r", "do").doubtful
    assert stronger("c", names, Paired(50, 10, 0, 40), "r", "do").doubtful
    assert not stronger("c", names, Paired(50, 30, 25, 5), "r", "do").doubtful


def test_a_gain_is_judged_by_its_lower_bound_over_all_images():
    assert not gain("c", "x", 3, 50, 0.4, "r", "do").doubtful  # 0.4 * 2.1 %
    assert gain("c", "x", 6, 50, 0.5, "r", "do").doubtful  # 0.5 * 5.6 %
    assert not gain("c", "x", 0, 0, 0.0, "r", "do").doubtful


def test_notes_are_findings_but_no_doubts():
    note = Judgement("c", (Evidence("q", 1.0),), "because", "do", "note")
    assert note.status == "passed" and note.finding.severity == "note" and not note.doubtful
    assert Judgement("c", unable="why").finding is None


@pytest.mark.slow
def test_public_checkpoints_are_not_doubted_and_their_sins_are(data_root):
    """The natural and the PGD-trained ResNet-32 on 500 images: about 0 % and 41 %, and no doubt; takes minutes."""
    names = {"natural": "resnet_sgd_cyc_0.0500_NT_ep_100.pt"}
    names["robust"] = "resnet_sgd_cyc_0.0500_PGD_eps_8_Ns_10_ss_1_Nr_1_ep_100.pt"
    nets = {
        name: npb.load("resnet32_thin", data_root / "checkpoints" / file, normalize="cifar10")
        for name, file in names.items()
    }
    attack = {"pgd": "pgd:eps=8/255,steps=20,step_size=1/255"}
    quiet = {"preflight": False, "progress": False}
    tree = evaluate(nets, npb.data.load("cifar10-jpeg", limit=500), attack, **quiet)
    sentences = [str(sentence) for sentence in tree["doubts"]["verdict"].values]
    assert all(sentence.startswith("no sign of masked gradients in 12 checks") for sentence in sentences), sentences
    assert tree["natural/evaluation/accuracy"].sel(condition="pgd") == 0
    assert float(tree["robust/evaluation/accuracy"].sel(condition="pgd")) == pytest.approx(0.41, abs=0.02)
    sins = {f"{kind.__name__} {name}": kind(net) for kind in (Quantised, Noisy, Scaled) for name, net in nets.items()}
    data = evaluate(sins, npb.data.load("cifar10-jpeg", limit=100), attack, probe_images=50, **quiet)["doubts"]
    reasons = {
        "Quantised": "gradient is zero or missing",
        "Noisy": "the model is random",
        "Scaled": "logits are scaled up",
    }
    for sinner, sentence in zip(data["subject"].values, data["verdict"].values, strict=True):
        assert reasons[sinner.split()[0]] in sentence, (sinner, sentence)
