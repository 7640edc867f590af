"""What a setting of a perturbation, a defense or a recipe may be, how it is checked, and how it is spelled as text.

A setting is a dataclass field whose metadata hold a `check` (where, value) -> the value to keep, and a line
of `help`; the command line reads both.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import re
from collections.abc import Collection, Iterable

from netprobe.errors import NetprobeError, unknown

__all__ = [
    "Checked",
    "choice",
    "class_target",
    "path",
    "pattern",
    "real",
    "reals",
    "several",
    "switch",
    "whole",
    "wholes",
    "word",
]


class Checked:
    """A frozen dataclass that checks every field when it is made, and shows those that are not the default."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            checked = f.metadata["check"](f"{type(self).__name__}.{f.name}", getattr(self, f.name))
            object.__setattr__(self, f.name, checked)

    def changed_settings(self) -> dict[str, object]:
        """The settings that are not the default."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}

    def described_settings(self) -> dict[str, object]:
        """Every setting, in JSON's terms; an `added` one only where it is not the default."""
        changed, names = self.changed_settings(), [f.name for f in dataclasses.fields(self) if f.metadata.get("added")]
        every = dataclasses.asdict(self)
        return {name: value for name, value in every.items() if name in changed or name not in names}

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}" if isinstance(value, (str, bool, tuple, type(None))) else f"{name}={spelled(value)}"
            for name, value in self.changed_settings().items()
        )
        return f"{type(self).__name__}({settings})"


def real(
    least: float = -math.inf, most: float = math.inf, *, inside: bool = False, optional: bool = False, help: str
) -> dict:
    """Metadata of a finite number in [least, most], or in between if it is to be `inside`; with `optional`, or None."""

    def check(where: str, value: object) -> float | None:
        if value is None and optional:
            return None
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise NetprobeError(
                f"{where} must be a number, not {value!r} (a fraction is written 8/255, without quotes)"
            )
        if not (math.isfinite(value) and least <= value <= most) or (inside and value in (least, most)):
            span = f"between {least:g} and {most:g}" if inside else f"in [{least:g}, {most:g}]"
            raise NetprobeError(f"{where} must be a number {span}, not {value!r}")
        return float(value)

    return {"check": check, "help": help}


def whole(least: int, *, optional: bool = False, help: str) -> dict:
    """Metadata of a whole number that is at least `least`; with `optional`, or None."""

    def check(where: str, value: object) -> int | None:
        if value is None and optional:
            return None
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise NetprobeError(f"{where} must be a whole number, {least} or more, not {value!r}")
        return int(value)

    return {"check": check, "help": help}


