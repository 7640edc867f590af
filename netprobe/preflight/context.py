"""What the checks share: a sample of the data, the model's answers on it, and its input gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from netprobe.outputs import logits_of
from netprobe.perturb import resolve
from netprobe.perturb.backward import surrogates
from netprobe.perturb.objective import predict

BATCH = 64  # images at once: bounds memory


class Context:
    """One model and one data set under scrutiny. Answers are computed when first asked for, and once.

    Ask for them inside `undisturbed(model)`. What that changes, the modes of the modules, is noted at once.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        perturbations: Mapping[str, str | Callable] | None = None,
        limit: int = 256,
        seed: int = 0,
    ) -> None:
        self.model, self.seed = model, seed
        self.train_mode = [name for name, module in model.named_modules() if module.training]
        self.perturbations = {name: resolve(p) for name, p in (perturbations or {}).items()}
        self.device = next((tensor.device for tensor in self.held), torch.device("cpu"))
        self.classes: tuple[str, ...] | None = _optional(tuple, getattr(data, "classes", None))
        self.all_labels: Tensor | None = _optional(torch.as_tensor, getattr(data, "labels", None))
        size = len(data) if hasattr(data, "__len__") else len(data.inputs)
        sample = data.take(min(limit, size), seed)
        self.x: Tensor = sample.inputs.to(self.device)
        self.y: Tensor | None = _optional(torch.as_tensor, getattr(sample, "labels", None))

    @property
    def held(self) -> itertools.chain[Tensor]:
        """Parameters and buffers."""
        return itertools.chain(self.model.parameters(), self.model.buffers())

    @property
    def box(self) -> tuple[float, float]:
        """The values that inputs may have: [0, 1] for images (N, C, H, W), [-1, 1] for waveforms."""
        return (0.0, 1.0) if self.x.ndim == 4 else (-1.0, 1.0)

    def few(self, n: int) -> Tensor:
        """Positions of `n` of the sampled inputs, spread out: the classes may come one after the other."""
        return torch.linspace(0, len(self.x) - 1, min(n, len(self.x))).round().long()

    def answers(self, x: Tensor) -> Tensor:
        """The logits (N, K) at x, batch by batch. `predict` hands out copies: a model may write into its input."""
        return torch.cat([predict(self.model, part) for part in x.split(BATCH)])

    @cached_property
    def logits(self) -> Tensor:
        return self.answers(self.x)

    @cached_property
    def predictions(self) -> Tensor:
        return self.logits.argmax(1)

    @cached_property
    def labels(self) -> Tensor | None:
        """Labels of the sample on the model's device; None where there are none that name outputs of it."""
        y = self.y
        if y is None or y.is_floating_point() or y.shape != (len(self.x),):
            return None
        return y.long().to(self.device) if y.min() >= 0 and y.max() < self.logits.shape[1] else None

    @cached_property
    def repetition(self) -> float:
        """How far two passes over the same few inputs differ, relative to the largest logit."""
        x = self.x[self.few(8)]
        return difference(self.answers(x), self.answers(x))

    @cached_property
    def targets(self) -> Tensor:
        """Labels, or predictions where there are none: what an attack would lead away from."""
        return self.predictions if self.labels is None else self.labels

    @cached_property
    def gradients(self) -> Tensor | None:
        """Input gradients (n, d) of a few samples; None if autograd sees no way from the logits to the input.

        They are those of the cross-entropy without its factor 1 - p_y, which may round to 0 (`unsaturated`).
        """
        return self._input_gradients()

    @cached_property
    def attacked_gradients(self) -> Tensor | None:
        """The same as attacks see them, who follow the backward passes that layers declare (`perturb.backward`)."""
        with surrogates(self.model):
            return self._input_gradients()

    def _input_gradients(self) -> Tensor | None:
        few = self.few(32)
        x = self.x[few].clone().requires_grad_()
        with torch.enable_grad():
            logits = logits_of(self.model(x * 1), len(x))  # x * 1: a model may write into its input
            if not logits.requires_grad:
                return None
            (gradient,) = torch.autograd.grad(
                logits, x, unsaturated(logits.detach(), self.targets[few]).to(logits), allow_unused=True
            )
        return (torch.zeros_like(x) if gradient is None else gradient).flatten(1)


def unsaturated(logits: Tensor, y: Tensor) -> Tensor:
    """q - e_y, with q the softmax over the classes other than y.

    The gradient of the cross-entropy at the logits is (1 - p_y) (q - e_y), and 1 - p_y rounds to 0 for a sure network.
    """
    others = logits.scatter(1, y[:, None], -torch.inf).softmax(1)
    return others.scatter(1, y[:, None], -1.0)


def difference(a: Tensor, b: Tensor) -> float:
    """Largest |a - b| relative to the largest |a|."""
    return float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(a.dtype).tiny))


def share(of: Tensor) -> str:
    """The share of true values: "12.5% (2 of 16)"."""
    return f"{of.float().mean():.1%} ({int(of.sum())} of {len(of)})"


def _optional(convert: Callable, value: Any) -> Any:
    return None if value is None else convert(value)
