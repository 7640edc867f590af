"""What holds for every plot."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from synthetic_results import SITES, synthetic_results

from netprobe import plots
from netprobe.errors import NetprobeError
from netprobe.plots.drawing import INK
from netprobe.plots.reading import OF_EVALUATION, OF_REPRESENTATIONS, OF_TRAINING, OF_WEIGHTS

METRIC = {
    "plot_accuracy": "accuracy",
    "plot_alpha": "spectrum",
    "plot_batch_norm": "batch_norm",
    "plot_batch_norm_drift": "batch_norm_drift",
    "plot_cka": "cka",
    "plot_cka_matrix": "cka_matrix",
    "plot_correlation_shift": "correlation",
    "plot_correlation_change": "correlation",
    "plot_corruption_error": "corruptions",
    "plot_corruption_table": "corruptions",
    "plot_effective_rank": "singular_values",
    "plot_filter_hoyer": "filters",
    "plot_firing": "firing",
    "plot_followed": "followed",
    "plot_gradcam": "gradcam",
    "plot_lateral_map": "lateral",
    "plot_learning_curves": "history",
    "plot_loss_landscape": "landscape",
    "plot_minimum_norm": "minimum_norm",
    "plot_operator_norm": "singular_values",
    "plot_partial_curves": "partial",
    "plot_partial_layers": "partial",
    "plot_partial_parameters": "partial",
    "plot_perturbation_spectrum": "perturbation_spectrum",
    "plot_polarization": "polarization",
    "plot_pruning": "prototypes",
    "plot_psr": "psr",
    "plot_psr_ridge": "psr",
    "plot_robustness_curve": "evaluation",
    "plot_rsa": "rsa",
    "plot_settling": "settling",
    "plot_similarity_joint": "rsa",
    "plot_similarity_matrices": "similarity",
    "plot_singular_values": "singular_values",
    "plot_snr": "snr",
    "plot_sparsity": "hoyer",
    "plot_spectrum": "spectrum",
    "plot_step_read_out": "settling",
    "plot_tail_fatness": "singular_values",
    "plot_training_loss": "history",
    "plot_training_terms": "history",
}
OF_FRONT_ENDS = {
    "plot_accuracy_by_setting",
    "plot_accuracy_by_steps",
    "plot_activation_planes",
    "plot_boundary_distance",
    "plot_code_steps",
    "plot_corruption_accuracy",
    "plot_dictionary_atoms",
    "plot_frequency_gains",
    "plot_front_end_filters",
    "plot_critical_distances",
    "plot_decision_plane",
    "plot_distance_scatter",
    "plot_jacobian_norms",
    "plot_relative_accuracy",
    "plot_unit_spectra",
    "plot_patch_correlations",
    "plot_prototypes",
    "plot_polarizing_bumps",
    "plot_quantiser_surrogates",
    "plot_severity_curve",
    "plot_signal_maps",
    "plot_similarity_training",
    "plot_spectrum_maps",
}  # with tests of their own
SHARED_SITES = (
    "plot_batch_norm", "plot_filter_hoyer", "plot_firing", "plot_followed", "plot_psr_ridge", "plot_singular_values",
)  # fmt: skip
# colours mean numbers there, not models
PICTURES = (
    "plot_cka_matrix", "plot_corruption_table", "plot_gradcam", "plot_lateral_map", "plot_loss_landscape",
    "plot_similarity_joint", "plot_similarity_matrices",
)  # fmt: skip
CODES = ("plot_partial_curves", "plot_partial_layers", "plot_partial_parameters")  # and codes there
every_plot = pytest.mark.parametrize("name", METRIC)


@pytest.fixture(scope="module")
def results() -> xr.DataTree:
    return synthetic_results(sites=SITES[:6], images=40, maps=2)


def draw(name: str, *args, **kwargs) -> plt.Axes:
    return getattr(plots, name)(*args, **kwargs)


def texts(ax: plt.Axes) -> list[str]:
    legend = ax.get_legend()
    named = [*legend.get_texts(), legend.get_title()] if legend else []
    titles = [each.get_title("left") for each in (ax, *ax.child_axes)]
    return titles + [text.get_text() for text in [*named, *tick_labels(ax)]]


def tick_labels(ax: plt.Axes) -> list[mpl.text.Text]:
    return [text for each in (ax, *ax.child_axes) for text in (*each.get_xticklabels(), *each.get_yticklabels())]


def test_every_plot_is_enrolled():
    assert set(METRIC) | OF_FRONT_ENDS == {name for name in plots.__all__ if name.startswith("plot_")}


@every_plot
def test_draws_on_the_axes_it_is_given(name, results):
    _, ax = plt.subplots()
    assert draw(name, results, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


@every_plot
def test_leaves_the_global_style_alone(name, results):
    before = dict(mpl.rcParams)
    draw(name, results)
    assert dict(mpl.rcParams) == before


@every_plot
def test_text_keeps_its_style_when_drawn_elsewhere(name, results):
    ax = draw(name, results)
    with mpl.rc_context({"xtick.labelsize": 30, "xtick.labelcolor": "red", "ytick.labelsize": 30}):
        ax.figure.draw_without_rendering()
    labels = [text for text in tick_labels(ax) if text.get_text()]
    assert labels
    assert {text.get_fontsize() for text in labels} == {8}
    assert {to_hex(text.get_color()) for text in labels} == {INK}


@every_plot
def test_svg_is_text_and_always_the_same(name, results, tmp_path):
    first, second = (plots.save(draw(name, results), tmp_path / f"{copy}.svg").read_bytes() for copy in "ab")
    assert first == second
    assert b"<text" in first


@every_plot
def test_pdf_holds_no_date(name, results, tmp_path):
    assert b"CreationDate" not in plots.save(draw(name, results, models=["natural"]), tmp_path / "a.pdf").read_bytes()


@every_plot
def test_axes_say_what_they_show(name, results):
    ax = draw(name, results)
    if name != "plot_gradcam":
        assert ax.get_xlabel() or name in ("plot_accuracy", "plot_minimum_norm")
        assert ax.get_ylabel() or name == "plot_psr_ridge"
    shown = " ".join(texts(ax))
    assert all(model in shown for model in ("natural", "robust", "trades"))


@every_plot
def test_a_lone_dataset_and_the_node_of_a_model_are_enough(name, results):
    data = results["robust"][METRIC[name]].to_dataset()
    draw(name, data).figure.draw_without_rendering()
    assert "robust" not in " ".join(texts(draw(name, data)))
    assert "robust" in " ".join(texts(draw(name, data.assign_attrs(model="robust"))))
    assert "robust" in " ".join(texts(draw(name, results["robust"])))


@every_plot
def test_a_model_keeps_its_colour_when_drawn_alone(name, results, tmp_path):
    ax = draw(name, results, models=["robust"])
    picture = plots.save(ax, tmp_path / "robust.svg").read_text().lower()
    if name not in PICTURES + CODES:
        assert "#d55e00" in picture
        assert "#0072b2" not in picture


@pytest.fixture(scope="module")
def many() -> xr.DataTree:
    models = ("$a_1$ & <b>", "_hidden\x07", "x" * 60, "ünïcode", "m5", "m6", "m7", "m8")
    sites = tuple(f"encoder.layers.encoder_layer_{k}.mlp.$very_long$_name" for k in range(30))
    return synthetic_results(models, sites=sites, images=20, maps=2)


@every_plot
def test_many_models_and_awkward_names(name, many, tmp_path):
    ax = draw(name, many)
    assert "$a_1$ &amp; &lt;b" in plots.save(ax, tmp_path / "many.svg").read_text()


@every_plot
def test_models_with_other_sites(name):
    tree = synthetic_results(("a", "b"), sites={"a": SITES, "b": SITES[:7]}, images=20)
    if name in SHARED_SITES:
        with pytest.raises(NetprobeError, match=r"'a', 'b' differ: choose some with models="):
            draw(name, tree)
    else:
        draw(name, tree).figure.draw_without_rendering()


@every_plot
def test_undefined_values_leave_gaps(name, results, tmp_path):
    data = results["natural"][METRIC[name]].to_dataset().copy(deep=True)
    for variable in data.data_vars.values():
        if variable.dtype.kind == "f":
            variable[...] = np.where(np.random.default_rng(0).random(variable.shape) < 0.3, np.nan, variable)
    if "psr_db" in data:
        data["psr_db"][..., 0] = -np.inf
    plots.save(draw(name, data), tmp_path / "gaps.svg")


@every_plot
def test_one_site_one_image_one_model(name, tmp_path):
    plots.save(draw(name, synthetic_results(("a",), sites=("fc", "out"), images=2)), tmp_path / "one.svg")


@every_plot
def test_a_missing_metric_is_named_with_the_remedy(name, results):
    metric = METRIC[name]
    rest = xr.DataTree.from_dict(
        {path: data for path, data in results.to_dict().items() if not path.endswith(f"/{metric}")}
    )
    remedy = "npb.weights.analyse" if metric in OF_WEIGHTS else rf"metrics=\[\.\.\., '{metric}'\]"
    remedy = {"landscape": "npb.loss_landscape"}.get(metric, "npb.evaluate") if metric in OF_EVALUATION else remedy
    other = {
        "followed": "npb.follow",
        "partial": "npb.training.partial.sweep",
        "polarization": "npb.polarization",
        "firing": "npb.defenses.hah.firing",
        "prototypes": "npb.prototypes",
        "settling": "npb.settling",
        "lateral": "npb.lateral_map",
    }
    if metric in OF_REPRESENTATIONS:
        remedy = "npb.similarity_matrices" if metric == "similarity" else f"npb.{metric}"
    remedy = other.get(metric, "npb.fit") if metric in OF_TRAINING else remedy
    with pytest.raises(NetprobeError, match=rf"no '{metric}' for 'natural'.*{remedy}"):
        draw(name, rest)
    assert not plt.get_fignums()


@every_plot
def test_the_wrong_dataset_is_told_from_the_right_one(name, results):
    wrong = results["natural"]["cka" if METRIC[name] != "cka" else "psr"].to_dataset()
    with pytest.raises(NetprobeError, match="valid choices"):
        draw(name, wrong)
    assert not plt.get_fignums()


@every_plot
def test_an_unknown_model_is_named(name, results):
    with pytest.raises(NetprobeError, match="unknown model 'robus': did you mean 'robust'"):
        draw(name, results, models=["robus"])


@pytest.fixture(scope="module")
def deep() -> xr.DataTree:
    return synthetic_results(("a", "b"), sites=tuple(f"features.{k}.conv{k}" for k in range(64)), images=20, maps=2)


@every_plot
@pytest.mark.parametrize("width", [3.7, 7.0])
def test_tick_labels_do_not_overlap(name, width, deep):
    with plots.style():
        figure, ax = plt.subplots(figsize=(width, 5))
    draw(name, deep, ax=ax)
    figure.canvas.draw()
    for axis in (axis for each in (ax, *ax.child_axes) for axis in (each.xaxis, each.yaxis)):
        assert_apart([text for text in axis.get_majorticklabels() if text.get_text()], figure)


def assert_apart(labels: list[mpl.text.Text], figure: plt.Figure) -> None:
    """Flat labels must have disjoint boxes; the lines of slanted ones must be their height apart."""
    for one, other in itertools.pairwise(labels):
        if one.get_rotation():
            along = abs(one.get_window_extent().x1 - other.get_window_extent().x1) * 72 / figure.dpi
            assert along * np.sin(np.radians(one.get_rotation())) > one.get_fontsize()
        else:
            assert not one.get_window_extent().overlaps(other.get_window_extent())
