"""Are the perturbations in the units of the inputs, and do they do what probing needs?"""

from __future__ import annotations

import math
from collections.abc import Callable

from netprobe.perturb import ImageGenerator, Perturbation, apply, eps_of
from netprobe.perturb.corruptions import Corruption
from netprobe.preflight.context import Context
from netprobe.preflight.findings import Finding

FEW = 4
LEAST = 0.05 / 255  # 8/255, divided by 255 once more, is 0.03/255


def budget(context: Context, name: str, perturbation: Callable) -> Finding | None:
    """eps must be in units of the inputs. That of normalised inputs, a few times larger, goes unnoticed."""
    if isinstance(perturbation, Corruption):  # a severity is in no units
        return None
    norm, eps = getattr(perturbation, "norm", "linf"), eps_of(perturbation)
    widest = (context.box[1] - context.box[0]) * _norm_of_ones(norm, context.x[0].numel())
    if eps > widest:
        return Finding(
            "error",
            "budget",
            f"{name!r} has eps = {eps:.4g}; the whole range of inputs is {widest:.4g} in {norm}.",
            f"eps is in units of the inputs: did you mean {eps:g}/255 = {eps / 255:.4g}?",
        )
    if norm == "linf" and 0 < eps < LEAST:
        return Finding(
            "note",
            "budget",
            f"{name!r} has eps = {eps:.2g}, or {eps * 255:.2g}/255.",
            f"Was it divided by 255 twice? {eps * 255**2:.3g}/255 would be {eps * 255:.3g}.",
        )
    return None


def _norm_of_ones(norm: object, d: int) -> float:
    """The norm of d ones; infinite for norms that are not known here."""
    return {"linf": 1.0, "l2": math.sqrt(d), "l1": float(d)}.get(str(norm), math.inf)


def stride(context: Context, name: str, perturbation: Callable) -> Finding | None:
    """Steps must be no longer than eps, and together reach it."""
    eps = eps_of(perturbation)
    step, steps = getattr(perturbation, "step_size", None), getattr(perturbation, "steps", None)
    if not step or not steps:
        return None
    taken = f"{name!r} takes {steps} steps of {step:.4g}"
    remedy = "Leave step_size out for 2.5 eps / steps."
    if steps > 1 and step > eps:
        evidence = f"{taken}, longer than its eps = {eps:.4g}: it jumps from edge to edge."
        return Finding("warning", "step size", evidence, remedy)
    if step * steps < eps:
        evidence = f"{taken}, {step * steps:.4g} in all: from the input it cannot reach its eps = {eps:.4g}."
        return Finding("warning", "step size", evidence, remedy)
    return None


def contract(context: Context, name: str, perturbation: Callable) -> Finding | None:
    """The result must look like the inputs and stay in their range. Only callables of the user's own are run."""
    if isinstance(perturbation, Perturbation):
        return None if perturbation.box.holds(context.x) else _other_box(name, perturbation)
    few = context.few(FEW)
    x, y = context.x[few], context.targets[few]
    generator = ImageGenerator(context.seed, few)
    try:
        changed = apply(perturbation, context.model, x.clone(), y, generator=generator)
    except Exception as error:  # whatever a stranger's callable may raise is the evidence
        evidence = f"{name!r} fails on {len(x)} inputs: {type(error).__name__}: {error}"
        return Finding("error", "perturbation", evidence, "It must return a finite tensor like x.")
    (low, high), least, most = context.box, changed.min().item(), changed.max().item()
    if low <= least and most <= high:
        return None
    return Finding(
        "error",
        "perturbation",
        f"{name!r} returns values from {least:.4g} to {most:.4g}, outside [{low:g}, {high:g}].",
        "Let it work in units of the inputs, not of normalised ones, and clamp its result.",
    )


def _other_box(name: str, perturbation: Perturbation) -> Finding:
    return Finding(
        "error",
        "perturbation",
        f"{name!r} is for inputs of [{perturbation.low:g}, {perturbation.high:g}]; some of these are outside.",
        "Set its low and high to the range of the inputs (waveforms: low=-1), or mend the inputs.",
    )
