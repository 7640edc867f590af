"""Can a gradient attack see where to go?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from netprobe.perturb.backward import declared_passes
from netprobe.preflight.context import Context, difference, share, unsaturated
from netprobe.preflight.findings import Finding

NOISE = 8 / 255  # a step that a usual attack may take
FELT = 1e-4  # of the largest logit: more than float32 rounding
ASTRAY = 0.9  # a gradient with a smaller cosine than this points elsewhere
OFTEN = 0.1  # sure networks lose a few gradients in float32; more than this share is worth a note
MASKED = (
    "Gradient attacks are blind here and the model will look robust: attack it without gradients, or give "
    "that operation a surrogate gradient."
)


def input_gradients(context: Context) -> Finding | None:
    """Input gradients must exist and not be exactly 0."""
    try:
        gradients = context.gradients
    except RuntimeError as error:  # what autograd raises
        evidence = f"The backward pass fails: {str(error).strip().splitlines()[0]}"
        return Finding("error", "gradients", evidence, MASKED)
    if gradients is None:
        evidence = "The logits have no gradient with respect to the input."
        remedy = f"Look for no_grad, detach, argmax or numpy in the forward pass. {MASKED}"
        return Finding("error", "gradients", evidence, remedy)
    zero = ~gradients.any(1)
    if not zero.any():
        return None
    return _declared(context, zero) or _without_gradient(context, zero)


def _declared(context: Context, zero: Tensor) -> Finding | None:
    """A note if the backward passes that layers declare bring gradients back; None if there are none or they do not."""
    attacked = context.attacked_gradients
    if attacked is None or not attacked.any(1).all():
        return None
    names = ", ".join(declared_passes(context.model)) or "one of a layer's own"
    return Finding(
        "note",
        "gradients",
        f"The input gradient is exactly 0 for {share(zero)} of the inputs, but not by the backward passes that the "
        f"model declares: {names}.",
        "netprobe's attacks try each of them; those of other libraries see no gradient and make the model look robust.",
    )


def _without_gradient(context: Context, zero: Tensor) -> Finding:
    evidence = f"The input gradient is exactly 0 for {share(zero)} of the inputs, "
    moved = _moved_by_noise(context, zero)
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


def saturation(context: Context) -> Finding | None:
    """The cross-entropy of a network that is sure of itself: its gradient is 0 or rounding noise."""
    lost = {dtype: _lost(context, dtype) for dtype in (torch.float64, torch.float32)}
    margin = context.logits.topk(2).values.diff().abs().max().item()
    sure = f"of the inputs; the two largest logits differ by up to {margin:.3g}."
    if lost[torch.float64].any():
        return Finding(
            "warning",
            "saturation",
            f"Even in float64 the gradient of the cross-entropy is lost for {share(lost[torch.float64])} {sure}",
            "Attack with the margin loss (loss='cw'), which does not saturate.",
        )
    if lost[torch.float32].float().mean() > OFTEN:
        return Finding(
            "note",
            "saturation",
            f"In float32 the gradient of the cross-entropy is lost for {share(lost[torch.float32])} {sure}",
            "netprobe's attacks compute losses in float64; those of other libraries may fail here and make the "
            "model look robust.",
        )
    return None


def _lost(context: Context, dtype: torch.dtype) -> Tensor:
    """For which inputs the gradient of the cross-entropy at the logits, in this precision, points elsewhere."""
    y, logits = context.targets.cpu(), context.logits.cpu().to(dtype)  # not every device has float64
    true = unsaturated(logits, y)
    with torch.enable_grad():
        loss = F.cross_entropy(logits.requires_grad_(), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    largest = gradient.abs().amax(1, keepdim=True)
    # Scaled first, as the squares of 1e-25 are 0 in float32; where all is 0, so is the cosine.
    return F.cosine_similarity(gradient / largest.masked_fill(largest == 0, 1), true) < ASTRAY
