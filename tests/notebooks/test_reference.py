"""The reference has every public name, and each a docstring; docstrings become what they look like; the site builds."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

import pytest

import netprobe

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks" / "reference"


@pytest.fixture
def public(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("public")


@pytest.fixture
def docstrings(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("docstrings")


def listed(public) -> set[str]:
    """The names that have a place."""
    return {name for group in public.groups() for names in group.names.values() for name in names}


def value_of(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_public_name_has_a_place_and_says_what_it_is(public):
    names = listed(public)
    assert len(names) > 300 and names == set(public.public())
    for name in names:
        value = value_of(name)
        tells = inspect.getdoc(value) if callable(value) else isinstance(value, Collection) and value
        assert tells, f"{name} has no docstring"


def test_what_netprobe_itself_has_is_there_under_that_name(public):
    own = {f"netprobe.{name}" for name in netprobe.__all__ if not inspect.ismodule(getattr(netprobe, name))}
    assert own < listed(public)


def test_what_notebooks_import_is_public(public):
    places = {id(value_of(name)) for name in listed(public)}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for module, names in re.findall(r"^from (netprobe[\w.]*) import (.+)$", text, re.MULTILINE):
            for value in (getattr(importlib.import_module(module), name) for name in names.split(", ")):
                assert inspect.ismodule(value) or id(value) in places, (path.name, module, value)


def test_a_new_name_appears_by_itself(public, monkeypatch):
    from netprobe import metrics

    def brand_new() -> None:
        """New."""

    brand_new.__module__ = "netprobe.metrics.brand_new"
    monkeypatch.setattr(metrics, "brand_new", brand_new, raising=False)
    monkeypatch.setattr(metrics, "__all__", [*metrics.__all__, "brand_new"])
    (group,) = [group for group in public.groups() if group.name == "metrics/"]
    assert "netprobe.metrics.brand_new" in group.names["netprobe.metrics"]


def test_a_file_that_is_not_on_the_map_is_refused(public, monkeypatch, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("      seeds.py ", "      sprouts.py ")
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr(public, "ROOT", tmp_path)
    with pytest.raises(LookupError, match=r"netprobe.over_seeds has no place: put netprobe/seeds on the map"):
        public.groups()


DOCSTRING = """
Ratio |a|_p of *x* to `y`, as `sweep` and `Partial`s.

    R = ||a||_1,   a in R^n

name    in columns, and
        on
Parameters
----------
x, *rest : one
    two

    key   of a table

Returns a Dataset:
    b(c)  d

>>> f(1)
1
"""
MADE = r"""
Ratio \|a\|\_p of \*x\* to \ ``y``\ , as \ :py:obj:`sweep <netprobe.sweep>`\  and \ ``Partial``\ s.

::

    R = ||a||_1,   a in R^n

``name``
    in columns, and on

.. rubric:: Parameters

``x, *rest``
    one two

``key``
    of a table

Returns a Dataset:

``b(c)``
    d

>>> f(1)
1
"""


def test_docstrings_become_what_they_look_like(docstrings):
    links = {"sweep": "netprobe.sweep"}
    made = docstrings.restructured(DOCSTRING.strip().splitlines(), links.get)
    assert [line for line in made if line] == [line for line in MADE.splitlines() if line]


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path, public):
    if not all(map(importlib.util.find_spec, ("sphinx", "myst_parser", "furo", "sphinx_click", "sphinx_copybutton"))):
        pytest.skip("needs Sphinx: pip install -e '.[docs]'")
    command = "sphinx-build -W -c notebooks/reference . build/reference"
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    words = shlex.split(command.replace("build/reference", str(tmp_path)))
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    pages = {f"notebooks/reference/generated/{name}.html" for name in public.public()}
    guide = {f"notebooks/rendered/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert made > pages | guide | {"index.html", "README.html", "figures/README.html"}
