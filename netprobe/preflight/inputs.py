"""Are the inputs scaled as the model expects, and do the labels belong to them?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from netprobe.models.normalize import STATISTICS
from netprobe.preflight.context import Context, share
from netprobe.preflight.findings import Finding
from netprobe.uncertainty import wilson

NARROW = 4 / 255  # inputs that differ by less than this show nothing
TRIED_ON = 64  # inputs on which other scalings are tried
SIGNIFICANT = 0.01  # for the best of all scalings tried
GREY = {"MNIST": (0.1307, 0.3081)}
HALF = {"[-1, 1]": (0.5, 0.5)}


def input_range(context: Context) -> Finding | None:
    """Inputs must be finite, in [0, 1] (waveforms [-1, 1]), and use more of it than a few steps of 1/255."""
    x, (low, high) = context.x, context.box
    least, most = x.min().item(), x.max().item()
    span = f"Inputs ({str(x.dtype).removeprefix('torch.')}) go from {least:.4g} to {most:.4g}"
    if not x.isfinite().all():
        evidence = f"{span}; some are NaN or infinite."
        return Finding("error", "input range", evidence, "Repair or leave out those samples.")
    if least < low or most > high:
        guess = "Divide by 255." if least >= 0 and most > 16 else "Are they normalised already?"
        return Finding(
            "error",
            "input range",
            f"{span}, outside [{low:g}, {high:g}].",
            f"{guess} Give values of [{low:g}, {high:g}] and normalise inside the model: load(..., normalize=...).",
        )
    if most - least < NARROW:
        return Finding(
            "warning",
            "input range",
            f"{span}, less than 4/255 apart.",
            "Were they divided by 255 twice? A budget of 8/255 is larger than all there is to see in them.",
        )
    return None


def label_range(context: Context) -> Finding | None:
    """Labels must be whole numbers from 0 to the number of classes - 1."""
    labels = context.all_labels
    if labels is None:
        return None
    if labels.is_floating_point() or labels.ndim != 1:
        evidence = f"Labels are {str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}."
        return Finding("error", "labels", evidence, "Give (N,) whole numbers; of one-hot rows take argmax(1).")
    known = math.inf if context.classes is None else len(context.classes)
    least, most = int(labels.min()), int(labels.max())
    if least >= 0 and most < known:
        return None
    return Finding(
        "error",
        "labels",
        f"Labels go from {least} to {most}" + (f"; there are {known} classes." if context.classes else "."),
        "Subtract 1: they seem to count from 1."
        if (least, most) == (1, known)
        else "Number the classes from 0, and leave out samples that have none.",
    )


def accuracy(context: Context) -> Finding | None:
    """Much better once the inputs are scaled in another common way; or else no better than guessing."""
    if context.labels is None:
        return None
    scalings = list(_scalings(context))
    wrong = int((context.predictions != context.labels)[context.few(TRIED_ON)].sum())
    if 0.5**wrong * len(scalings) > SIGNIFICANT:
        scalings = []  # too few are wrong for any scaling to be significantly better
    return _better_scaling(context, scalings) or _guessing(context, scalings)


def _guessing(context: Context, tried: list[Scaling]) -> Finding | None:
    n, classes = context.logits.shape
    right = context.predictions == context.labels
    low, high = wilson(int(right.sum()), n)
    given = set(context.predictions.tolist())
    constant = len(given) == 1 and len(context.labels.unique()) > 1
    if low > 1 / classes and not constant:
        return None
    always = f" Every prediction is {_class_name(context, given.pop())}." if constant else ""
    in_vain = f" Inputs {', '.join(scaling.name for scaling in tried)} are no better." if tried else ""
    return Finding(
        "warning",
        "accuracy",
        f"{share(right)} of the predictions are right, 95 % interval {low:.1%} to {high:.1%}; guessing among "
        f"{classes} classes gives {1 / classes:.1%}.{always}{in_vain}",
        "That is as it should be for an untrained model. Otherwise: was the checkpoint loaded, are the "
        "classes in the order of training, is the preprocessing that of training?",
    )


def _class_name(context: Context, index: int) -> str:
    known = context.classes or ()
    return repr(known[index]) if index < len(known) else f"class {index}"


class Scaling(NamedTuple):
    """Another way to scale inputs: `change` maps x to what the model must get for its network to receive it."""

    name: str
    change: Callable[[Tensor], Tensor]
    remedy: str


def _better_scaling(context: Context, scalings: list[Scaling]) -> Finding | None:
    """The scaling with which clearly more predictions are right: a sign test, corrected for their number."""
    if not scalings:
        return None
    few = context.few(TRIED_ON)
    x, y, right = context.x[few], context.labels[few], (context.predictions == context.labels)[few]
    then = [context.answers(scaling.change(x)).argmax(1) == y for scaling in scalings]
    p_values = [_sign_test(t & ~right, right & ~t) for t in then]
    p_value, best = min(zip(p_values, range(len(scalings)), strict=True))
    if p_value * len(scalings) > SIGNIFICANT:
        return None
    return Finding(
        "error",
        "accuracy",
        f"{share(right)} of the predictions are right, but {share(then[best])} when the network receives the "
        f"inputs {scalings[best].name} (sign test: p = {p_value:.1g}).",
        scalings[best].remedy,
    )


def _sign_test(gained: Tensor, lost: Tensor) -> float:
    """The probability of as large a part of gains among the changes, if gains and losses were equally likely."""
    changes = int(gained.sum() + lost.sum())
    return binomtest(int(gained.sum()), changes, alternative="greater").pvalue if changes else 1.0


def _scalings(context: Context) -> Iterator[Scaling]:
    """Common mistakes undone: no normalisation, another one, one too many, pixels of 0..255."""
    if context.x.ndim != 4:
        return
    own = _own_normalization(context)
    undone = partial(_undo, *own) if own else lambda x: x
    if own:
        outside = context.x.min() < 0 or context.x.max() > 1
        yield Scaling(
            "without the normalisation of the model's first layer",
            undone,
            "The data are normalised already: give pixels of [0, 1]."
            if outside
            else "The network normalises its inputs itself: load it without normalize=.",
        )
    for name, statistics in ({1: GREY, 3: STATISTICS}.get(context.x.shape[1], {}) | HALF).items():
        mean, std = (_per_channel(values).to(context.x) for values in statistics)
        if own and all(torch.allclose(a, b, atol=1e-3) for a, b in zip(own, (mean, std), strict=True)):
            continue
        yield Scaling(
            f"normalised as for {name}",
            lambda x, mean=mean, std=std: undone((x - mean) / std),
            f"Normalise inside the model: load(..., normalize={(name if name in STATISTICS else statistics)!r}).",
        )
    yield Scaling(
        "multiplied by 255",
        lambda x: undone(255 * x),
        "It was trained on pixels of 0..255: load(..., normalize=(0, 1 / 255)).",
    )


def _undo(mean: Tensor, std: Tensor, x: Tensor) -> Tensor:
    return x * std + mean


def _own_normalization(context: Context) -> tuple[Tensor, Tensor] | None:
    """Mean and std of the first module that has both, one number or one for each channel."""
    for module in context.model.modules():
        mean, std = (_per_channel(getattr(module, name, None)) for name in ("mean", "std"))
        if all(part is not None and len(part) in (1, context.x.shape[1]) for part in (mean, std)):
            return mean.to(context.x), std.to(context.x)
    return None


def _per_channel(values: object) -> Tensor | None:
    """Numbers as (C, 1, 1), to combine with images; None if `values` are no numbers."""
    try:
        return torch.as_tensor(values, dtype=torch.float32).detach().reshape(-1, 1, 1)
    except (TypeError, ValueError, RuntimeError):
        return None
