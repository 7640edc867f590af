"""The pages of the reference, made of what is public."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from docstrings import first_line, restructured
from public import Group, groups

FOLDER = Path(__file__).parent / "generated"


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
            lines += [*_heading(package, "-"), *restructured([first_line(sys.modules[package])])]
        options = ["   :toctree: .", "   :template: autosummary/base.rst"]
        lines += [".. autosummary::", *options, "", *(f"   {name}" for name in names), ""]
    return "\n".join(lines)


def _heading(text: str, rule: str) -> list[str]:
    return [text, rule * len(text), ""]
