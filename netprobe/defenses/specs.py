"""Defenses by name, and as text: "pgd-at:eps=8/255,steps=10"."""

from __future__ import annotations

import dataclasses

from netprobe.defenses.adversarial import AdversarialTraining, FastAdversarialTraining
from netprobe.defenses.base import Defense
from netprobe.defenses.gaussian import GaussianAugmentation
from netprobe.defenses.hah.defense import HaHDefense
from netprobe.defenses.natural import Natural
from netprobe.defenses.polarizing.defense import PixelQuantisation, PolarizingDefense
from netprobe.defenses.sca.defense import SCADefense
from netprobe.defenses.sparse_coding.defense import SparseCodingDefense
from netprobe.defenses.trades import TRADES
from netprobe.errors import NetprobeError, unknown
from netprobe.fields import assignments, refuse_unknown, spelled

DEFENSES: dict[str, type[Defense]] = {
    cls.name: cls
    for cls in (
        *(Natural, AdversarialTraining, FastAdversarialTraining, TRADES, GaussianAugmentation),
        *(PolarizingDefense, PixelQuantisation, SparseCodingDefense),
        *(HaHDefense, SCADefense),
    )
}


def parse_defense(spec: str | Defense) -> Defense:
    """The defense that a spec like "trades:eps=8/255,beta=6" names; a defense is returned as it is."""
    if isinstance(spec, Defense):
        return spec
    if not isinstance(spec, str):
        raise NetprobeError(f"{spec!r} is no defense: give a spec such as 'pgd-at:eps=8/255', or a Defense")
    name, _, rest = spec.strip().partition(":")
    if name not in DEFENSES:
        raise unknown("defense", name, DEFENSES)
    settings = assignments(rest, spec)
    refuse_unknown(DEFENSES[name], settings, name)
    return DEFENSES[name](**settings)


def defense_spec(defense: Defense) -> str:
    """The shortest spec that `parse_defense` reads back as an equal defense: "pgd-at:steps=7"."""
    changed = ",".join(f"{name}={spelled(value)}" for name, value in defense.changed_settings().items())
    return f"{defense.name}:{changed}" if changed else defense.name


def describe_defense(defense: Defense) -> dict[str, object]:
    """Its name and every setting, in JSON's terms; the class too, where it is none of ours."""
    ours = DEFENSES.get(defense.name) is type(defense)
    own = {} if ours else {"class": f"{type(defense).__module__}.{type(defense).__qualname__}"}
    return {"defense": defense.name, **own, **dataclasses.asdict(defense)}
