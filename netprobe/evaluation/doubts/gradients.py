"""Do gradients lead where the model gives way?"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from netprobe.evaluation.conditions import CLEAN
from netprobe.evaluation.datasets import TINY_GRADIENT
from netprobe.evaluation.doubts.judgement import RANDOM, Evidence, Judgement, gain
from netprobe.evaluation.doubts.suspect import Suspect
from netprobe.outputs import logits_of, widened
from netprobe.perturb.frozen import frozen
from netprobe.perturb.objective import lead

OFTEN = 0.05  # of the images: fewer without a gradient do not move an accuracy by much
STEP = 1 / 255  # of the noise that the gradient should foretell
DRAWS = 8
FORETOLD = 0.1  # of the change that noise makes: a gradient that foretells less is as good as none
SATURATED = 1e-12  # of the margin's gradient: what is left of the cross-entropy's when 1 - p rounds to nothing
REMEDY = (
    "Something on the way is not differentiable, or nearly so (rounding, a threshold, a saturated function): attack "
    "without gradients (square, transfer), or give that operation a surrogate gradient."
)


def vanishing(suspect: Suspect) -> Judgement:
    """The gradient of the margin z_y - max z_j is 0 or missing, or far too small for what noise does."""
    norms = suspect.tables[CLEAN]["margin_gradient_norm"]
    gone = ~(norms > TINY_GRADIENT)
    share = Evidence.share("share of images without a gradient", int(gone.sum()), len(gone), f"lower bound {OFTEN:g}")
    foretold = _foretold(suspect)
    ratio = Evidence(
        "change under noise of 1/255 that the gradient foretells, median share",
        foretold,
        images=len(suspect.sample),
        limit=f"at least {FORETOLD:g}",
    )
    reason = ""
    if share.low > OFTEN:
        reason = "the input gradient is zero or missing on many images"
    elif foretold < FORETOLD:
        reason = "the input gradient is far too small for how much noise moves the outputs"
    return Judgement("zero or tiny gradients", (share, ratio), reason, REMEDY, "error")


def _foretold(suspect: Suspect) -> float:
    """Median over images of rms |g . d| / rms |m(x + d) - m(x)| over random signs d of size STEP; m is the margin.

    NaN for a model without gradients, or that noise does not move at all.
    """
    generator = torch.Generator().manual_seed(suspect.runner.chosen.seed)
    ratios = [_ratios(suspect, x, y, generator) for x, y in suspect.batches]
    known = torch.cat(ratios).cpu().numpy()
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else np.nan


def _ratios(suspect: Suspect, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    with frozen(suspect.model):
        x = x.clone().requires_grad_()
        margin = _margin(suspect, x, y)
        if not margin.requires_grad:
            return torch.full((len(x),), torch.nan)
        (gradient,) = torch.autograd.grad(margin.sum(), x, allow_unused=True)
        gradient = widened(torch.zeros_like(x) if gradient is None else gradient)
        foretold, happened = (torch.zeros(len(x), device=x.device, dtype=gradient.dtype) for _ in range(2))
        for _ in range(DRAWS):
            noise = STEP * torch.randn(x.shape, generator=generator).sign().to(x)
            foretold += (gradient * widened(noise)).flatten(1).sum(1) ** 2
            with torch.no_grad():
                happened += (_margin(suspect, x + noise, y) - margin.detach()) ** 2
    return (foretold / happened).sqrt()


def _margin(suspect: Suspect, x: Tensor, y: Tensor) -> Tensor:
    """z_y - max_{j != y} z_j, one number an image; of a random model always with the same noise."""
    suspect.reseed()
    return lead(widened(logits_of(suspect.model(x * 1), len(x))), y)


def saturation(suspect: Suspect) -> Judgement:
    """The cross-entropy of logits that are scaled up is flat: its gradient is gone where that of the margin is not."""
    clean = suspect.tables[CLEAN]
    entropy, margin = clean["gradient_norm"], clean["margin_gradient_norm"]
    sound = margin > TINY_GRADIENT
    lost, flat = sound & ~(entropy > TINY_GRADIENT), sound & ~(entropy > SATURATED * margin)
    evidence = (
        Evidence.share("share of images whose cross-entropy alone has no gradient", int(lost.sum()), len(lost)),
        Evidence.share(f"share whose gradient is below {SATURATED:g} of the margin's", int(flat.sum()), len(flat)),
        Evidence("median margin between logits", float(np.median(np.abs(clean["margin"]))), images=len(flat)),
    )
    saturated = evidence[0].low > OFTEN or evidence[1].low > 0.5
    reason = "the logits are scaled up so far that the cross-entropy saturates and its gradient vanishes"
    remedy = "Divide the logits by a constant, or attack with a loss that does not saturate (loss=dlr or loss=cw)."
    return Judgement("scaled-up logits", evidence, reason if saturated else "", remedy, "error")


def other_loss(suspect: Suspect) -> Judgement:
    """A loss that does not feel the scale of the logits must not break many images that the cross-entropy could not."""
    check, reference = "loss without scale", suspect.reference
    if reference is None or reference.perturbation.loss != "ce":
        return Judgement(check, unable="there is no gradient attack with the cross-entropy")
    if suspect.random:
        return Judgement(check, unable=RANDOM)
    classes = logits_of(suspect.model(suspect.inputs[0][:1]), 1).shape[1]
    loss = "dlr" if classes > 2 else "cw"
    attack = dataclasses.replace(reference.perturbation, loss=loss, target=None)
    broken, tried = suspect.broken(attack, f"{reference.name} with {loss}")
    reason = f"the loss {loss} breaks images that the cross-entropy cannot: that is saturated or misleading"
    remedy = f"Report the worst case with loss={loss} as well; APGD with both losses does."
    return gain(check, f"the loss {loss}", broken, tried, suspect.standing_share, reason, remedy)
