"""The pages of the reference, made of what is public; and of one docstring what Sphinx is to read of it."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import click
from docstrings import definitions, restructured
from public import Group, groups, public

FOLDER = Path(__file__).parent / "generated"
NAMES = public()


def write() -> None:
    """A page for every line of the README's map, listing its names; autosummary makes a page of each name."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    made = {group.name.rstrip("/").removesuffix(".py"): _page(group) for group in groups()}
    made["index"] = "\n".join([*_heading("API reference", "="), ".. toctree::", "", *(f"   {name}" for name in made)])
    for name, text in made.items():
        (FOLDER / f"{name}.rst").write_text(text, encoding="utf-8")


def _page(group: Group) -> str:
    """Its names with the first lines of their docstrings, package by package."""
    lines = [*_heading(group.name, "="), *restructured([group.text])]
    for package, names in sorted(group.names.items()):
        if len(group.names) > 1:
            lines += [*_heading(package, "-"), *restructured([_first_line(sys.modules[package])])]
        options = ["   :toctree: .", "   :template: autosummary/base.rst"]
        lines += [".. autosummary::", *options, "", *(f"   {name}" for name in names), ""]
    return "\n".join(lines)


def _heading(text: str, rule: str) -> list[str]:
    return [text, rule * len(text), ""]


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Replace the docstring `lines` of the object called `name`, as Sphinx asks its extensions to."""

    def link(text: str) -> str | None:
        return None if text in _parameters(value) else linked(text, name)

    of_its_type = not isinstance(value, type) and "\n".join(lines).strip() == inspect.getdoc(type(value))
    lines[:] = [] if of_its_type else restructured(lines, link)
    if settings := _settings(value):
        lines += [".. rubric:: Settings", "", *definitions(settings, link)]
    if isinstance(value, Mapping):
        lines += ["By name:", ""] * (not lines)
        lines += definitions({str(key): _first_line(of) if callable(of) else repr(of) for key, of in value.items()})
    if isinstance(value, tuple):
        lines += [", ".join(f"``{getattr(one, '__name__', one)}``" for one in value)]


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


def process_help(app: Any, context: click.Context, lines: list[str]) -> None:
    """Replace the help of a command, whose paragraphs behind a \\b are set as they stand."""
    text = inspect.cleandoc(context.command.help)
    text = re.sub(r"\x08\n((?:.+\n?)+)", lambda found: indent(found[1], "    "), text)
    lines[:] = restructured(text.splitlines())
