"""Does an input get the same answer again, whatever else is in the batch, and is it left alone?"""

from __future__ import annotations

import torch
from torch import Tensor

from netprobe.preflight.context import Context, difference
from netprobe.preflight.findings import Finding

FEW = 8
ALONE = 2
# Float32 kernels for other batch sizes differ by 1e-7 to 1e-5 of the largest logit, the more the deeper the
# network. Dropout and batch statistics move logits by percents.
ROUNDING = 1e-4
INTERACTION = 1e-3


def randomness(context: Context) -> Finding | None:
    """Two passes over the same batch must agree."""
    moved = context.repetition
    if moved == 0:
        return None
    if moved <= ROUNDING:
        return Finding(
            "note",
            "randomness",
            f"Two passes over the same inputs differ by {moved:.1g} of the largest logit.",
            "Sums in another order; torch.use_deterministic_algorithms(True) makes the bits agree.",
        )
    return Finding(
        "warning",
        "randomness",
        f"Two passes over the same inputs in eval mode differ by {moved:.2g} of the largest logit.",
        "Results hold for one draw: repeat them with other seeds, and attack the average (eot > 1). If this "
        "is not meant to be, look for functional dropout without training=self.training.",
    )


def interaction(context: Context) -> Finding | None:
    """An input's logits must depend neither on its neighbours nor on the order nor on the size of the batch."""
    if context.repetition > ROUNDING or len(context.x) < 2:
        return None
    x = context.x[context.few(FEW)]
    logits = context.answers(x)
    moved, how = max(
        (difference(logits, _among_zeros(context, x)), "its neighbours are replaced"),
        (difference(logits, context.answers(x.flip(0)).flip(0)), "the order is reversed"),
        (
            difference(logits[:ALONE], torch.cat([context.answers(row[None]) for row in x[:ALONE]])),
            "it is alone",
        ),
    )
    if moved <= INTERACTION:
        return None
    return Finding(
        "error",
        "interaction",
        f"The logits of an input in eval mode change by {moved:.2g} of the largest when {how}.",
        "Something looks across the batch: batch statistics, a softmax, norm or attention over axis 0. Until "
        "that is mended every result depends on the batch size.",
    )


def _among_zeros(context: Context, x: Tensor) -> Tensor:
    """Logits of x with first one, then the other half of the batch set to 0, but every input in its place."""
    half = len(x) // 2
    first, second = x.clone(), x.clone()
    first[half:], second[:half] = 0, 0
    return torch.cat([context.answers(first)[:half], context.answers(second)[half:]])


def overwriting(context: Context) -> Finding | None:
    """A forward pass must not write into its input."""
    x = context.x[context.few(2)]
    given = x.clone()
    with torch.no_grad():
        context.model(given)
    if torch.equal(given, x):
        return None
    return Finding(
        "error",
        "overwriting",
        "The forward pass writes into its input.",
        "Make its first operation return a new tensor (x - mean for x -= mean, nn.ReLU() for an in-place one): "
        "inputs are used again after they have been through the model.",
    )
