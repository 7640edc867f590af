"""Is the attack as strong as it should be: against fewer steps, more of them, and more room?"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator

from netprobe import perturb
from netprobe.evaluation.conditions import CLEAN, Condition
from netprobe.evaluation.doubts.judgement import CHANCE, NOTHING, RANDOM, Evidence, Judgement, gain, stronger
from netprobe.evaluation.doubts.suspect import Suspect
from netprobe.evaluation.paired import Paired
from netprobe.perturb.gradient import FGSM, PGD, GradientAttack

NEAR_ZERO = 0.05  # of the images may stand at a budget that makes every image grey
STEPS = 20


def single_step(suspect: Suspect) -> Judgement:
    """One step of length eps must not break more images than many steps inside the same ball."""
    check, reference = "single step", suspect.reference
    if reference is None or reference.perturbation.steps == 1:
        return Judgement(check, unable="there is no attack of several steps among the perturbations")
    many = reference.perturbation
    one = FGSM(many.eps, norm=many.norm, loss=many.loss, eot=many.eot, low=many.low, high=many.high)
    pair = suspect.against(one, f"a single step of {reference.name}")
    reason = "a single step breaks more images than many"
    remedy = "The loss is not smooth enough to follow, or steps are too long: try smaller steps, restarts, square."
    return stronger(check, (reference.name, "a single step"), pair, reason, remedy)


def more_effort(suspect: Suspect) -> Judgement:
    """Four times the steps, half of them as a restart, must not break much more."""
    check, reference = "more steps and restarts", suspect.reference
    if reference is None:
        return Judgement(check, unable=NOTHING)
    if suspect.random:
        return Judgement(check, unable=RANDOM)
    broken, tried = suspect.broken(_harder(reference.perturbation), f"{reference.name} with more steps")
    reason = f"more steps and restarts still break images that {reference.name} leaves"
    remedy = "Use more steps and restarts, until the accuracy falls no more, or APGD, which sets its own steps."
    return gain(check, "more steps", broken, tried, suspect.standing_share, reason, remedy)


def _harder(attack: GradientAttack) -> GradientAttack:
    names = {f.name for f in dataclasses.fields(attack)}
    if "steps" not in names:
        return PGD(attack.eps, norm=attack.norm, loss=attack.loss, eot=attack.eot, low=attack.low, high=attack.high)
    if "restarts" not in names or not attack.random_start:
        return dataclasses.replace(attack, steps=4 * attack.steps)
    return dataclasses.replace(attack, steps=2 * attack.steps, restarts=2 * attack.restarts)


def huge_budget(suspect: Suspect) -> Judgement:
    """With half the range of inputs as eps every image can be made grey, so that no model can tell them apart."""
    broken_not = int(suspect.stands("pgd at half the range", _huge(suspect), suspect.sample).sum())
    limit = f"lower bound at most {NEAR_ZERO:g}"
    accuracy = Evidence.share("accuracy where every image can be made grey", broken_not, len(suspect.sample), limit)
    reason = (
        "images stand against an attack that may change them beyond recognition" if accuracy.low > NEAR_ZERO else ""
    )
    remedy = "The attack does not find what is surely there: look for masked gradients, and attack without gradients."
    return Judgement("huge eps", (accuracy,), reason, remedy, "error")


def _huge(suspect: Suspect) -> PGD:
    low, high = suspect.box.low, suspect.box.high
    like = PGD(0.0) if suspect.reference is None else suspect.reference.perturbation
    return PGD((high - low) / 2, steps=STEPS, loss=like.loss, eot=like.eot, low=low, high=high)


def monotone(suspect: Suspect) -> Judgement:
    """Where an attack may do more, more images must fall: compared are neighbours in eps of the same attack, or, if
    none was made with two, the reference with half its eps.
    """
    check = "monotone in eps"
    found = [(b.name, a.name, Paired.of(suspect.right(b), suspect.right(a))) for a, b in _neighbours(suspect)]
    if not found and suspect.reference is None:
        return Judgement(check, unable=NOTHING)
    found = found or [_halved(suspect)]
    limit = CHANCE / len(found)
    larger, smaller, worst = min(found, key=lambda each: each[2].p_more)
    evidence = (
        Evidence.share(f"accuracy under {larger}", worst.both + worst.only_first, worst.images),
        Evidence.share(f"accuracy under {smaller}", worst.both + worst.only_second, worst.images),
        Evidence("p of the worst of these pairs", worst.p_more, images=worst.images, limit=f"at least {limit:.2g}"),
    )
    reason = f"more images stand at a larger eps ({larger}) than at a smaller one ({smaller})"
    remedy = "Tie the length of the steps to eps (step_size=none), and use more steps."
    return Judgement(check, evidence, reason if worst.p_more < limit else "", remedy)


def _halved(suspect: Suspect) -> tuple[str, str, Paired]:
    """The reference and what it is with half its eps, and steps half as long."""
    reference = suspect.reference
    half = {"eps": reference.eps / 2}
    if reference.perturbation.step_size is not None:
        half["step_size"] = reference.perturbation.step_size / 2
    name = f"{reference.name} with half its eps"
    return reference.name, name, suspect.against(dataclasses.replace(reference.perturbation, **half), name)


def _neighbours(suspect: Suspect) -> Iterator[tuple[Condition, Condition]]:
    """Pairs of conditions that differ in eps alone, the smaller first."""
    alike: dict[str, list[Condition]] = {}
    for each in suspect.conditions:
        if each.name != CLEAN and each.budget:
            settings = perturb.describe(each.perturbation) | {"eps": None, "step_size": None}
            alike.setdefault(json.dumps(settings, default=repr, sort_keys=True), []).append(each)
    for members in alike.values():
        yield from itertools.pairwise(sorted(members, key=lambda each: each.eps))
