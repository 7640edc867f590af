"""Every check, on what commits its sin. Those that commit none are in test_preflight_clean.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from spoiled import Sample, Spoiled
from torch import nn

from netprobe.defenses import PolarizingDefense
from netprobe.models import STATISTICS, Normalize, Normalized, digits_cnn
from netprobe.perturb import BIM, PGD, BackwardPass
from netprobe.preflight import Finding, check


def only(findings) -> Finding:
    """The one finding; a sin must not set off other checks."""
    assert len(findings) == 1, str(findings)
    return findings[0]


def serious(findings, name: str) -> Finding:
    """The finding of the check called `name`; for sins that others follow from."""
    (found,) = (finding for finding in findings if finding.check == name)
    return found


# --- the model's state


def test_train_mode(trained, digits):
    finding = only(check(trained.train(), digits))
    assert (finding.severity, finding.check) == ("warning", "train mode")
    assert "5 BatchNorm2d ('bn1', 'bn2', 'bn3', 'bn4' and 1 more)" in finding.evidence


def test_some_modules_in_train_mode_are_named(trained, digits):
    trained.bn3.train()
    assert "In train mode: 1 BatchNorm2d ('bn3')." in only(check(trained, digits)).evidence


def test_a_model_that_refuses_eval_mode(trained, digits):
    class Stubborn(Spoiled):
        def train(self, mode=True):
            return super().train(True)

    finding = serious(check(Stubborn(trained), digits), "train mode")
    assert finding.severity == "error" and "Still in train mode after model.eval()" in finding.evidence


def test_half_precision_fails_on_float32_inputs(trained, digits):
    findings = check(trained.bfloat16(), digits)
    assert serious(findings, "precision").evidence.startswith("Parameters and buffers are bfloat16")
    assert serious(findings, "forward pass").severity == "error"


def test_several_devices(trained, digits):
    net = Spoiled(trained).eval()
    net.unused = nn.Linear(2, 2, device="meta").eval()
    assert "are on cpu and meta" in only(check(net, digits)).evidence


# --- inputs and labels


def scaled(digits: Sample, change) -> Sample:
    return replace(digits, inputs=change(digits.inputs))


@pytest.mark.parametrize(
    ("change", "evidence", "remedy"),
    [
        (lambda x: 255 * x, "from 0 to 255, outside [0, 1]", "Divide by 255."),
        (lambda x: (x - 0.3) / 0.4, "from -0.75 to 1.75, outside [0, 1]", "normalised already?"),
        (lambda x: x / 255, "from 0 to 0.003922, less than 4/255 apart", "divided by 255 twice?"),
        (lambda x: x.where(x < 1, torch.nan), "some are NaN or infinite", "leave out"),
    ],
)
def test_input_range(trained, digits, change, evidence, remedy):
    finding = serious(check(trained, scaled(digits, change)), "input range")
    assert evidence in finding.evidence and remedy in finding.remedy


def test_input_range_of_waveforms():
    net = nn.Sequential(nn.Linear(20, 4))
    assert not any(f.check == "input range" for f in check(net, Sample(2 * torch.rand(16, 20) - 1)))
    assert "outside [-1, 1]" in serious(check(net, Sample(9 * torch.rand(16, 20))), "input range").evidence


@pytest.mark.parametrize(
    ("change", "evidence", "remedy"),
    [
        (lambda y: y + 1, "from 1 to 10; there are 10 classes", "Subtract 1"),
        (lambda y: y - 1, "from -1 to 8", "Number the classes from 0"),
        (lambda y: y.float(), "float32 of shape (128,)", "whole numbers"),
        (lambda y: nn.functional.one_hot(y), "int64 of shape (128, 10)", "argmax(1)"),
    ],
)
def test_labels_out_of_range(trained, digits, change, evidence, remedy):
    finding = serious(check(trained, replace(digits, labels=change(digits.labels))), "labels")
    assert finding.severity == "error" and evidence in finding.evidence and remedy in finding.remedy


# --- accuracy


def test_an_untrained_model_is_at_chance(digits):
    finding = only(check(digits_cnn().eval(), digits))
    assert (finding.severity, finding.check) == ("warning", "accuracy")
    assert "guessing among 10 classes gives 10.0%" in finding.evidence and "95 % interval" in finding.evidence
    assert (
        "Inputs normalised as for MNIST, normalised as for [-1, 1], multiplied by 255 are no better" in finding.evidence
    )
    assert finding.remedy.startswith("That is as it should be for an untrained model.")


def test_a_constant_prediction_is_named(trained, digits):
    trained.linear.bias.data[3] += 100
    assert "Every prediction is '3'." in serious(check(trained, digits), "accuracy").evidence


def test_a_constant_prediction_better_than_chance_is_found(trained, digits):
    trained.linear.bias.data[3] += 100
    mostly = torch.where(torch.arange(128) % 5 > 0, 3, digits.labels)
    assert "Every prediction is '3'." in serious(check(trained, replace(digits, labels=mostly)), "accuracy").evidence


def wrong_scale(trained: nn.Module, mean: float, std: float) -> nn.Module:
    """A network trained on (x - mean) / std: it undoes that first."""
    return Spoiled(trained, before=lambda x: x * std + mean).eval()


def test_missing_normalisation(trained, digits):
    finding = only(check(wrong_scale(trained, 0.1307, 0.3081), digits))
    assert (finding.severity, finding.check) == ("error", "accuracy")
    assert "when the network receives the inputs normalised as for MNIST (sign test: p = " in finding.evidence
    assert finding.remedy == "Normalise inside the model: load(..., normalize=(0.1307, 0.3081))."


def test_colour_images_are_tried_with_the_statistics_that_load_knows():
    data = Sample(torch.rand(20, 3, 8, 8), torch.arange(20) % 5, tuple("abcde"))
    finding = only(check(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), data))
    assert all(f"normalised as for {name}" in finding.evidence for name in STATISTICS)


def test_normalised_twice_by_the_model(trained, digits):
    finding = serious(check(Normalized(trained, 0.5, 0.2).eval(), digits), "accuracy")
    assert "without the normalisation of the model's first layer" in finding.evidence
    assert "load it without normalize=" in finding.remedy


def test_normalised_by_the_data_and_the_model(trained, digits):
    mean, std = 0.5, 0.2
    net = Normalized(wrong_scale(trained, mean, std), mean, std).eval()
    assert not check(net, digits)
    findings = check(net, scaled(digits, lambda x: (x - mean) / std))
    assert serious(findings, "accuracy").remedy == "The data are normalised already: give pixels of [0, 1]."


def test_another_normalisation_than_that_of_training(trained, digits):
    net = Normalized(wrong_scale(trained, 0.5, 0.5), 0.0, 0.2).eval()
    finding = serious(check(net, digits), "accuracy")
    assert "normalised as for [-1, 1]" in finding.evidence and "normalize=(0.5, 0.5)" in finding.remedy


def test_trained_on_pixels_of_0_to_255(trained, digits):
    finding = only(check(wrong_scale(trained, 0.0, 1 / 255), digits))
    assert "multiplied by 255" in finding.evidence and "normalize=(0, 1 / 255)" in finding.remedy


def test_every_remedy_for_the_scaling_works(trained, digits):
    """What the evidence claims is true of the model that the remedy describes."""
    sinner = wrong_scale(trained, 0.1307, 0.3081)
    assert check(sinner, digits).errors and not check(Normalized(sinner, 0.1307, 0.3081).eval(), digits)
    sinner = wrong_scale(trained, 0.0, 1 / 255)
    assert check(sinner, digits).errors and not check(nn.Sequential(Normalize(0, 1 / 255), sinner).eval(), digits)


# --- outputs


@pytest.mark.parametrize(
    ("after", "evidence"),
    [
        (lambda z: z.argmax(1), "logits are a int64 tensor of shape (128,)|not floats of shape"),
        (lambda z: {"features": z}, "with the keys 'features'"),
        (lambda z: z @ torch.ones(3, 3), "RuntimeError"),
    ],
)
def test_a_forward_pass_that_fails(trained, digits, after, evidence):
    finding = only(check(Spoiled(trained, after=after), digits))
    assert (finding.severity, finding.check) == ("error", "forward pass")
    assert "fails on float32 inputs of 128x1x8x8" in finding.evidence
    assert any(part in finding.evidence for part in evidence.split("|"))


def test_inputs_of_another_shape(trained, digits):
    finding = only(check(trained, scaled(digits, lambda x: x.expand(-1, 3, -1, -1))))
    assert "inputs of 128x3x8x8: RuntimeError: " in finding.evidence and "3 channels" in finding.evidence


def test_a_model_that_cannot_take_one_input(trained, digits):
    finding = only(check(Spoiled(trained, after=torch.squeeze), digits))
    assert "fails on float32 inputs of 1x1x8x8" in finding.evidence


def test_nan_outputs(trained, digits):
    trained.linear.bias.data[2] = torch.nan
    assert "NaN or infinite for 100.0% (128 of 128)" in only(check(trained, digits)).evidence


def test_too_few_outputs(trained, digits):
    finding = serious(check(trained, replace(digits, classes=tuple("abcdefghijkl"))), "classes")
    assert finding.severity == "error" and "10 outputs for 12 classes" in finding.evidence


def test_too_few_outputs_for_the_labels(trained, digits):
    finding = serious(check(trained, replace(digits, labels=digits.labels + 4, classes=None)), "classes")
    assert finding.severity == "error" and "10 outputs for 14 classes" in finding.evidence


def test_more_outputs_than_classes(trained, digits):
    padded = Spoiled(trained, after=lambda z: nn.functional.pad(z, (0, 90), value=-50.0))
    finding = only(check(padded, digits))
    assert finding.severity == "warning" and "100 outputs, the data have 10 classes" in finding.evidence


def test_probabilities_instead_of_logits(trained, digits):
    finding = serious(check(Spoiled(trained, after=lambda z: z.softmax(1)), digits), "probabilities")
    assert finding.severity == "error" and "sum to 1" in finding.evidence


def test_logits_that_sum_to_1_are_not_probabilities(trained, digits):
    assert not check(Spoiled(trained, after=lambda z: z - z.mean(1, keepdim=True) + 0.1), digits)


def test_log_probabilities_are_only_noted(trained, digits):
    finding = only(check(Spoiled(trained, after=lambda z: z.log_softmax(1)), digits))
    assert (finding.severity, finding.check) == ("note", "probabilities")


# --- the same input again


def test_randomness_at_eval(trained, digits):
    noisy = Spoiled(trained, before=lambda x: nn.functional.dropout(x, 0.2, training=True))
    finding = only(check(noisy, digits))
    assert (finding.severity, finding.check) == ("warning", "randomness")


def test_rounding_that_differs_is_only_noted(trained, digits):
    finding = only(check(Spoiled(trained, after=lambda z: z * (1 + 1e-6 * torch.rand(1))), digits))
    assert (finding.severity, finding.check) == ("note", "randomness")


class BatchStatistics(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


@pytest.mark.parametrize(
    "before",
    [
        BatchStatistics(),
        lambda x: x / x.amax(),  # dynamic quantisation does this
        lambda x: x + torch.linspace(0, 1, len(x))[:, None, None, None],  # by place in the batch
        lambda x: x * (1 + 1 / len(x)),  # by the size of the batch
        lambda x: x * torch.tensor([1.0] * (len(x) - 1) + [1 + 0.1 * (len(x) > 1)])[:, None, None, None],
        lambda x: x.index_add(0, torch.arange(2, len(x) - 2), x[2 : len(x) - 2].flip(0)) if len(x) > 4 else x,
    ],
    ids=["batch statistics", "largest value", "place", "size", "only the last", "only pairs, far from the first"],
)
def test_samples_that_interact(trained, digits, before):
    data = scaled(digits, lambda x: x * torch.linspace(0.5, 1, len(x))[:, None, None, None])
    finding = serious(check(Spoiled(trained, before=before), data), "interaction")
    assert finding.severity == "error" and "of an input in eval mode change by" in finding.evidence


def test_a_forward_pass_that_writes_into_its_input(trained, digits):
    finding = only(check(Spoiled(trained, before=lambda x: x.mul_(0.999)), digits))
    assert (finding.severity, finding.check) == ("error", "overwriting")


# --- gradients


@pytest.mark.parametrize(
    ("before", "evidence"),
    [
        (lambda x: x.detach(), "no gradient with respect to the input"),
        (lambda x: torch.from_numpy(x.detach().numpy()), "no gradient with respect to the input"),
        (lambda x: (x * 8).round() / 8, "exactly 0 for 100.0% (32 of 32) of the inputs, yet noise of 8/255 moves"),
    ],
)
def test_missing_gradients(trained, digits, before, evidence):
    finding = only(check(Spoiled(trained, before=before), digits))
    assert (finding.severity, finding.check) == ("error", "gradients")
    assert evidence in finding.evidence and "blind" in finding.remedy


def test_declared_backward_passes_bring_gradients_back(trained, digits):
    """A note, not an error: attacks of ours are not blind there."""
    eighths = BackwardPass(Spoiled(nn.Identity(), before=lambda x: (x * 8).round() / 8))
    finding = only(check(nn.Sequential(eighths, trained), digits))
    assert (finding.severity, finding.check) == ("note", "gradients")
    assert "exactly 0 for 100.0% (32 of 32)" in finding.evidence and "one of a layer's own" in finding.evidence
    front = PolarizingDefense(filters=4, size=3).build(digits_cnn(in_channels=4))
    (finding,) = [f for f in check(front, digits) if f.check == "gradients"]
    assert finding.severity == "note" and "smooth, identity, front-end" in finding.evidence


def test_numpy_in_the_forward_pass(trained, digits):
    finding = only(check(Spoiled(trained, before=lambda x: torch.from_numpy(x.numpy())), digits))
    assert finding.severity == "error" and "The backward pass fails: Can't call numpy()" in finding.evidence


def test_a_last_weight_of_zeros(trained, digits):
    trained.linear.weight.data.zero_()
    finding = serious(check(trained, digits), "gradients")
    assert finding.severity == "warning" and "does not move their logits either" in finding.evidence


@pytest.mark.parametrize(("margin", "finding"), [(10, None), (25, ("note", "float32")), (60, ("warning", "float64"))])
def test_saturation(trained, digits, margin, finding):
    """exp(-25) is lost beside 1 in float32, exp(-60) in float64 too."""
    findings = check(
        Spoiled(trained, after=lambda z: margin * nn.functional.one_hot(z.argmax(1), 10) + 1e-3 * z), digits
    )
    if finding is None:
        assert not findings
    else:
        severity, precision = finding
        found = only(findings)
        assert (found.severity, found.check) == (severity, "saturation")
        assert precision in found.evidence and f"by up to {margin}" in found.evidence


# --- perturbations


@dataclass
class Foreign:
    """Somebody else's attack."""

    eps: float = 8 / 255
    norm: str = "linf"
    step_size: float | None = None
    steps: int = 10
    size: float = 0.0

    def __call__(self, model, x, y, *, generator):
        return x + self.size


