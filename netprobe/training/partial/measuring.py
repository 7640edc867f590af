"""What a trained network is worth: accuracy and loss, on clean images and under the test attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.devices import batch_size, device_of
from netprobe.guard import full_precision, undisturbed
from netprobe.outputs import widened
from netprobe.perturb import ImageGenerator, apply
from netprobe.perturb.attack_copy import attack_copy
from netprobe.perturb.base import Perturbation
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import stream_seed
from netprobe.uncertainty import bootstrap_interval

CONDITIONS = ("clean", "adversarial")


def measure(
    model: nn.Module, data: Data, attack: Callable[..., Tensor], *, seed: int, batch: int | None = None
) -> dict[str, Any]:
    """Show every image to `model`, in eval mode, as it is and as `attack` leaves it after its last step.

        loss = mean of -log softmax(f(x))_y,   correct = number of images with argmax f(x) = y,   over all images

    The attack runs to its end whether or not it fools the model on the way, so that its loss can be compared between
    models that it fools and models that it does not. Noise belongs to (seed, image).

    Returns "images" and, for "clean" and "adversarial": "<condition>_correct", "<condition>_loss" in nats, and its
    95 % bootstrap interval over images "<condition>_loss_interval". The model is left as found.
    """
    batch = batch or batch_size(data.shape, 1, device_of(model))
    with undisturbed(model), full_precision():
        rows = list(_judged(model, data, attack, stream_seed(seed, "test"), batch))
    found: dict[str, Any] = {"images": len(data)}
    for at, condition in enumerate(CONDITIONS):
        losses = np.concatenate([loss[at] for loss, _ in rows])
        found[f"{condition}_correct"] = int(sum(right[at].sum() for _, right in rows))
        found[f"{condition}_loss"] = float(losses.mean())
        found[f"{condition}_loss_interval"] = bootstrap_interval(losses).tolist()
    return found


def _judged(
    model: nn.Module, data: Data, attack: Callable[..., Tensor], seed: int, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Losses and correctness (condition, image) of one batch after the other."""
    batches = data.batches(batch, device_of(model))
    source = attack_copy(model, next(iter(batches)).x[:8]) if isinstance(attack, Perturbation) else model
    for x, y, index in batches:
        changed = apply(attack, source, x, y, generator=ImageGenerator(seed, index))
        with torch.no_grad():
            logits = [widened(predict(model, shown)) for shown in (x, changed)]
        losses = torch.stack([F.cross_entropy(each, y, reduction="none") for each in logits])
        yield losses.cpu().numpy(), torch.stack([each.argmax(1) == y for each in logits]).cpu().numpy()
