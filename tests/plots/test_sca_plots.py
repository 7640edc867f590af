"""Plots of self-consistent layers, and of how correlations change, draw what their results say."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from netprobe import data, plots
from netprobe.defenses import SCADefense
from netprobe.defenses.sca import accuracy_by_steps, activation_planes
from netprobe.errors import NetprobeError
from netprobe.models import mlp


@pytest.fixture(scope="module")
def own():
    torch.manual_seed(0)
    model, some = SCADefense(steps=4).build(mlp(hidden=12)), data.load("digits", limit=40)
    how = {"progress": False, "steps": (1, 4)}
    return {
        "plot_accuracy_by_steps": accuracy_by_steps(model, some, {"noise": "gaussian:std=0.1"}, **how),
        "plot_activation_planes": activation_planes(model, some, {"noise": "gaussian:std=0.1"}, **how),
    }


NAMES = ["plot_accuracy_by_steps", "plot_activation_planes"]


@pytest.mark.parametrize("name", NAMES)
def test_draws_on_the_axes_it_is_given_in_its_own_style(name, own):
    before = dict(mpl.rcParams)
    _, ax = plt.subplots()
    assert getattr(plots, name)(own[name], ax=ax) is ax
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_the_same_results_give_the_same_bytes(name, own, tmp_path):
    drawn = [plots.save(getattr(plots, name)(own[name]), tmp_path / f"{n}.svg").read_bytes() for n in (0, 1)]
    assert drawn[0] == drawn[1]
    assert b"<text" in drawn[0]


@pytest.mark.parametrize("name", NAMES)
def test_other_results_are_told_from_the_right_ones(name, own):
    (other,) = set(NAMES) - {name}
    with pytest.raises(NetprobeError, match="valid choices"):
        getattr(plots, name)(own[other])


def test_a_line_a_condition_over_the_numbers_of_steps(own):
    found = own["plot_accuracy_by_steps"]
    ax = plots.plot_accuracy_by_steps(found)
    lines = {line.get_label(): line for line in ax.lines}
    for condition in ("clean", "noise"):
        np.testing.assert_allclose(lines[condition].get_ydata(), found["accuracy"].sel(condition=condition))
        np.testing.assert_array_equal(lines[condition].get_xdata(), [1, 4])
    assert [tick for tick in ax.get_xticks() if tick] == [1, 4]
    assert "trained with one" in ax.get_xlabel()
    assert "training and test" in plots.plot_accuracy_by_steps(found.assign_attrs(varied="training")).get_xlabel()


def test_a_panel_for_each_condition_and_step_with_all_its_points(own):
    found = own["plot_activation_planes"]
    ax = plots.plot_activation_planes(found)
    titles = [panel.get_title("left") for panel in ax.child_axes]
    assert titles == ["clean, t = 1", "clean, t = 4", "noise, t = 1", "noise, t = 4"]
    label = found["label"].values
    for panel, (condition, step) in zip(
        ax.child_axes, [(c, s) for c in ("clean", "noise") for s in (1, 4)], strict=True
    ):
        here = found["coordinate"].sel(condition=condition, step=step).values
        for scatter, number in zip(panel.collections, np.unique(label), strict=True):
            np.testing.assert_allclose(scatter.get_offsets(), here[label == number])
    assert len({panel.get_xlim() for panel in ax.child_axes}) == 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [str(number) for number in np.unique(label)]
    drawn = ax.child_axes[0].collections
    looks = {(to_hex(each.get_facecolor()[0]), len(each.get_paths()[0].vertices)) for each in drawn}
    assert len(looks) == len(drawn) == 10  # classes are told apart by colour and marker together


@pytest.mark.parametrize(("name", "quantities"), [
    ("plot_settling", ("energy", "lateral", "reconstruction", "residual")),
    ("plot_step_read_out", ("accuracy", "probability")),
])  # fmt: skip
def test_a_panel_a_quantity_with_a_line_for_each_model_and_condition(name, quantities, results):
    ax = getattr(plots, name)(results, models=["natural", "robust"])
    for panel, quantity in zip(ax.child_axes, quantities, strict=True):
        curves = [line for line in panel.lines if len(line.get_xdata()) > 2]
        pairs = [(model, condition) for model in ("natural", "robust") for condition in ("clean", "pgd")]
        for line, (model, condition) in zip(curves, pairs, strict=True):
            expected = results[f"{model}/settling"][quantity].sel(condition=condition)
            np.testing.assert_allclose(line.get_ydata(), expected)
            assert to_hex(line.get_color()) == {"natural": "#0072b2", "robust": "#d55e00"}[model]
            assert (line.get_linestyle() == "-") == (condition == "clean")
        ends = {float(line.get_xdata()[0]) for line in panel.lines if len(line.get_xdata()) == 2}
        assert ends == {4.0}
    shown = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {"natural", "robust", "clean", "pgd"} < shown


def test_energies_are_on_logarithmic_axes(results):
    scales = [panel.get_yscale() for panel in plots.plot_settling(results).child_axes]
    assert scales == ["log", "log", "log", "linear"]


def test_the_map_of_lateral_weights_is_centred_on_zero(results):
    ax = plots.plot_lateral_map(results, models=["natural", "robust"])
    for panel, model in zip(ax.child_axes, ("natural", "robust"), strict=True):
        (image,) = panel.images
        np.testing.assert_array_equal(np.asarray(image.get_array()), results[f"{model}/lateral"]["weight"])
        low, high = image.get_clim()
        assert low == -high < 0
    assert "12 of 60 units" in ax.get_title("left")


def test_the_distribution_of_changes(results):
    ax = plots.plot_correlation_change(results, models=["robust"], perturbation="noise", site="conv1")
    (line,) = ax.lines
    expected = results["robust/correlation"]["change"].sel(perturbation="noise", site="conv1")
    np.testing.assert_allclose(line.get_xdata(), expected)
    np.testing.assert_allclose(line.get_ydata(), expected["share"])
    strongest = plots.plot_correlation_change(results, models=["robust"]).lines[0].get_xdata()
    last = results["robust/correlation"]["change"].isel(site=-1)
    np.testing.assert_allclose(strongest, last.sel(perturbation="pgd@0.0314"))
