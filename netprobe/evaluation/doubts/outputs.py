"""Are the outputs logits, and the same every time?"""

from __future__ import annotations

from netprobe.evaluation.doubts.judgement import Evidence, Judgement
from netprobe.evaluation.doubts.suspect import REPEATABLE, Suspect

ROUNDING = 1e-3  # of a sum over up to thousands of float32 or half-precision numbers


def probabilities(suspect: Suspect) -> Judgement:
    """Outputs in [0, 1] that sum to 1 are probabilities, and their cross-entropy flattens the gradient."""
    outputs, _ = suspect.passes
    bounded = (outputs >= 0).all(1) & (outputs <= 1 + ROUNDING).all(1)
    rows = bounded & ((outputs.sum(1) - 1).abs() < ROUNDING)
    evidence = Evidence.share("share of outputs that are probabilities", int(rows.sum()), len(rows), "below 1")
    reason = "the outputs are probabilities, not logits: the softmax has been applied already" if rows.all() else ""
    remedy = "Remove the final softmax, or evaluate the logarithm of the outputs, and attack again."
    return Judgement("softmax outputs", (evidence,), reason, remedy, "error")


def randomness(suspect: Suspect) -> Judgement:
    """A model that answers anew each time must be attacked on average, or attacks chase its noise."""
    one, other = suspect.passes
    changed = int((one.argmax(1) != other.argmax(1)).sum())
    evidence = (
        Evidence("largest change of a logit between two passes, relative", suspect.moved, limit=f"{REPEATABLE:g}"),
        Evidence.share("share of images predicted otherwise in a second pass", changed, len(one)),
    )
    blind = [c.name for c in suspect.gradient_attacks if c.perturbation.eot == 1]
    averaged = suspect.random and suspect.gradient_attacks and not blind
    reason = "the model is random, and no attack averages over its noise" if suspect.random else ""
    if blind:
        reason = reason and f"the model is random, and {', '.join(blind)} attack single draws of it (no EOT)"
    if averaged:
        reason = "the model is random; its attacks average over passes (EOT), and verdicts are single draws"
    remedy = "Attack the average over passes (eot=20 or more), and repeat the evaluation with other seeds."
    return Judgement("randomness", evidence, reason, remedy, "note" if averaged else "error")
