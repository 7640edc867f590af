"""Training curves are of the trainings that there are results of, and say how many these are."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from netprobe.errors import MissingData
from netprobe.gallery import scripts_in
from netprobe.uncertainty import t_interval

FIGURES = Path(__file__).parents[2] / "figures"
RESULTS = FIGURES / "results"


@pytest.fixture(scope="module")
def smoothness():
    (shown,) = scripts_in(FIGURES, "kh_fig_training")
    return shown.study


def test_what_is_committed_says_how_many_trainings_it_is_of(smoothness):
    study = smoothness("reduced", RESULTS)
    tree = study.training()
    assert list(tree.children)[:2] == ["KH, mean of 3 trainings", "BP, mean of 3 trainings"]
    assert all(node["followed/epoch"].values.tolist() == list(range(9)) for node in tree.children.values())
    assert study.followed("BP", "2").attrs["samples"] == 10_000


def test_one_training_has_intervals_over_images(smoothness, tmp_path):
    folder = tmp_path / "smoothness-reduced"
    folder.mkdir()
    shutil.copy(RESULTS / "smoothness-reduced/followed-BP-0.nc", folder)
    (found,) = smoothness("reduced", tmp_path).training().children.items()
    assert found[0] == "BP, one training"
    assert "bootstrap over images" in found[1]["followed/mean_frobenius_interval"].attrs["definition"]


def test_several_trainings_have_their_mean_and_t_intervals(smoothness, tmp_path):
    folder = tmp_path / "smoothness-reduced"
    folder.mkdir()
    for seed, source in enumerate(("KH", "BP")):
        shutil.copy(RESULTS / f"smoothness-reduced/followed-{source}-0.nc", folder / f"followed-KH-{seed}.nc")
    study = smoothness("reduced", tmp_path)
    (found,) = study.training().children.items()
    assert found[0] == "KH, mean of 2 trainings"
    both = np.stack([study.followed("KH", seed)["accuracy"].values for seed in "01"], -1)
    np.testing.assert_allclose(found[1]["followed/accuracy"], both.mean(-1))
    np.testing.assert_allclose(found[1]["followed/accuracy_interval"], t_interval(both).clip(0, 1))


def test_without_any_it_says_how_to_make_them(smoothness, tmp_path):
    with pytest.raises(MissingData, match=r"followed-KH-0.nc'.*--run --scale reduced"):
        smoothness("reduced", tmp_path).training()
