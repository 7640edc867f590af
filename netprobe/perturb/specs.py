"""Perturbations as text, as JSON and in sweeps; and users' own callables beside ours."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import numbers
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from netprobe.enrolled import Enrolled
from netprobe.errors import NetprobeError, unknown
from netprobe.fields import assignments, literal, refuse_unknown, spelled, spellings
from netprobe.perturb.apgd import APGD, TargetedAPGD
from netprobe.perturb.autoattack import AutoAttack
from netprobe.perturb.base import Perturbation
from netprobe.perturb.corruptions import CORRUPTIONS
from netprobe.perturb.decision import Boundary, HopSkipJump
from netprobe.perturb.fab import FAB, TargetedFAB
from netprobe.perturb.gradient import BIM, FGSM, PGD
from netprobe.perturb.minimum_norm import FMN, CarliniWagner, DeepFool
from netprobe.perturb.noise import GaussianNoise, SaltAndPepper, UniformNoise
from netprobe.perturb.square import Square
from netprobe.perturb.zoo import ZOO

PERTURBATIONS = Enrolled(
    "perturbation",
    Perturbation,
    (
        *(GaussianNoise, UniformNoise, SaltAndPepper),
        *(FGSM, BIM, PGD, APGD, TargetedAPGD),
        *(Square, FAB, TargetedFAB, AutoAttack),
        *(FMN, DeepFool, CarliniWagner, ZOO, Boundary, HopSkipJump),
        *CORRUPTIONS.values(),
    ),
)


def parse(spec: str) -> Perturbation:
    """The perturbation that a spec like "pgd:eps=8/255,steps=20,norm=linf" names.

    name[:setting=value,...]; values are numbers, fractions a/b, words, true, false or none. An unknown name
    or setting, a setting given twice, a missing one and an impossible value are `NetprobeError`s.

    >>> import netprobe as npb
    >>> npb.perturb.parse("pgd:eps=8/255,norm=l2,restarts=5")
    PGD(eps=8/255, restarts=5, norm='l2')
    """
    return _build(*_read(spec))


def _read(spec: str) -> tuple[type[Perturbation], dict[str, object]]:
    name, _, rest = spec.strip().partition(":")
    if name not in PERTURBATIONS:
        raise unknown("perturbation", name, PERTURBATIONS)
    return PERTURBATIONS[name], assignments(rest, spec)


def to_spec(perturbation: Perturbation) -> str:
    """The shortest spec that `parse` reads back as an equal perturbation: "pgd:eps=8/255,steps=40"."""
    changed = perturbation.changed_settings().items()
    return f"{perturbation.name}:" + ",".join(f"{name}={spelled(value)}" for name, value in changed)


def resolve(perturbation: str | Callable) -> Callable:
    """What can be called as p(model, x, y, generator=g): ours, what a spec names, or a user's callable.

    Anything else is a `NetprobeError`, before any work is done.
    """
    if isinstance(perturbation, str):
        return parse(perturbation)
    if isinstance(perturbation, type) or not callable(perturbation):
        raise NetprobeError(f"{perturbation!r} is not a perturbation: {_REMEDY}")
    try:
        inspect.signature(perturbation).bind(None, None, None, generator=None)
    except TypeError as error:
        raise NetprobeError(
            f"{_qualified(perturbation)} cannot be called as a perturbation ({error}): {_REMEDY}"
        ) from None
    return perturbation


def apply(
    perturbation: Callable, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None
) -> Tensor:
    """The detached result of a perturbation; an error if it is not a finite tensor like x."""
    changed = perturbation(model, x, y, generator=generator)
    if not isinstance(changed, Tensor):
        raise NetprobeError(f"{_qualified(perturbation)} returned a {type(changed).__name__}, not a tensor")
    for what in ("shape", "dtype", "device"):
        if getattr(changed, what) != getattr(x, what):
            raise NetprobeError(
                f"{_qualified(perturbation)} returned a tensor of {what} {getattr(changed, what)} "
                f"for inputs of {what} {getattr(x, what)}"
            )
    if not changed.isfinite().all():
        raise NetprobeError(f"{_qualified(perturbation)} returned values that are not finite")
    return changed.detach()


def describe(perturbation: Callable) -> dict[str, object]:
    """What it is, in JSON's terms: {"perturbation": name, every setting}.

    Of a user's callable: the qualified name, and the fields of a dataclass or the arguments of a partial.
    """
    if isinstance(perturbation, Perturbation) and PERTURBATIONS.ours.get(perturbation.name) is type(perturbation):
        return {"perturbation": perturbation.name, **dataclasses.asdict(perturbation)}
    if isinstance(perturbation, functools.partial):
        arguments = {"arguments": list(perturbation.args), **perturbation.keywords}
        return {"perturbation": _qualified(perturbation)} | _jsonable(arguments)
    settings = dataclasses.fields(perturbation) if dataclasses.is_dataclass(perturbation) else ()
    return {"perturbation": _qualified(perturbation)} | _jsonable(
        {f.name: getattr(perturbation, f.name) for f in settings}
    )


def family(perturbation: Callable) -> str:
    """What those that differ only in strength share: "PGD", "PGD L2"; of a user's callable its name."""
    return getattr(perturbation, "family", None) or _qualified(perturbation).rpartition(".")[2]


