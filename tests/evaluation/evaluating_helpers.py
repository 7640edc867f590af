"""What tests of the evaluation share: a small model and data that a subprocess can make again."""

from __future__ import annotations

import torch
from tiny import ConvNet, images, seeded

import netprobe as npb
from netprobe.evaluation import evaluate

QUIET = {"preflight": False, "progress": False, "doubts": False}
PERTURBATIONS = {"fgsm": "fgsm:eps=0.1", "pgd": "pgd:eps=0.1,steps=4", "noise": "gaussian:std=0.2"}


def two_models() -> dict[str, torch.nn.Module]:
    return {"one": seeded(ConvNet, seed=1), "other": seeded(ConvNet, seed=2)}


def small(perturbations=PERTURBATIONS, models=None, data=None, **settings):
    """An evaluation of a second."""
    data = images(20) if data is None else data
    return evaluate(
        two_models() if models is None else models, data, perturbations, **{**QUIET, "chunk": 6, **settings}
    )


class Nearest:
    """A callable that looks for the nearest error."""

    strength, norm, family, eps = "norm", "l2", "nearest", None

    def __init__(self, inner) -> None:
        self.inner = inner

    def __call__(self, model, x, y, *, generator):
        return self.inner(model, x, y, generator=generator)


def values(tree, path: str):
    return tree[path].values


__all__ = ["PERTURBATIONS", "QUIET", "Nearest", "npb", "small", "two_models", "values"]
