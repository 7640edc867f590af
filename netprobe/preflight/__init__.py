"""The silent mistakes, found before they cost a day: what is wrong with this model, on these data?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from netprobe.guard import full_precision, undisturbed
from netprobe.preflight.budgets import budget, contract, stride
from netprobe.preflight.context import Context
from netprobe.preflight.findings import SEVERITIES, Finding, Findings
from netprobe.preflight.gradients import input_gradients, saturation
from netprobe.preflight.inputs import accuracy, input_range, label_range
from netprobe.preflight.model_state import devices, precision, train_mode
from netprobe.preflight.outputs import class_count, forward_pass, probabilities
from netprobe.preflight.repeatability import interaction, overwriting, randomness

__all__ = ["CHECKS", "PERTURBATION_CHECKS", "SEVERITIES", "Finding", "Findings", "check"]

#: Made in this order; those behind `forward_pass` need a model that runs.
CHECKS: tuple[Callable[[Context], Finding | None], ...] = (
    train_mode,
    precision,
    devices,
    input_range,
    label_range,
    forward_pass,
    class_count,
    probabilities,
    randomness,
    interaction,
    overwriting,
    accuracy,
    input_gradients,
    saturation,
)
#: Made for every perturbation, by name.
PERTURBATION_CHECKS: tuple[Callable[[Context, str, Callable], Finding | None], ...] = (
    budget,
    stride,
    contract,
)


def check(
    model: nn.Module,
    data: Any,
    perturbations: Mapping[str, str | Callable] | None = None,
    *,
    strict: bool = False,
    limit: int = 256,
    seed: int = 0,
) -> Findings:
    """The silent mistakes in measuring a network, each with evidence and a remedy.

    Looked for are: modules in train mode; weights not in float32 or on several devices; inputs outside [0, 1]
    (waveforms [-1, 1]); labels or outputs that do not fit the classes; a forward pass that fails, writes into
    its input or returns NaN; probabilities instead of logits; answers that differ from pass to pass or with
    the rest of the batch; accuracy no better than guessing, or much better when the inputs are scaled in
    another way (no normalisation, another one, one too many, pixels of 0..255); input gradients that are
    missing, 0 or vanish; eps in the wrong units, steps that do not suit it, perturbations that fail or leave
    the range of inputs.

    Parameters
    ----------
    model : a classifier of float32 inputs; left as found
    data : a `Data`, or whatever has `inputs` (N, ...), `labels` (N,), `classes` and `take(n, seed)`; labels
        and classes may be None
    perturbations : name -> callable (model, x, y, *, generator) -> x', or a spec such as "pgd:eps=8/255"
    strict : raise a NetprobeError that lists all errors and warnings, if there are any
    limit : how many inputs to look at, every class with its share
    seed : of that choice and of all that is random

    Returns
    -------
    Findings, worst first: an error makes results meaningless, a warning makes them doubtful, a note explains
    them. Print them, or take `errors`, `warnings`, `to_dataset()`.

    Notes
    -----
    Cost: forward passes of `limit` + 100 inputs, and of 64 more for each of up to five scalings unless nearly
    all predictions are right; a backward pass of 32 inputs. Only perturbations of the user's own are run, on
    4 inputs.

    >>> from torch import nn
    >>> import netprobe as npb
    >>> wrong = nn.Sequential(npb.models.digits_cnn(), nn.Softmax(1))  # returns probabilities, and is in train mode
    >>> found = npb.check(wrong, npb.data.load("digits", limit=20))
    >>> [finding.check for finding in found][:2]
    ['probabilities', 'train mode']
    """
    context = Context(model, data, perturbations, limit, seed)
    with undisturbed(model), full_precision():
        torch.manual_seed(seed)
        made = dict(_made(context))
    return Findings(filter(None, made.values()), made).raise_if(strict)


def _made(context: Context) -> Iterator[tuple[str, Finding | None]]:
    """Every check by name, with what it found."""
    for one in CHECKS:
        finding = one(context)
        yield one.__name__, finding
        if one is forward_pass and finding is not None:
            return
    for name, perturbation in context.perturbations.items():
        for one in PERTURBATION_CHECKS:
            yield f"{one.__name__} of {name}", one(context, name, perturbation)
