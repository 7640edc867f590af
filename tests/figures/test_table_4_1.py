"""The script of table 4.1 prints what its results say."""

import numpy as np
import pytest

import netprobe as npb
from netprobe import data
from netprobe.defenses import PolarizingDefense
from netprobe.models import digits_cnn

SCRIPT = "diss_tab_4_1_polarizing.py"
ATTACKS = {"fgsm": "fgsm:eps=0.3", "bim": "bim:eps=0.3,steps=2", "pgd": "pgd:eps=0.3,steps=2,restarts=2"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of two untrained networks."""
    models = {"none": digits_cnn(), "polarizing": PolarizingDefense(filters=2).build(digits_cnn(in_channels=2))}
    tree = npb.evaluate(models, data.load("digits", limit=40), ATTACKS, doubts=False, preflight=False, progress=False)
    path = tmp_path_factory.mktemp("table") / "results.nc"
    npb.save_results(tree, path)
    return tree, path


def test_it_prints_ours_beside_the_paper(results, printed):
    tree, path = results
    text = printed(SCRIPT, f"mnist={path}")
    assert "digits, 40 images" in text
    assert "pgd: eps=0.3, norm=linf, loss=ce, steps=2, step_size=None, restarts=2, random_start=True" in text
    assert "backward passes: all declared" in text
    for name, paper in (("none", 99.4), ("polarizing", 99.1)):
        clean = tree[f"{name}/evaluation"].to_dataset().sel(condition="clean")
        low, high = 100 * clean["accuracy_interval"].values
        expected = f"| {name} | {100 * float(clean['accuracy']):.1f} [{low:.1f}, {high:.1f}] (paper {paper:g}) |"
        assert expected in text
    broken = tree["polarizing/evaluation"]["broken_by"].sel(condition="pgd").values.astype(str)
    for way in np.unique(broken[broken != ""]):
        assert f"{way} {(broken == way).sum()}" in text


def test_unknown_data_and_other_attacks_are_errors(printed, tmp_path):
    with pytest.raises(SystemExit, match=r"cannot read 'cifar=x\.nc': give DATA=results.nc with DATA one of mnist"):
        printed(SCRIPT, "cifar=x.nc")
    tree = npb.evaluate(digits_cnn(), data.load("digits", limit=10), doubts=False, preflight=False, progress=False)
    npb.save_results(tree, tmp_path / "other.nc")
    with pytest.raises(SystemExit, match="was not evaluated under bim, fgsm"):
        printed(SCRIPT, f"mnist={tmp_path / 'other.nc'}")
