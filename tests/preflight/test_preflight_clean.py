"""No false alarms, and the model left as it was found."""

from __future__ import annotations

import pytest
import torch
from spoiled import Sample, Spoiled
from torch import nn
from torchvision.models import VisionTransformer, get_model

from netprobe.data import load
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn, mlp, resnet20
from netprobe.perturb import PGD, GaussianNoise
from netprobe.preflight import check

PERTURBATIONS = {
    "pgd": PGD(eps=8 / 255, steps=20),
    "l2": PGD(eps=0.5, norm="l2"),
    "noise": GaussianNoise(0.1),
    "spec": "fgsm:eps=8/255",
    "own": lambda model, x, y, *, generator: (x + 0.1).clamp(0, 1),
}


def test_a_trained_model_has_no_findings(trained):
    findings = check(trained, load("digits", split="test"), PERTURBATIONS)
    assert not findings and str(findings) == f"nothing found in {len(findings.checks)} checks"
    assert {"accuracy", "interaction", "budget of l2", "contract of own"} <= set(findings.checks)


def test_without_labels_and_classes(trained, digits):
    assert not check(trained, Sample(digits.inputs), PERTURBATIONS)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_few_samples(trained, digits, n):
    assert not check(trained, digits, PERTURBATIONS, limit=n).errors


def test_waveforms():
    net = nn.Sequential(
        nn.Unflatten(1, (1, 64)), nn.Conv1d(1, 4, 8, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(60, 3)
    )
    words = Sample(2 * torch.rand(32, 64) - 1, torch.arange(32) % 3, ("yes", "no", "up"))
    assert not check(net.eval(), words, {"pgd": PGD(eps=0.01, low=-1)}).errors
    finding = check(net, words, {"pgd": PGD(eps=0.01)}).errors[0]
    assert "waveforms: low=-1" in finding.remedy


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (digits_cnn, (1, 8, 8)),
        (mlp, (1, 8, 8)),
        (resnet20, (3, 32, 32)),
        (lambda: get_model("resnet18", num_classes=10), (3, 64, 64)),
        (lambda: VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=10), (3, 64, 64)),
        pytest.param(
            lambda: get_model("vit_b_16", num_classes=10, image_size=160), (3, 160, 160), marks=pytest.mark.slow
        ),
    ],
    ids=["digits_cnn", "mlp", "resnet20", "resnet18", "a small ViT", "vit_b_16"],
)
def test_untrained_models_are_only_told_that_they_guess(make, shape):
    net = make().eval()
    if hasattr(net, "heads"):
        nn.init.normal_(net.heads.head.weight, std=0.02)  # torchvision sets it to 0, which is a finding
    x, y = torch.rand(24, *shape), torch.arange(24) % 10
    found = [(f.severity, f.check) for f in check(net, Sample(x, y, tuple("abcdefghij")), PERTURBATIONS)]
    assert found == [("warning", "accuracy")]


def test_modules_for_which_the_mode_makes_no_difference(digits):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    assert [f.check for f in check(net, digits)] == ["accuracy"]  # in train mode, as every new module is


def test_the_inputs_are_taken_as_they_are_stored(trained, digits):
    before = digits.inputs.clone()
    check(Spoiled(trained, before=lambda x: x.add_(1)), digits)
    assert torch.equal(digits.inputs, before)


def state_of(model: nn.Module) -> list:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    parameters = [(p.requires_grad, p.grad is None, p.tolist()) for p in model.parameters()]
    return [hooks, parameters, [b.tolist() for b in model.buffers()], torch.get_rng_state().tolist()]


def rude(model, x, y, *, generator):
    model.train()
    model(x)
    return x + torch.rand_like(x)


@pytest.mark.parametrize("spoil", [lambda z: z, lambda z: z / 0, lambda z: z[:, 99]])
def test_the_model_is_left_as_found(trained, digits, spoil):
    net = Spoiled(trained.train(), after=spoil)
    net.net.bn2.eval()
    net.net.conv1.weight.requires_grad_(False)
    net.net.linear.weight.grad = torch.ones_like(net.net.linear.weight)
    before = state_of(net)
    check(net, digits, {"rude": rude})
    assert state_of(net) == before
    with pytest.raises(NetprobeError):
        check(net, digits, {"rude": rude}, strict=True)
    assert state_of(net) == before


def test_the_same_seed_finds_the_same(trained, digits):
    noisy = Spoiled(trained, before=lambda x: x + 0.1 * torch.randn_like(x))
    first = list(check(noisy, digits, seed=3))
    torch.rand(1)  # another global state
    assert list(check(noisy, digits, seed=3)) == first


def test_unknown_perturbations_are_errors_before_any_work(trained, digits):
    with pytest.raises(NetprobeError, match="did you mean 'pgd'"):
        check(trained, digits, {"p": "pgdd:eps=8/255"})
