"""Plots of the sparse coding front end draw what their results say."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from netprobe import plots
from netprobe.defenses import SparseCodingDefense
from netprobe.defenses.sparse_coding import code_steps, dictionary_atoms, patch_correlations, surrogate_curves
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn


@pytest.fixture(scope="module")
def results():
    torch.manual_seed(0)
    settings = {"patch": 4, "stride": 2, "atoms": 10, "top": 6, "dropout": 0.5, "image_size": 8, "image_channels": 3}
    model, image = SparseCodingDefense(**settings).build(digits_cnn(in_channels=3)), torch.rand(3, 8, 8)
    return {
        "plot_code_steps": code_steps(model, image),
        "plot_dictionary_atoms": dictionary_atoms(model),
        "plot_patch_correlations": patch_correlations(model, digits_cnn(in_channels=3), image),
        "plot_quantiser_surrogates": surrogate_curves(),
    }


NAMES = ["plot_code_steps", "plot_dictionary_atoms", "plot_patch_correlations", "plot_quantiser_surrogates"]


@pytest.mark.parametrize("name", NAMES)
def test_draws_on_the_axes_it_is_given_in_its_own_style(name, results):
    before = dict(mpl.rcParams)
    _, ax = plt.subplots()
    assert getattr(plots, name)(results[name], ax=ax) is ax
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_the_same_results_give_the_same_bytes(name, results, tmp_path):
    drawn = [plots.save(getattr(plots, name)(results[name]), tmp_path / f"{n}.svg").read_bytes() for n in (0, 1)]
    assert drawn[0] == drawn[1]
    assert b"<text" in drawn[0]


@pytest.mark.parametrize("name", NAMES)
def test_other_results_are_told_from_the_right_ones(name, results):
    wrong = results["plot_quantiser_surrogates" if name != "plot_quantiser_surrogates" else "plot_code_steps"]
    with pytest.raises(NetprobeError, match="valid choices"):
        getattr(plots, name)(wrong)


@pytest.mark.parametrize("by", ["length", "brightness"])
def test_atoms_are_drawn_in_order_each_on_its_own_scale(by, results):
    found = results["plot_dictionary_atoms"]
    ax = plots.plot_dictionary_atoms(found, by=by, count=9)
    (image,) = ax.images
    mosaic = np.asarray(image.get_array())
    assert mosaic.shape == (3 * 5 - 1, 3 * 5 - 1, 3)
    order = np.argsort(-found[by].values)[:9]
    for place, number in enumerate(order):
        row, column = divmod(place, 3)
        weight = found["weight"].values[number].transpose(1, 2, 0)
        tile = mosaic[5 * row : 5 * row + 4, 5 * column : 5 * column + 4]
        np.testing.assert_allclose(tile, (weight - weight.min()) / (weight.max() - weight.min()))
    assert (mosaic[4] == 1).all()
    assert "9 of 10 atoms" in ax.get_title("left")


def test_atoms_cannot_be_ordered_by_what_was_not_measured(results):
    with pytest.raises(NetprobeError, match="unknown variable 'use'"):
        plots.plot_dictionary_atoms(results["plot_dictionary_atoms"], by="use")
    with pytest.raises(NetprobeError, match="unknown order of atoms 'size'"):
        plots.plot_dictionary_atoms(results["plot_dictionary_atoms"], by="size")


def test_grey_atoms_are_drawn_in_grey(results):
    grey = results["plot_dictionary_atoms"].isel(channel=[0])
    (image,) = plots.plot_dictionary_atoms(grey).images
    assert np.asarray(image.get_array()).ndim == 2


def test_a_panel_a_step_with_a_line_for_each_coefficient(results):
    values = results["plot_code_steps"]["value"]
    ax = plots.plot_code_steps(results["plot_code_steps"])
    for panel, step in zip(ax.child_axes, values["step"].values, strict=True):
        here = values.sel(step=step).values
        (lines,) = panel.collections
        drawn = {round(segment[1][0]): segment[1][1] for segment in lines.get_segments()}
        assert drawn == pytest.approx({number: here[number] for number in np.flatnonzero(here)})
        assert panel.get_title("left") == f"{step}: {len(drawn)}"
    limits = [panel.get_ylim() for panel in ax.child_axes]
    assert limits[0] == limits[1] == limits[2] < limits[3] or limits[0] > limits[3]


def test_a_line_of_steps_for_each_source(results):
    found = results["plot_patch_correlations"]
    ax = plots.plot_patch_correlations(found)
    steps = [patch for patch in ax.patches if isinstance(patch, mpl.patches.StepPatch)]
    for patch, source in zip(steps, found["source"].values, strict=True):
        np.testing.assert_allclose(patch.get_data().values, found["density"].sel(source=source))
        assert f"{float(found['peakedness'].sel(source=source)):.2f}" in patch.get_label()
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {patch.get_label() for patch in steps}


def test_a_curve_for_each_sharpness(results):
    curves = results["plot_quantiser_surrogates"]
    lines = {line.get_label(): line for line in plots.plot_quantiser_surrogates(curves).lines}
    for k in (2, 4, 8, 32):
        np.testing.assert_allclose(lines[f"smooth, k = {k}"].get_ydata(), curves["smooth"].sel(sharpness=k))
    np.testing.assert_allclose(lines["quantiser f(r)"].get_ydata(), curves["quantised"])
