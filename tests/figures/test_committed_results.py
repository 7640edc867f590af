"""Results that are committed open, say where they came from and nothing of whose machine it was, and can be drawn."""

import json
import re
from pathlib import Path

import pytest

from netprobe.gallery import make_all, scripts_in
from netprobe.store import open_results

FIGURES = Path(__file__).parents[2] / "figures"
RESULTS = FIGURES / "results"
FILES = sorted(RESULTS.glob("*/*.nc"))
PLACE = re.compile(r"/(?:home|root|Users|tmp)/|[A-Za-z]:\\\\|\"[/~]")
"""How absolute paths begin, by themselves or as strings in JSON."""
LARGEST = 1_000_000
"""Bytes of a file."""


@pytest.fixture(scope="module")
def studies():
    """Every study by name."""
    return {shown.study.name: shown.study for shown in scripts_in(FIGURES)}


def test_there_are_some():
    assert {path.parent.name for path in FILES} >= {"hah-reduced", "polarizing-reduced", "sparse-coding-reduced"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_says_of_which_settings_it_is_and_nothing_of_a_machine(path, studies):
    tree = open_results(path)
    said = [str(value) for node in tree.subtree for value in node.attrs.values()]
    assert path.stat().st_size < LARGEST and not any(PLACE.search(each) for each in said)
    about = json.loads(tree.attrs["study"])
    assert f"{about['study']}-{about['scale']}" == path.parent.name
    assert about["scale"] != "smoke" and about["scale"] in studies[about["study"]].scales
    assert about["versions"]["torch"]


def test_the_largest_scale_is_shown_without_training(printed, tmp_path):
    text = printed("diss_tab_5_1_hah.py", "--results", RESULTS, "-o", tmp_path)
    assert "(paper 64)" in text and '"scale": "reduced"' in (tmp_path / "diss_tab_5_1_hah.md").read_text()


def test_a_figure_is_drawn_without_training(printed, tmp_path):
    printed("diss_fig_5_7_noise.py", "--results", RESULTS, "-o", tmp_path)
    assert (tmp_path / "diss_fig_5_7_noise.png").stat().st_size > 10_000


@pytest.mark.slow
def test_all_that_there_are_results_of_can_be_shown(tmp_path):
    made = make_all(FIGURES, "reduced", tmp_path, run=False, results=RESULTS, progress=False)
    assert all(each.files or "no results" in each.skipped or "scale" in each.skipped for each in made)
    assert sum(bool(each.files) for each in made) >= 15
