"""Choosing settings of a regulariser by the rule R_0 / U_0 >= 0.9."""

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from torch.nn.functional import normalize

from netprobe import data
from netprobe.cli import main
from netprobe.errors import NetprobeError
from netprobe.store import open_results
from netprobe.training import fit, selecting
from netprobe.training.selecting import select_regulariser

QUICK = {"epochs": 1, "batch_size": 64, "cycles": (), "milestones": (), "validation": 0.0, "progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=300)


def test_every_combination_is_trained_once_and_the_same_call_goes_on(digits, tmp_path, monkeypatch):
    asked = ("similarity:count=50,pairs=4", {"coupling": [1.0, 5.0], "threshold": [0.2]}, "digits_cnn", digits)
    first = select_regulariser(*asked, out=tmp_path, **QUICK)
    assert list(first.trained) == ["plain", "coupling=1,threshold=0.2", "coupling=5,threshold=0.2"]
    assert (
        first.candidates["coupling=5,threshold=0.2"].coupling == 5
        and first.trained["plain"].regularisers[0].coupling == 0
    )
    kept = open_results(tmp_path / "selection.nc")["selection"].to_dataset()
    xr.testing.assert_identical(kept.drop_attrs(deep=False), first.table.drop_attrs(deep=False))
    monkeypatch.setattr("netprobe.training.loop.Loop._step", None)  # nothing is trained again
    assert repr(select_regulariser(*asked, out=tmp_path, **QUICK)) == repr(first)


def test_images_to_judge_by_are_not_trained_on(digits, monkeypatch):
    seen = []

    def noting(defense, model, images, *rest, **settings):
        seen.append(images)
        return fit(defense, model, images, *rest, **settings)

    monkeypatch.setattr(selecting, "fit", noting)
    judged = []
    monkeypatch.setattr(
        selecting,
        "evaluate",
        lambda models, images, *rest, **more: judged.append(images) or outcomes([0.9, 0.9], [0, 0]),
    )
    select_regulariser("l2", {"coupling": [1e-4]}, "digits_cnn", digits, held_out=0.2, **QUICK)
    assert [len(images) for images in seen] == [240, 240] and len(judged[0]) == 60
    flat = [normalize(images.inputs.flatten(1)) for images in (seen[0], judged[0], digits)]
    doubles = int((flat[2] @ flat[2].T > 1 - 1e-6).sum()) - 300  # images that the set itself has twice
    assert int((flat[1] @ flat[0].T > 1 - 1e-6).sum()) <= doubles


def outcomes(clean, robust, images=100):
    """Evaluations of networks "plain", "1", "2", ... with so many right answers."""
    tree = {}
    for k, shares in enumerate(zip(clean, robust, strict=True)):
        correct = np.stack([np.arange(images) < share * images for share in shares]).astype(np.int8)
        tree[f"/{k or 'plain'}/evaluation"] = xr.Dataset(
            {
                "correct": (("condition", "image"), correct),
                "accuracy": ("condition", correct.mean(1), {"definition": "share of right answers"}),
                "accuracy_interval": (("condition", "bound"), np.stack([correct.mean(1)] * 2, 1)),
            },
            {"condition": ["clean", "perturbed"]},
        )
    return xr.DataTree.from_dict(tree)


@pytest.mark.parametrize(
    ("clean", "robust", "chosen"),
    [
        ([0.8, 0.72, 0.71], [0.1, 0.3, 0.9], "1"),  # 0.9 of 0.8 is enough, less is not
        ([0.8, 0.8, 0.75], [0.1, 0.3, 0.4], "2"),  # more robust
        ([0.8, 0.75, 0.8], [0.1, 0.3, 0.3], "2"),  # as robust, more accurate
        ([0.8, 0.5, 0.6], [0.1, 0.3, 0.3], ""),  # none
    ],
)
def test_the_rule(clean, robust, chosen):
    table = selecting._table(outcomes(clean, robust), least=0.9)
    assert table.attrs["chosen"] == chosen
    assert table["ratio"].values == pytest.approx(np.array(clean) / clean[0])
    assert (table["ratio_interval"].sel(bound="low") <= table["ratio"] + 1e-12).all()


def test_the_ratio_interval_is_over_images_that_both_saw():
    """Of networks that are right on the same images the ratio is 1 in every resample."""
    table = selecting._table(outcomes([0.5, 0.5], [0, 0]), least=0.9)
    assert table["ratio_interval"].values[1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("grid", "settings", "message"),
    [
        ({}, {}, "nothing to select from"),
        ({"couplin": [1]}, {}, "did you mean 'coupling'"),
        ({"coupling": [0.0, 1.0]}, {}, "has no coupling"),
        ({"coupling": [1.0]}, {"held_out": 1.0}, "some to train on"),
        ({"coupling": [1.0, 2.0, 1.0]}, {}, "the same name, .*: coupling=1; give each value once"),
    ],
)
def test_mistakes_are_found_before_training(grid, settings, message, digits, monkeypatch):
    monkeypatch.setattr(selecting, "fit", None)
    with pytest.raises(NetprobeError, match=message):
        select_regulariser("l2", grid, "digits_cnn", digits, **settings, **QUICK)


def test_on_the_command_line(tmp_path):
    command = ["train", "l2", "--data", "digits", "--limit", "150", "--model", "digits_cnn", "--preset", "quick"]
    command += ["--epochs", "1", "--select", "coupling=1e-4,1e-3", "-o", str(tmp_path)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "coupling=0.001: accuracy" in done.output and (tmp_path / "coupling=0.0001" / "best.pt").exists()
    refused = CliRunner().invoke(main, ["train", "natural", *command[2:]])
    assert refused.exit_code == 2 and "--select is for one regulariser" in refused.output
