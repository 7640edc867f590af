"""Can a gradient attack see where to go?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from netprobe.preflight.context import Context, Gradients, difference, share
from netprobe.preflight.findings import Finding

NOISE = 8 / 255  # a step that a usual attack may take
FELT = 1e-4  # of the largest logit: more than float32 rounding
ASTRAY = 0.9  # a gradient with a smaller cosine than this points elsewhere
MASKED = (
    "Gradient attacks are blind here and the model will look robust: attack it without gradients, or give "
    "that operation a surrogate gradient."
)


def input_gradients(context: Context) -> Finding | None:
    """Input gradients must exist, not be exactly 0, and survive the softmax."""
    try:
        gradients = context.gradients
    except RuntimeError as error:  # what autograd raises
        evidence = f"The backward pass fails: {str(error).strip().splitlines()[0]}"
        return Finding("error", "gradients", evidence, MASKED)
    if gradients is None:
        evidence = "The logits have no gradient with respect to the input."
        remedy = f"Look for no_grad, detach, argmax or numpy in the forward pass. {MASKED}"
        return Finding("error", "gradients", evidence, remedy)
    dead = ~gradients.direction.any(1)
    return _no_gradient(context, dead) if dead.any() else _vanishing(context, gradients)


def _no_gradient(context: Context, dead: Tensor) -> Finding:
    evidence = f"The input gradient is exactly 0 for {share(dead)} of the inputs, "
    moved = _moved_by_noise(context, dead)
    if moved <= FELT:
        return Finding(
            "warning",
            "gradients",
            f"{evidence}and noise of 8/255 does not move their logits either.",
            "The model ignores these inputs: is its last weight 0 (untrained), or are all its units silent?",
        )
    return Finding(
        "error",
        "gradients",
        f"{evidence}yet noise of 8/255 moves their logits by {moved:.2g} of the largest.",
        f"Something is not differentiable: rounding, a threshold, a sign. {MASKED}",
    )


def _moved_by_noise(context: Context, rows: Tensor) -> float:
    x = context.x[context.few(len(rows))][rows]
    signs = torch.randn(x.shape, generator=torch.Generator().manual_seed(context.seed)).sign().to(x)
    return difference(context.answers(x), context.answers((x + NOISE * signs).clamp(*context.box)))


def _vanishing(context: Context, gradients: Gradients) -> Finding | None:
    """The cross-entropy of a network that is sure of itself: its gradient is 0 or rounding noise."""
    lost64, lost32 = (
        _cosine(gradient, gradients.direction) < ASTRAY for gradient in (gradients.float64, gradients.float32)
    )
    if not lost64.any() and not lost32.any():
        return None
    lost, precision = (lost64, "float64") if lost64.any() else (lost32, "float32")
    margin = context.logits.topk(2).values.diff().abs().max().item()
    return Finding(
        "warning" if precision == "float64" else "note",
        "gradients",
        f"In {precision} the gradient of the cross-entropy is 0 or points elsewhere for {share(lost)} of the "
        f"inputs; the two largest logits differ by up to {margin:.3g}.",
        "Attack with the margin loss (loss='cw'), which does not saturate."
        if precision == "float64"
        else "Nothing to do: netprobe's attacks compute losses in float64. Those of other libraries may fail.",
    )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the rows, 0 where either is 0. Scaled first: the squares of 1e-25 are 0 in float32."""
    a, b = (v / v.abs().amax(1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny) for v in (a, b))
    return F.cosine_similarity(a, b, dim=1)
