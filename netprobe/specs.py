"""Frozen settings by name, and as text: "pgd-at:eps=8/255,steps=10"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netprobe.enrolled import Enrolled, qualified
from netprobe.errors import NetprobeError, unknown
from netprobe.fields import Checked, assignments, refuse_unknown, spelled


@dataclass(frozen=True)
class Catalogue:
    """Classes of one kind by the name that each has in specs, such as all defenses.

    noun : what one of them is called, in messages and in descriptions.
    base : the class that all of them extend, a user's own included.
    example : a spec.
    """

    noun: str
    base: type[Checked]
    classes: Enrolled
    example: str

    def parse(self, spec: Any) -> Any:
        """What a spec names; what is one of the kind already is returned as it is."""
        if isinstance(spec, self.base):
            return spec
        if not isinstance(spec, str):
            raise NetprobeError(
                f"{spec!r} is no {self.noun}: give a spec such as {self.example!r}, or a {self.base.__name__}"
            )
        name, _, rest = spec.strip().partition(":")
        if name not in self.classes:
            raise unknown(self.noun, name, self.classes)
        settings = assignments(rest, spec)
        refuse_unknown(self.classes[name], settings, name)
        return self.classes[name](**settings)

    def spec(self, one: Any) -> str:
        """The shortest spec that `parse` reads back as an equal one."""
        changed = ",".join(f"{name}={spelled(value)}" for name, value in one.changed_settings().items())
        return f"{one.name}:{changed}" if changed else one.name

    def describe(self, one: Any) -> dict[str, object]:
        """Its name, under the noun, and its `described_settings`; the class too, where it is none of ours."""
        ours = self.classes.ours.get(one.name) is type(one)
        own = {} if ours else {"class": qualified(type(one))}
        return {self.noun: one.name, **own, **one.described_settings()}
