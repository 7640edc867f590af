"""Attacks that do without the model's gradients must not do better than those that follow them."""

from __future__ import annotations

import numpy as np

from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.doubts.judgement import NOTHING, Judgement, stronger
from netprobe.evaluation.doubts.probes import RandomSearch, Transferred
from netprobe.evaluation.doubts.suspect import Suspect
from netprobe.evaluation.paired import Paired

REMEDY = "The gradients of this model mislead: trust the attacks without them, and report the worst case of all."


def transfer(suspect: Suspect) -> Judgement:
    """What breaks another model of the evaluation, shown to this one: the reference attack with borrowed gradients."""
    check, reference = "transfer", suspect.reference
    if reference is None or not suspect.others:
        return Judgement(check, unable=NOTHING if reference is None else "there is no other model to borrow from")
    return _worst(
        stronger(
            check,
            (reference.name, f"the same made for {name}"),
            suspect.against(Transferred(reference.perturbation, model), f"{reference.name} made for {name}"),
            f"images made to fool {name} fool it more often than those made for itself",
            REMEDY,
        )
        for name, model in suspect.others.items()
    )


def random_search(suspect: Suspect) -> Judgement:
    """The best of a few random steps."""
    check, reference = "random search", suspect.reference
    if reference is None:
        return Judgement(check, unable=NOTHING)
    attack = reference.perturbation
    search = RandomSearch(attack.eps, attack.geometry, attack.box)
    pair = suspect.against(search, f"random search at {reference.name}")
    reason = "a few random steps break more images than gradients do"
    return stronger(check, (reference.name, "random search"), pair, reason, REMEDY)


def black_box(suspect: Suspect) -> Judgement:
    """Attacks of the evaluation that never ask for a gradient, against those that do, at no larger budget."""
    check, judged = "black box", []
    for black in filter(lambda c: _without_gradients(suspect, c), suspect.conditions):
        white = [c for c in suspect.gradient_attacks if c.norm == black.norm and c.eps >= black.eps]
        if white:
            stands = np.all([suspect.right(c) for c in white], axis=0)
            names = (" and ".join(c.name for c in white), black.name)
            reason = f"{black.name} breaks more images without gradients than {names[0]} with them"
            judged.append(stronger(check, names, Paired.of(stands, suspect.right(black)), reason, REMEDY))
    if not judged:
        return Judgement(check, unable="no attack without gradients has the budget of one with them: add square")
    return _worst(judged)


def _without_gradients(suspect: Suspect, condition: Condition) -> bool:
    """Whether it is an attack in a ball that asked for scores or decisions alone."""
    table = suspect.tables[condition.name]
    borrowed = hasattr(condition.perturbation, "surrogate")  # a transferred attack, with another model's gradients
    asked = borrowed or ((table["backwards"] == 0).all() and (table["forwards"] > 0).any())
    return bool(condition.budget and condition.eps > 0 and asked and condition not in suspect.gradient_attacks)


def _worst(judged) -> Judgement:
    """The one that is least likely to be chance."""
    return min(judged, key=lambda each: each.evidence[-1].value)
