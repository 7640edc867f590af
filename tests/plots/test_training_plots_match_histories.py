"""What is drawn of a training is what is in its history."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from numpy.testing import assert_array_equal

from netprobe import plots
from netprobe.errors import NetprobeError

BLUE, ORANGE = "#0072b2", "#d55e00"
ACCURACIES = ("accuracy", "validation_accuracy", "validation_robust_accuracy")


@pytest.fixture
def robust(results) -> xr.Dataset:
    return results["robust"]["history"].to_dataset()


def legend(ax: plt.Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def curves(ax: plt.Axes) -> list[plt.Line2D]:
    return [line for line in ax.lines if len(line.get_xdata()) > 1]


def marks(ax: plt.Axes) -> list[plt.Line2D]:
    return [line for line in ax.lines if len(line.get_xdata()) == 1]


def test_accuracies_with_their_intervals_and_the_best_epoch(robust):
    ax = plots.plot_learning_curves(robust)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_ylim()) == ("Epoch", "Accuracy", (0, 1.02))
    assert legend(ax) == [
        "Training accuracy", "Validation accuracy", "Robust validation accuracy", "Best epoch"
    ]  # fmt: skip
    for line, style, name in zip(curves(ax), (":", "--", "-"), ACCURACIES, strict=True):
        assert_array_equal(line.get_xdata(), np.arange(1, 13))
        assert_array_equal(line.get_ydata(), robust[name].values)
        assert line.get_linestyle() == style
    for band, name in zip(ax.collections[1:], ACCURACIES[1:], strict=True):
        drawn = np.unique(band.get_paths()[0].vertices[:, 1])
        assert_array_equal(drawn, np.unique(robust[f"{name}_interval"].values))
    (best,) = marks(ax)
    epoch = robust.attrs["best_epoch"]
    assert 1 < epoch < 12
    assert best.get_xdata() == [epoch]
    assert best.get_ydata() == [robust["validation_robust_accuracy"].max()]


def test_loss_of_training_and_of_validation(robust):
    ax = plots.plot_training_loss(robust)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_ylim()[0]) == ("Epoch", "Loss (nat)", 0)
    assert legend(ax) == ["Training loss", "Validation loss"]
    for line, style, name in zip(ax.lines, ["-", "--"], ("loss", "validation_loss"), strict=True):
        assert_array_equal(line.get_ydata(), robust[name].values)
        assert line.get_linestyle() == style


@pytest.mark.parametrize("draw", [plots.plot_learning_curves, plots.plot_training_loss])
def test_histories_by_name(results, draw):
    histories = {
        f"pgd-at:eps={k}/255": results[name]["history"].to_dataset() for k, name in ((4, "natural"), (8, "robust"))
    }
    ax = draw(histories)
    assert legend(ax)[:2] == list(histories)
    assert [to_hex(text.get_color()) for text in ax.get_legend().get_lines()[:2]] == [BLUE, ORANGE]
    chosen = draw(histories, models=["pgd-at:eps=8/255"])
    assert {to_hex(line.get_color()) for line in chosen.lines} == {ORANGE}
    with pytest.raises(NetprobeError, match="unknown model 'pgd': did you mean 'pgd-at"):
        draw(histories, models=["pgd"])
    with pytest.raises(NetprobeError, match="nothing to draw: give the 'history'"):
        draw({})


def test_training_without_validation_marks_no_best_epoch(robust):
    bare = robust[["loss", "accuracy", "lr"]].assign_attrs(criterion="none: the last", best_epoch=12)
    ax = plots.plot_learning_curves(bare)
    assert legend(ax) == ["Training accuracy"] and not marks(ax)
    assert legend(plots.plot_training_loss(bare)) == ["Training loss"]


def test_what_was_never_measured_is_not_in_the_legend(results):
    ax = plots.plot_learning_curves(results["natural"]["history"].to_dataset())  # robust accuracy is NaN there
    assert legend(ax) == ["Training accuracy", "Validation accuracy", "Best epoch"]


def test_a_history_read_from_disk_draws_the_same(robust, tmp_path):
    robust.to_netcdf(tmp_path / "history.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "history.nc", engine="h5netcdf") as read:
        (best,) = marks(plots.plot_learning_curves(read))
    assert best.get_xdata() == [robust.attrs["best_epoch"]]


def test_one_epoch_is_a_point(robust):
    ax = plots.plot_learning_curves(robust.isel(epoch=[0]).assign_attrs(best_epoch=1))
    assert all(line.get_marker() == "." for line in ax.lines[:3])
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


@pytest.fixture
def regularised(robust) -> xr.Dataset:
    """A training with two terms, one of which falls over decades."""
    jacobian = xr.Variable("epoch", 1e4 * 0.3 ** np.arange(12), {"long_name": "squared Jacobian norm", "units": "1"})
    l2 = xr.Variable("epoch", np.linspace(90, 80, 12), {"long_name": "squared norm", "units": "1"})
    return robust.assign(jacobian=jacobian, l2=l2).assign_attrs(regularisers='["jacobian", "l2"]')


def test_every_term_has_a_panel_and_its_values(regularised):
    ax = plots.plot_training_terms(regularised)
    names = ["loss", "accuracy", "validation_accuracy", "jacobian", "l2"]
    assert len(ax.child_axes) == len(names)
    for name, panel in zip(names, ax.child_axes, strict=True):
        (line,) = panel.lines
        assert_array_equal(line.get_xdata(), np.arange(1, 13))
        assert_array_equal(line.get_ydata(), regularised[name].values)
        assert panel.get_yscale() == ("log" if name == "jacobian" else "linear")
    assert ax.child_axes[-1].get_title("left") == "Squared norm"


def test_a_network_without_a_term_leaves_its_panel_to_the_others(regularised, results):
    ax = plots.plot_training_terms({"plain": results["natural"]["history"].to_dataset(), "l2": regularised})
    assert legend(ax) == ["plain", "l2"]
    assert [len(panel.lines) for panel in ax.child_axes] == [2, 2, 2, 1, 1]
    assert to_hex(ax.child_axes[-1].lines[0].get_color()) == ORANGE


def test_terms_can_be_chosen_and_must_be_there(regularised):
    (panel,) = plots.plot_training_terms(regularised, terms="jacobian").child_axes
    assert_array_equal(panel.lines[0].get_ydata(), regularised["jacobian"].values)
    with pytest.raises(NetprobeError, match="unknown term 'jacobain': did you mean 'jacobian'"):
        plots.plot_training_terms(regularised, terms=["jacobain"])


@pytest.fixture
def matched(robust) -> xr.Dataset:
    """A training with the regulariser of pixel similarity at two sites."""
    about = {"long_name": "of a site", "units": "1"}
    found = {f"similarity_weight_{site}": np.linspace(0.5, end, 12) for site, end in (("relu", 0.9), ("layer1", 0.1))}
    found |= {f"similarity_at_{site}": np.linspace(0, end, 12) for site, end in (("relu", -0.2), ("layer1", 0.4))}
    found["similarity_correlation"] = np.r_[np.nan, np.linspace(0.1, 0.6, 11)]
    return robust.assign({name: xr.Variable("epoch", values, about) for name, values in found.items()})


def test_weights_and_similarities_of_sites_have_a_panel_each(matched):
    ax = plots.plot_similarity_training(matched)
    assert legend(ax) == ["relu", "layer1"]
    for panel, prefix in zip(ax.child_axes, ("similarity_weight_", "similarity_at_"), strict=False):
        for line, site in zip(panel.lines, ("relu", "layer1"), strict=False):
            assert_array_equal(line.get_ydata(), matched[f"{prefix}{site}"].values)
    assert_array_equal(ax.child_axes[2].lines[0].get_ydata(), matched["similarity_correlation"].values)


def test_networks_without_the_term_are_left_out_and_an_undefined_correlation_says_so(matched, robust):
    ax = plots.plot_similarity_training({"plain": robust, "low": matched.drop_vars("similarity_correlation")})
    assert len(ax.child_axes) == 3 and ax.child_axes[2].texts[0].get_text() == "undefined"
    with pytest.raises(NetprobeError, match="none of these trainings had the regulariser 'similarity'"):
        plots.plot_similarity_training(robust)


@pytest.fixture
def followed(results) -> xr.Dataset:
    return results["robust"]["followed"].to_dataset().isel(site=[0, 1])


def test_a_network_is_followed_with_its_intervals(followed):
    ax = plots.plot_followed(followed)
    assert [panel.get_title("left") for panel in ax.child_axes] == [
        "Loss (nat)", "Accuracy", *(f"‖J‖ of {site}" for site in followed["site"].values)
    ]  # fmt: skip
    wanted = [followed["mean_loss"], followed["accuracy"], *followed["mean_frobenius"].T]
    bounds = ["mean_loss_interval", "accuracy_interval", *2 * ["mean_frobenius_interval"]]
    sites = [{}, {}, {"site": 0}, {"site": 1}]
    for panel, values, name, place in zip(ax.child_axes, wanted, bounds, sites, strict=True):
        (line,), (band,) = panel.lines, panel.collections
        assert_array_equal(line.get_xdata(), followed["epoch"].values)
        assert_array_equal(line.get_ydata(), values.values)
        drawn = np.unique(band.get_paths()[0].vertices[:, 1])
        assert_array_equal(drawn, np.unique(followed[name].isel(place).values))
        low, high = panel.get_ylim()
        assert low <= drawn.min() and drawn.max() <= high
        assert low == 0 or panel.get_yscale() == "log"
    assert ax.child_axes[1].get_ylim() == (0, 1.02)


def test_of_many_sites_some_are_drawn_or_those_that_are_named(results):
    data = results["robust"]["followed"].to_dataset()
    names = list(data["site"].values)
    drawn = [panel.get_title("left") for panel in plots.plot_followed(data).child_axes[2:]]
    assert len(drawn) == 4 and drawn[0].endswith(names[0]) and drawn[-1].endswith(names[-1])
    (panel,) = plots.plot_followed(data, sites=names[2]).child_axes[2:]
    assert panel.get_title("left") == f"‖J‖ of {names[2]}"
    with pytest.raises(NetprobeError, match="unknown site 'conv99'"):
        plots.plot_followed(data, sites=["conv99"])
