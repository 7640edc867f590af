"""Examples in docstrings are true, and stand by themselves: they import all that they use."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import netprobe

ROOT = Path(netprobe.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def test_there_are_examples():
    assert len(FILES) > 40


@pytest.mark.parametrize("path", FILES, ids=map(module_of, FILES))
def test_examples_are_true(path, capsys):
    found = doctest.testmod(importlib.import_module(module_of(path)), globs={})
    assert found.attempted and not found.failed, capsys.readouterr().out