def switch(*, help: str) -> dict:
    """Metadata of True or False."""

    def check(where: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise NetprobeError(f"{where} must be True or False, not {value!r}")
        return value

    return {"check": check, "help": help}


def choice(names: Collection[str], *, help: str) -> dict:
    """Metadata of one of `names`; where "none" is one, a spec's none means it."""

    def check(where: str, value: object) -> str:
        if value is None and "none" in names:
            return "none"
        if value not in names:
            raise unknown(where, value, names)
        return value

    return {"check": check, "help": f"{help} ({', '.join(names)})"}


def added(metadata: dict) -> dict:
    """Metadata of a setting that earlier versions did not have, whose default is what they did.

    Descriptions leave that default out, so that what was begun before is known as the same and goes on.
    """
    return metadata | {"added": True}


def several(names: Collection[str], *, help: str) -> dict:
    """Metadata of a tuple of some of `names`, at least one; "noise:boundary" spells one."""

    def check(where: str, value: object) -> tuple[str, ...]:
        chosen = tuple(value.split(":") if isinstance(value, str) else value)
        for name in chosen:
            if name not in names:
                raise unknown(where, name, names)
        if not chosen or len(set(chosen)) < len(chosen):
            raise NetprobeError(f"{where} must name one or more of {', '.join(names)}, each once, not {value!r}")
        return chosen

    return {"check": check, "help": f"{help} ({', '.join(names)}; several with colons between)"}


def word(*, help: str) -> dict:
    """Metadata of a name that only its reader knows, or None."""

    def check(where: str, value: object) -> str | None:
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise NetprobeError(f"{where} must be a name, or none, not {value!r}")
        return value

    return {"check": check, "help": help}


def path(names: Collection[str], *, help: str) -> dict:
    """Metadata of the place of a file, kept as text, or of one of `names`."""

    def check(where: str, value: object) -> str:
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(text, str) or not text.strip():
            said = type(value).__name__ if hasattr(value, "shape") else repr(value)  # an array would fill the screen
            raise NetprobeError(f"{where} must be {', '.join(map(repr, names))} or the path of a file, not {said}")
        return text

    return {"check": check, "help": help}


def pattern(*, help: str) -> dict:
    """Metadata of a pattern for names of layers or parameters; several are joined by "+" (not in one that is "re:...").

    A module may be called by a number, which `literal` reads as one.
    """

    def check(where: str, value: object) -> str:
        text = str(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not text.strip():
            raise NetprobeError(f"{where} must be a pattern for names, such as layer1.*, not {value!r}")
        return text if text.startswith("re:") else text.replace(",", "+")

    return {"check": check, "help": help}


def wholes(least: int, *, help: str) -> dict:
    """Metadata of a tuple of whole numbers that are at least `least` and rise; "50,75" spells one, or "50:75"."""

    def check(where: str, value: object) -> tuple[int, ...]:
        parts = [literal(part) for part in re.split("[,:]", value) if part] if isinstance(value, str) else value
        one = whole(least, help="")["check"]
        numbers_ = tuple(one(where, part) for part in (parts if isinstance(parts, tuple | list) else [parts]))
        if list(numbers_) != sorted(set(numbers_)):
            raise NetprobeError(f"{where} must rise, like 50,75, not {value!r}")
        return numbers_

    return {"check": check, "help": help}


def reals(least: float = -math.inf, *, help: str) -> dict:
    """Metadata of a tuple of finite numbers, at least `least`, or None; "0.1,0.05" spells one, or "0.1:0.05"."""

    def check(where: str, value: object) -> tuple[float, ...] | None:
        if value is None:
            return None
        parts = [literal(part) for part in re.split("[,:]", value)] if isinstance(value, str) else value
        one = real(least, help="")["check"]
        return tuple(one(where, part) for part in (parts if isinstance(parts, tuple | list) else [parts]))

    return {"check": check, "help": help}


def class_target(rules: Collection[str], *, help: str) -> dict:
    """Metadata of a targeted attack's goal: None, a class number, or the name of one of `rules`."""

    def check(where: str, value: object) -> str | int | None:
        if value is None or value in rules:
            return value
        if isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 0:
            return int(value)
        raise unknown(where, value, [*rules, "none"], "Or give a class number, 0 or more.")

    return {"check": check, "help": f"{help} (none, {', '.join(rules)}, or a class number)"}


def literal(text: str) -> float | int | bool | str | None:
    """The value that `text` spells: none, true, false, 20, 0.1, 8/255; anything else is a word."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else _number(text)
    except ZeroDivisionError:
        raise NetprobeError(f"{text!r} divides by zero") from None
    except ValueError:
        return text


def assignments(text: str, spec: str) -> dict[str, object]:
    """The settings that "eps=8/255,steps=20" spells, by name; `spec` is what the user wrote, for messages."""
    settings: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise NetprobeError(f"cannot read {part!r} in {spec!r}: write setting=value, several with commas between")
        if name in settings:
            raise NetprobeError(f"{name} is given twice in {spec!r}")
        settings[name] = literal(value)
    return settings


def refuse_unknown(cls: type, settings: Iterable[str], kind: str) -> None:
    """An error for the first of `settings` that the dataclass `cls` does not have."""
    names = [f.name for f in dataclasses.fields(cls)]
    for name in settings:
        if name not in names:
            raise unknown(f"setting of {kind}", name, names)


def spelled(value: object) -> str:
    """The shortest text that `literal` reads back exactly: 0.1, but 8/255 for 0.03137254901960784."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ":".join(map(spelled, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if value == int(value):
        return str(int(value))
    levels = round(value * 255)
    return min(repr(value), f"{levels}/255", key=len) if levels / 255 == value else repr(value)


def spellings(values: list) -> list[str]:
    """`spelled` values, four digits of those that are no multiple of 1/255 if that tells all of them apart."""
    exact = [spelled(value) for value in values]
    short = [f"{v:.4g}" if isinstance(v, float) and "/" not in e else e for v, e in zip(values, exact, strict=True)]
    return short if len(set(short)) == len(set(exact)) else exact


def _number(text: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        return float(text)
