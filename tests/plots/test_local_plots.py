"""Plots of locally learnt layers draw what their results say."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import netprobe as npb
from netprobe import plots
from netprobe.defenses.krotov_hopfield import convert, local_layer
from netprobe.errors import NetprobeError
from netprobe.models.shallow import shallow
from netprobe.plots.dictionary_atoms import mosaic

NAMES = ["plot_prototypes", "plot_pruning"]


@pytest.fixture(scope="module")
def found():
    """Forty units, of which those of the largest variance are pruned."""
    torch.manual_seed(0)
    model = convert(shallow(in_features=48, hidden=40))
    _, layer = local_layer(model)
    weight = layer.weight * torch.linspace(0.1, 1, 40)[:, None]
    kept = weight.var(1, correction=0) < 0.3
    layer.put(weight, kept, 0.3, [(0.9, 0, 1.0)])
    return npb.prototypes(model, (3, 4, 4))


@pytest.mark.parametrize("name", NAMES)
def test_draws_on_the_axes_it_is_given_in_its_own_style(name, found):
    before = dict(mpl.rcParams)
    _, ax = plt.subplots()
    assert getattr(plots, name)(found, ax=ax) is ax
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_the_same_results_give_the_same_bytes(name, found, tmp_path):
    drawn = [plots.save(getattr(plots, name)(found), tmp_path / f"{n}.svg").read_bytes() for n in (0, 1)]
    assert drawn[0] == drawn[1] and b"<text" in drawn[0] and "\ufffd".encode() not in drawn[0]


@pytest.mark.parametrize("name", NAMES)
def test_other_results_are_told_from_the_right_ones(name, found):
    with pytest.raises(NetprobeError, match="valid choices"):
        getattr(plots, name)(found.drop_vars("kept"))


def test_prototypes_before_and_after(found):
    ax = plots.plot_prototypes(found)
    assert [panel.get_title("left") or panel.get_title() for panel in ax.child_axes] == [
        "before pruning",
        "after pruning",
    ]
    for panel, stage in zip(ax.child_axes, ("before", "after"), strict=True):
        tiles = found["weight"].sel(stage=stage).transpose("place", "row", "column", "channel").values
        np.testing.assert_allclose(panel.images[0].get_array(), mosaic(tiles[np.isfinite(tiles).all((1, 2, 3))]))
    share = 100 * (1 - found["kept"].values.mean())
    assert f"{share:.1f} %" in ax.get_title("left") + ax.get_title()


def test_every_unit_is_in_the_histogram_once_and_the_pruned_lie_behind_the_cutoff(found):
    ax = plots.plot_pruning({"one": found, "other": found})
    for panel in ax.child_axes:
        kept, pruned = (sum(bar.get_height() for bar in bars) for bars in panel.containers)
        assert (kept, pruned) == (found["kept"].sum(), (~found["kept"]).sum())
        (line,) = panel.lines
        assert line.get_xdata()[0] == pytest.approx(found.attrs["cutoff"])


def test_results_say_what_they_hold(found):
    pruned = ~found["kept"].values
    assert (found["variance"].values >= 0.3).tolist() == pruned.tolist()
    assert found.attrs["pruned"] == pytest.approx(pruned.mean())
    assert found["weight"].shape == (2, 16, 3, 4, 4)
    assert found["outcome"].values.tolist() == pytest.approx([0.9, 0, 1])
    flat = found["weight"].sel(stage="after").values.reshape(16, -1)
    assert (flat.var(1)[np.isfinite(flat).all(1)] < 0.3).all()
    with pytest.raises(NetprobeError, match="1 or more"):
        npb.prototypes(convert(shallow(in_features=4, hidden=3)), count=0)
