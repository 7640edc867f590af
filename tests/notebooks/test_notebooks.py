"""Notebooks are valid, kept without outputs, use names that exist, and (slow) run top to bottom."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import netprobe as npb

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code(path: Path) -> list[ast.Module]:
    """Its code cells, parsed: notebooks do without magics."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]


def test_there_are_seven_in_order():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02d}_" for number in range(1, 8)]


@each
def test_it_is_valid_and_without_outputs(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        assert cell["source"] and cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert "".join(book["cells"][0]["source"]).startswith(f"# {int(path.name[:2])} · ")


@each
def test_the_names_that_it_uses_of_netprobe_exist(path):
    used = 0
    for node in (node for cell in code(path) for node in ast.walk(cell)):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "netprobe":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
        elif isinstance(node, ast.Attribute):
            used += resolved(node) is not None
    assert used > 5


def resolved(node: ast.expr) -> object | None:
    """What npb.x.y is, as far as modules reach; None for an expression that does not begin with npb."""
    if isinstance(node, ast.Name):
        return npb if node.id == "npb" else None
    owner = resolved(node.value) if isinstance(node, ast.Attribute) else None
    return getattr(owner, node.attr) if isinstance(owner, ModuleType) else owner


@each
def test_a_rendered_copy_lies_beside_it(path):
    page = FOLDER / "rendered" / f"{path.stem}.md"
    text = page.read_text(encoding="utf-8")
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert "".join(cell["source"]) in text, "stale: python notebooks/render.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy, in which notebooks share the networks that they train."""
    return Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("copy") / "notebooks", ignore=lambda *_: ["runs"]))


@pytest.mark.slow
@each
def test_it_runs_top_to_bottom(path, folder):
    command = [sys.executable, folder / "render.py", folder / path.name, "-o", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "out" / f"{path.stem}.md").stat().st_size > 1000


def test_a_cell_that_fails_is_named(tmp_path):
    book = {"cells": [{"cell_type": "code", "id": "a", "metadata": {}, "source": ["1 / 0"]}]}
    (tmp_path / "broken.ipynb").write_text(json.dumps(book))
    command = [sys.executable, FOLDER / "render.py", tmp_path / "broken.ipynb", "-o", tmp_path / "out", "--here"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "broken.ipynb: cell 0 failed" in done.stderr and "ZeroDivisionError" in done.stderr
