"""What Sphinx is to read of an object or a command: its text made legible, with the help of its settings and links."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
from collections.abc import Mapping
from textwrap import indent
from typing import Any

import click
from docstrings import definitions, first_line, restructured
from public import public

NAMES = public()


def describe(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Replace the docstring `lines` of the object called `name`, as Sphinx asks its extensions to."""

    def link(text: str) -> str | None:
        return None if text in _parameters(value) else linked(text, name)

    of_its_type = not isinstance(value, type) and "\n".join(lines).strip() == inspect.getdoc(type(value))
    lines[:] = [] if of_its_type else restructured(lines, link)
    if settings := _settings(value):
        lines += [".. rubric:: Settings", "", *definitions(settings, link)]
    if isinstance(value, Mapping):
        lines += ["By name:", ""] * (not lines)
        lines += definitions({str(key): first_line(of) if callable(of) else repr(of) for key, of in value.items()})
    if isinstance(value, tuple):
        lines += [", ".join(f"``{getattr(one, '__name__', one)}``" for one in value)]


def describe_command(app: Any, context: click.Context, lines: list[str]) -> None:
    """Replace the help of a command, whose paragraphs behind a \\b are set as they stand."""
    text = inspect.cleandoc(context.command.help)
    text = re.sub(r"\x08\n((?:.+\n?)+)", lambda found: indent(found[1], "    "), text)
    lines[:] = restructured(text.splitlines())


def _settings(value: Any) -> dict[str, str]:
    """The help of the fields of a dataclass, in the order in which they are given."""
    if not dataclasses.is_dataclass(value):
        return {}
    told = {field.name: field.metadata["help"] for field in dataclasses.fields(value) if "help" in field.metadata}
    return {name: told[name] for name in _parameters(value) if name in told}


def _parameters(value: Any) -> list[str]:
    try:
        return list(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return []


def linked(text: str, where: str) -> str | None:
    """The public name that `text` means in the docstring of `where`, or the member of one: the nearest that fits."""
    short = text.removeprefix("npb.").removeprefix("netprobe.")
    stem, _, member = short.partition(".")
    for end, rest in ((short, ""), (stem, f".{member}"), (short.rpartition(".")[2], "")):
        fitting = [name for name in NAMES if name.endswith(f".{end}")]
        if fitting:
            nearest = max(fitting, key=lambda name: _shared(NAMES[name], _home(where)))
            return f"{nearest}{rest}" if "." in text or _meant(nearest, where) else None
    return None


def _shared(*modules: str) -> int:
    """How near two modules are to each other."""
    return len(os.path.commonpath([module.replace(".", "/") for module in modules]))


def _meant(name: str, where: str) -> bool:
    """Words such as `start` are names next door alone; classes and what netprobe itself has are names everywhere."""
    everywhere = name.count(".") == 1 or name.rpartition(".")[2][0].isupper()
    return everywhere or NAMES[name].split(".")[1] == _home(where).split(".")[1]


def _home(where: str) -> str:
    """The module that a public name, or the member of one, comes from."""
    return NAMES.get(where) or NAMES.get(where.rpartition(".")[0], where)