def eps_of(perturbation: Callable) -> float:
    """Its strength: eps of attacks and uniform noise, std of Gaussian noise, amount of salt and pepper.

    Of a user's callable: its attribute `eps`, or the one its attribute `strength` names; NaN if it has none.
    """
    strength = getattr(perturbation, getattr(perturbation, "strength", "eps"), None)
    return float(strength) if isinstance(strength, numbers.Real) else math.nan


def sweep(perturbation: Perturbation | str, **settings: Iterable) -> dict[str, Perturbation]:
    """Copies of `perturbation` with one setting varied, by name: sweep("pgd:steps=40", eps=["2/255", "4/255"]).

    A perturbation of ours, or its spec, which need not give what is varied.

    `eps` stands for the strength whatever it is called; values may be given as text. Names: "pgd@2/255" for
    the strength (multiples of 1/255 as fractions, else four digits if they tell the values apart),
    "pgd@steps=10" for another setting.

    >>> import netprobe as npb
    >>> npb.sweep("pgd:steps=40", eps=["2/255", "4/255"])
    {'pgd@2/255': PGD(eps=2/255, steps=40), 'pgd@4/255': PGD(eps=4/255, steps=40)}
    """
    if len(settings) != 1:
        raise NetprobeError(f"sweep varies one setting, not {len(settings)}: {', '.join(settings) or 'none was given'}")
    ((asked, values),) = settings.items()
    cls, base = _read(perturbation) if isinstance(perturbation, str) else _settings(perturbation)
    setting = cls.strength if asked == "eps" else asked
    if isinstance(perturbation, str) and setting in base:
        raise NetprobeError(f"{setting} is given twice, in {perturbation!r} and as what is varied")
    steps = [_build(cls, base | {setting: literal(v) if isinstance(v, str) else v}) for v in values]
    prefix = "" if setting == cls.strength else f"{setting}="
    labels = spellings([getattr(step, setting) for step in steps])
    if len(set(labels)) < len(labels):
        raise NetprobeError(f"sweep has values that occur twice: {', '.join(labels)}")
    return {f"{cls.name}@{prefix}{label}": step for label, step in zip(labels, steps, strict=True)}


def _settings(perturbation: Perturbation) -> tuple[type[Perturbation], dict[str, object]]:
    if not isinstance(perturbation, Perturbation):
        raise NetprobeError(f"{perturbation!r} cannot be swept: give a perturbation of netprobe, or its spec")
    return type(perturbation), {f.name: getattr(perturbation, f.name) for f in dataclasses.fields(perturbation)}


_REMEDY = (
    'give a spec such as "pgd:eps=8/255", an instance such as PGD(eps=8/255), '
    "or a function (model, x, y, *, generator) -> x'."
)


def _build(cls: type[Perturbation], settings: Mapping[str, object]) -> Perturbation:
    refuse_unknown(cls, settings, cls.name)
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    if cls.strength in required and cls.strength not in settings:
        raise NetprobeError(
            f"{cls.name} needs its {cls.strength}: for instance {cls.name}:{cls.strength}={cls.example}"
        )
    return cls(**settings)


def _qualified(perturbation: Callable) -> str:
    while isinstance(perturbation, functools.partial):
        perturbation = perturbation.func
    named = perturbation if hasattr(perturbation, "__qualname__") else type(perturbation)
    return f"{named.__module__}.{named.__qualname__}"


def _jsonable(settings: Mapping[str, object]) -> dict[str, object]:
    """`settings` with the repr of whatever JSON cannot hold."""

    def kept(value: object) -> object:
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            return repr(value)
        return value

    return {name: kept(value) for name, value in settings.items()}
