"""The pages of the reference, made of what is public; and of one docstring what Sphinx is to read of it."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

    of_its_type = not isinstance(value, type) and lines == (inspect.getdoc(type(value)) or "").splitlines()
    lines[:] = [] if of_its_type else restructured(lines, link)
    if dataclasses.is_dataclass(value):
        settings = {f.name: f.metadata["help"] for f in dataclasses.fields(value) if "help" in f.metadata}
        lines += [*([".. rubric:: Settings", ""] if settings else []), *definitions(settings, link)]
    if isinstance(value, Mapping):
        lines += definitions({str(key): _first_line(of) if callable(of) else repr(of) for key, of in value.items()})


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
