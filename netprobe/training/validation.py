"""What held-out images say of a network after an epoch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from netprobe.data import Data
from netprobe.defenses.overfitting import INTERVAL, ROBUST
from netprobe.devices import batch_size
from netprobe.guard import undisturbed
from netprobe.outputs import widened
from netprobe.perturb import ImageGenerator
from netprobe.perturb.attack import attack
from netprobe.perturb.base import Perturbation
from netprobe.perturb.standing import predict_all
from netprobe.processes import Processes
from netprobe.training.choosing import LOSS
from netprobe.uncertainty import wilson

CLEAN = "validation_accuracy"
AT_ONCE = 16
"""Batches whose images are attacked together: each attack begins with a copy of the model that is made for it."""


class Validation:
    """Accuracy on `data` (None: there is none), clean and under `perturbation` (None: not asked), after any epoch.

    The noise of attacks is the same every time, so that epochs are compared on equal terms.
    """

    def __init__(
        self,
        data: Data | None,
        perturbation: Perturbation | None,
        device: torch.device,
        seed: int,
        judged_by: str = "accuracy",
    ) -> None:
        self.data, self.perturbation, self.device, self.seed = data, perturbation, device, seed
        self.judged_by = judged_by

    @property
    def criterion(self) -> str | None:
        """The record that marks the best epoch: the largest, or the smallest loss."""
        if self.data is None:
            return None
        if self.judged_by == "loss":
            return LOSS
        return CLEAN if self.perturbation is None else ROBUST

    def measure(self, model: nn.Module, together: Processes, gradients: torch.dtype | None) -> dict:
        """The records of an epoch, every process having done its share."""
        if self.data is None:
            return {}
        rows = together.share(torch.arange(len(self.data)))
        with undisturbed(model):
            sums = self._sums(model, rows, gradients)
        images, right, loss, standing = together.total(sums)
        found = {LOSS: loss / images, CLEAN: right / images}
        found[f"{CLEAN}_interval"] = _interval(right, images)
        if self.perturbation is not None:
            found |= {ROBUST: standing / images, INTERVAL: _interval(standing, images)}
        return found

    def _sums(self, model: nn.Module, rows: Tensor, gradients: torch.dtype | None) -> list[float]:
        """Images, correct ones, their summed loss, and those that stand the attack."""
        right, loss, standing = 0, 0.0, math.nan if self.perturbation is None else 0
        slots = batch_size(self.data.shape, 2, self.device)
        for part in rows.split(AT_ONCE * slots):
            (batch,) = self.data.select(part).batches(len(part), self.device)
            with torch.no_grad():
                logits = widened(predict_all(model, batch.x, slots))
            correct = logits.argmax(1) == batch.y
            right += int(correct.sum())
            loss += float(cross_entropy(logits, batch.y, reduction="sum"))
            if self.perturbation is not None and correct.any():
                x, y = batch.x[correct], batch.y[correct]
                generator = ImageGenerator(self.seed, part[correct.cpu()])
                found = attack(self.perturbation, model, x, y, generator=generator, slots=slots, gradients=gradients)
                standing += int((~found.fooled).sum())
        return [len(rows), right, loss, standing]


def _interval(right: float, images: float) -> list[float]:
    """In plain numbers: numpy's own would not be read back from a checkpoint."""
    return [float(bound) for bound in wilson(int(right), int(images))]
