"""The model and the random state are left exactly as they were found, also after an error."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tiny import QUIET, images, seeded
from torch import Tensor, nn

import netprobe as npb
from netprobe.guard import full_precision, undisturbed
from netprobe.sites import find_sites


class Stateful(nn.Module):
    """Batch norm, dropout, a buffer written to and one that is replaced; random numbers drawn from everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()
        self.head = nn.Linear(4, 4)
        self.register_buffer("written", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("empty", None)
        self.error: type[BaseException] | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.written += 1
        self.replaced = self.replaced + 1
        torch.rand(1), np.random.rand(), random.random()
        x = self.drop(self.bn(self.conv(x)))
        if self.error:
            raise self.error("in the model")
        return self.head(x.mean((2, 3)))


def state_of(model: nn.Module) -> dict:
    """Everything that must not change, in plain values."""
    return {
        "keys": list(model.state_dict()),
        "values": [v.tolist() for v in model.state_dict().values()],
        "identities": [id(p) for p in (*model.parameters(), *model.buffers())],
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "hooks": [
            len(getattr(m, name))
            for m in model.modules()
            for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        ],
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state(legacy=False)),
        "python": random.getstate(),
        "fused": torch.backends.mha.get_fastpath_enabled(),
        "grad mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
    }


@pytest.fixture
def model() -> Stateful:
    """In training mode but for one module, one parameter frozen, gradients on some."""
    model = seeded(Stateful).train()
    model.bn.eval()
    model.head.bias.requires_grad_(False)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    return model


class Unchanged:
    """`with Unchanged(model):` fails if anything of the model or the random state is different afterwards."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.before = state_of(self.model)

    def __exit__(self, *_: object) -> None:
        assert state_of(self.model) == self.before


def test_the_check_itself_sees_changes(model):
    for change in (
        lambda: model.eval(),
        lambda: model.head.weight.requires_grad_(False),
        lambda: model.written.add_(1),
        lambda: setattr(model, "replaced", model.replaced.clone()),
        lambda: model.head.register_forward_hook(print),
        lambda: model.conv.weight.grad.mul_(2),
        lambda: setattr(model.conv.weight, "grad", None),
        lambda: torch.rand(1),
        lambda: np.random.rand(),
        lambda: random.random(),
    ):
        with pytest.raises(AssertionError), Unchanged(model):
            change()


def meddle(model: nn.Module) -> None:
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model(torch.rand(2, 3, 6, 5)).sum().backward()


def test_undisturbed_restores_everything(model):
    with Unchanged(model), undisturbed(model) as inside:
        assert inside is model
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        meddle(model)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_undisturbed_restores_everything_after_an_error(model, error):
    with Unchanged(model), pytest.raises(error), undisturbed(model):
        meddle(model)
        raise error


def test_undisturbed_nests(model):
    with Unchanged(model), undisturbed(model), undisturbed(model):
        meddle(model)


def test_find_sites_leaves_the_model_alone(model):
    x = torch.rand(2, 3, 6, 5)
    with Unchanged(model):
        find_sites(model, x)
    model.error = RuntimeError
    with Unchanged(model), pytest.raises(RuntimeError):
        find_sites(model, x)


def steps(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
    """A careless perturbation: it draws from the global states and leaves hooks to nobody."""
    torch.rand(1), np.random.rand(), random.random()
    return (x + 0.1 * torch.rand_like(x)).clamp(0, 1)


EVERYTHING = "psr,snr,hoyer,spectrum,correlation,cka"


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    "perturbation", ["pgd:eps=0.1,steps=2", "gaussian:std=0.1", steps], ids=["pgd", "noise", "own"]
)
def test_probe_leaves_the_model_alone(model, perturbation, paired):
    with Unchanged(model):
        npb.probe(model, images(), perturbation, EVERYTHING, paired=paired, **QUIET)


def test_probe_leaves_the_model_alone_in_another_precision(model):
    with Unchanged(model):
        npb.probe(model, images(), "fgsm:eps=0.1", "psr", dtype="float64", **QUIET)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_probe_leaves_the_model_alone_after_an_error_in_a_perturbation(model, error):
    def failing(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        torch.rand(1)
        raise error

    with Unchanged(model), pytest.raises(error):
        npb.probe(model, images(), failing, EVERYTHING, **QUIET)


def test_probe_leaves_the_model_alone_after_an_error_in_the_model(model):
    def arming(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        model.error = RuntimeError
        return x

    with Unchanged(model), pytest.raises(RuntimeError, match="in the model"):
        npb.probe(model, images(), arming, EVERYTHING, **QUIET)


def test_probe_leaves_the_model_alone_after_an_error_in_a_metric(model, monkeypatch):
    def refuse(self: object, observation: object) -> None:
        torch.rand(1)
        raise ArithmeticError("in the metric")

    monkeypatch.setattr("netprobe.probing.observables.Norms.update", refuse)
    with Unchanged(model), pytest.raises(ArithmeticError):
        npb.probe(model, images(), "gaussian:std=0.1", EVERYTHING, **QUIET)


def test_full_precision_turns_autocast_off_and_back_on():
    a = torch.rand(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision():
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16


def test_full_precision_restores_the_flags_after_an_error():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        with pytest.raises(RuntimeError), full_precision():
            assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
            raise RuntimeError
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
