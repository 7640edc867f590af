"""The public names of netprobe, told by their `__all__`s, in the groups that the map of README.md makes of its files.

A name is public because a module lists it in its `__all__`, and has its place because its file stands on the map of the
README. Nothing is listed here: a new name or file appears by itself, and one without a place is an error.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import netprobe

ROOT = Path(__file__).parents[2]
PACKAGE = Path(netprobe.__file__).parent
INTERNAL = ("netprobe.cli", "netprobe.reporting.sections")
"""Packages whose `__all__` speaks to netprobe alone; the command line has a page of its own."""


@dataclass
class Group:
    """A line of the map: its file or folder, what the map says of it, and its public names by package."""

    name: str
    text: str
    names: dict[str, list[str]] = field(default_factory=dict)


def groups() -> list[Group]:
    """The lines of the map that have public names, in its order."""
    found = {stem: group for group, stems in _map(ROOT / "README.md") for stem in stems}
    for name, home in public().items():
        stem = home.split(".")[1]
        if stem not in found:
            raise LookupError(f"{name} has no place: put netprobe/{stem} on the map of README.md")
        found[stem].names.setdefault(_package(home), []).append(name)
    distinct = {id(group): group for group in found.values()}
    return [group for group in distinct.values() if group.names]


def public() -> dict[str, str]:
    """Every public name, spelled the shortest way that there is to import it, and the module that it comes from."""
    found: dict[int, tuple[str, str]] = {}
    for module in sorted(_modules(), key=lambda module: (module.__name__.count("."), module.__name__)):
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, ModuleType):
                found.setdefault(id(value), (f"{module.__name__}.{name}", _home(value, module)))
    return dict(sorted(found.values()))


def _modules() -> Iterator[ModuleType]:
    for path in PACKAGE.rglob("*.py"):
        if re.search(r"^__all__ = ", path.read_text(encoding="utf-8"), re.MULTILINE):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            if name not in INTERNAL:
                yield importlib.import_module(name)


def _home(value: Any, listed: ModuleType) -> str:
    """The module of a class or function; of anything else the one that lists it."""
    return value.__module__ if inspect.isclass(value) or inspect.isroutine(value) else listed.__name__


def _package(module: str) -> str:
    """The innermost package that a module is in or is, netprobe itself aside: its own name for a file beside those."""
    parts = module.split(".")
    inside = PACKAGE.joinpath(*parts[1:]).is_dir()
    return module if inside or len(parts) == 2 else ".".join(parts[:-1])


def _map(readme: Path) -> Iterator[tuple[Group, list[str]]]:
    """Every line of the map, with the modules and packages that it names."""
    tree = readme.read_text(encoding="utf-8").partition("\n    netprobe/\n")[2].partition("\n    notebooks/")[0]
    for name, text in re.findall(r"^ {6}(\S+) +(.+)$", tree, re.MULTILINE):
        yield Group(name, text), [re.match(r"\w+", name)[0], *re.findall(r"(\w+)\.py", text)]
