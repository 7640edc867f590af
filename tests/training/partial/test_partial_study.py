"""What the study says of any network, on small digits: early layers matter more. Minutes."""

from __future__ import annotations

import pytest
import xarray as xr

from netprobe.training.partial import sweep

pytestmark = pytest.mark.slow

CODES = "A1N2,A2N1,N2A1,N2N1,A2A1,N2A1_l"
CUTOFFS = ("conv3", "conv5", "end")
EPS = 0.15


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> xr.Dataset:
    """Only what the tests below need: two whole networks and nine cells of one seed."""
    wanted = ["A1N2-04", "A1N2-08", "A1N2-11", "A2N1-04", "N2A1-04", "N2N1-04", "A2A1-04", "N2A1_l-00", "N2A1_l-08"]
    return sweep(
        "digits_cnn",
        "digits",
        CODES,
        (0, *CUTOFFS),
        [0],
        out=tmp_path_factory.mktemp("study"),
        only=["natural-seed0", "adversarial-seed0", *(f"{label}-seed0" for label in wanted)],
        adversarial=f"pgd-at:eps={EPS},steps=7",
        recipe="quick",
        progress=False,
    )


def cell(data: xr.Dataset, quantity: str, code: str, layer: str) -> float:
    return float(data[quantity].sel(code=code, seed=0).isel(cutoff=list(data["layer"].values).index(layer)))


def whole(data: xr.Dataset, quantity: str, training: str) -> float:
    return float(data[f"whole_{quantity}"].sel(training=training, seed=0))


def test_adversarial_training_is_what_makes_the_difference(data):
    """The ground that the other tests stand on: both networks work, one stands the attack and the other does not."""
    for training in ("natural", "adversarial"):
        assert whole(data, "clean_accuracy", training) > 0.93
    assert whole(data, "adversarial_accuracy", "adversarial") > 0.6
    assert whole(data, "adversarial_accuracy", "natural") < 0.3


def test_controls_are_about_as_good_as_training_once(data):
    """Check 4: re-initialising by itself changes little. 355 images: 2.4 points are the standard error at 70 %."""
    for code, training in (("N2N1", "natural"), ("A2A1", "adversarial")):
        apart = cell(data, "clean_accuracy", code, "conv3") - whole(data, "clean_accuracy", training)
        assert abs(apart) < 0.025
    robust = cell(data, "adversarial_accuracy", "A2A1", "conv3")
    assert abs(robust - whole(data, "adversarial_accuracy", "adversarial")) < 0.07


def test_loss_falls_from_one_whole_network_to_the_other_as_early_layers_become_adversarial(data):
    """Check 5."""
    losses = [cell(data, "adversarial_loss", "A1N2", layer) for layer in ("conv3", "conv5")]
    ends = [whole(data, "adversarial_loss", training) for training in ("natural", "adversarial")]
    falling = [ends[0], *losses, ends[1]]
    assert falling == sorted(falling, reverse=True)


def test_statistics_alone_change_little(data):
    """Check 1, the end: with all layers frozen, clean images re-estimate batch norm, and that is all."""
    assert abs(cell(data, "clean_accuracy", "A1N2", "end") - whole(data, "clean_accuracy", "adversarial")) < 0.025
    robust = cell(data, "adversarial_accuracy", "A1N2", "end")
    assert abs(robust - whole(data, "adversarial_accuracy", "adversarial")) < 0.07


def test_the_first_four_layers_matter_more_than_all_others(data):
    """Check 6: adversarial alone, they give more than the seven behind them do without them."""
    with_them = cell(data, "adversarial_accuracy", "A2N1", "conv3")
    without = cell(data, "adversarial_accuracy", "N2A1", "conv3")
    assert with_them - without > 0.15


def test_the_first_convolution_matters_more_than_the_last(data):
    """Check 7."""
    ground = whole(data, "adversarial_accuracy", "adversarial")
    lost = {layer: ground - cell(data, "adversarial_accuracy", "N2A1_l", layer) for layer in ("conv1", "conv5")}
    assert lost["conv1"] > max(lost["conv5"], 0.05)