@pytest.mark.parametrize(
    ("perturbation", "severity", "name", "evidence"),
    [
        (Foreign(eps=8), "error", "budget", "'p' has eps = 8; the whole range of inputs is 1 in linf"),
        (PGD(eps=9, norm="l2"), "error", "budget", "the whole range of inputs is 8 in l2"),
        (PGD(eps=65, norm="l1"), "error", "budget", "the whole range of inputs is 64 in l1"),
        (PGD(eps=8 / 255**2), "note", "budget", "or 0.031/255"),
        (BIM(eps=8 / 255, step_size=1.0), "warning", "step size", "longer than its eps = 0.03137"),
        (BIM(eps=8 / 255, step_size=1e-3, steps=20), "warning", "step size", "cannot reach its eps"),
        (Foreign(size=2.0), "error", "perturbation", "returns values from 2 to 3, outside [0, 1]"),
        (PGD(eps=0.1, low=0.25), "error", "perturbation", "is for inputs of [0.25, 1]; some of these are outside"),
        (lambda model, x, y, *, generator: x[:1], "error", "perturbation", "[1, 1, 8, 8]) for inputs of shape"),
        (lambda model, x, y, *, generator: x.missing, "error", "perturbation", "AttributeError"),
        (lambda model, x, y, *, generator: x / 0, "error", "perturbation", "not finite"),
    ],
)
def test_perturbations(trained, digits, perturbation, severity, name, evidence):
    finding = only(check(trained, digits, {"p": perturbation}))
    assert (finding.severity, finding.check) == (severity, name)
    assert evidence in finding.evidence


def test_perturbations_are_checked_without_labels(trained, digits):
    shifted = Foreign(size=2.0)
    assert check(trained, Sample(digits.inputs), {"p": shifted}).errors
