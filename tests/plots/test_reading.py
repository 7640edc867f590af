"""Words for perturbations, and which of them is drawn when none is named."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.perturb.specs import eps_of
from netprobe.plots.drawing import balanced, log_ticks, power, shorten
from netprobe.plots.reading import (
    budget,
    conditions,
    describe,
    label,
    strongest,
    strongest_of_families,
    sweep,
)


def perturbations(*rows: tuple[str, str, float]) -> xr.Dataset:
    name, family, eps = zip(*rows, strict=True)
    along = {"perturbation": name, "family": family, "eps": eps}
    return xr.Dataset(coords={key: ("perturbation", list(values)) for key, values in along.items()})


MIXED = perturbations(
    ("noise", "Gaussian noise", np.nan), ("a@8/255", "PGD", 8 / 255), ("a@2/255", "PGD", 2 / 255), ("l2", "PGD", 0.5)
)


@pytest.mark.parametrize(
    ("eps", "text"),
    [(8 / 255, "8/255"), (0.0314, "8/255"), (1 / 255, "1/255"), (0.2, "0.2"), (0.5, "0.5"), (1, "1"),
     (0.0123, "0.0123"), (1e-4, "0.0001"), (0, "0")],
)  # fmt: skip
def test_a_budget_reads_as_people_write_it(eps, text):
    assert budget(eps) == text


def test_the_strongest_is_the_largest_eps_among_its_like():
    assert strongest_of_families(MIXED) == ["noise", "a@8/255", "l2"]  # PGD in another norm is another thing
    assert strongest(MIXED) == "noise"
    assert strongest(MIXED.isel(perturbation=[2, 1])) == "a@8/255"
    assert strongest(MIXED.isel(perturbation=2)) == "a@2/255"


def test_a_sweep_is_ordered_by_eps():
    assert sweep(MIXED) == sweep(MIXED, "PGD") == ["a@2/255", "a@8/255"]
    assert sweep(MIXED.isel(perturbation=[0, 1, 3])) == []
    assert sweep(perturbations(("pgd", "PGD", 0.1), ("pgd-2", "PGD", 0.05))) == ["pgd-2", "pgd"]
    assert sweep(perturbations(("pgd@steps=1", "PGD", 0.1), ("pgd@steps=9", "PGD", 0.1))) == []
    with pytest.raises(NetprobeError, match="unknown family 'Gaussian noise'"):
        sweep(MIXED, "Gaussian noise")


def test_conditions_without_coordinates_are_read_from_their_names():
    data = xr.Dataset(coords={"perturbation": ["pgd@0.0157", "pgd@8/255", "mist@dawn"]})
    assert [str(each) for each in conditions(data)] == ["pgd ε=4/255", "pgd ε=8/255", "mist@dawn"]
    assert sweep(data) == ["pgd@0.0157", "pgd@8/255"]


def test_members_that_differ_in_something_else_keep_their_names():
    data = perturbations(("pgd@steps=1", "PGD", 8 / 255), ("pgd@steps=9", "PGD", 8 / 255))
    assert [str(each) for each in conditions(data)] == ["pgd@steps=1 ε=8/255", "pgd@steps=9 ε=8/255"]


def test_a_severity_is_no_budget():
    fog, jpeg = (("fog@1", "fog", 1.0), ("fog@5", "fog", 5.0)), ("jpeg", "jpeg_compression", 3.0)
    data = perturbations(*fog, jpeg, ("l2", "PGD L2", 3.0))
    assert [str(each) for each in conditions(data)] == ["fog severity 1", "fog severity 5", "jpeg severity 3", "l2 ε=3"]
    assert describe(data.isel(perturbation=2)) == "jpeg severity 3 (jpeg_compression)"
    assert sweep(data) == ["fog@1", "fog@5"]


def test_the_strength_of_a_noise_is_what_its_setting_measures():
    noises = (npb.GaussianNoise(0.1), npb.UniformNoise(8 / 255), npb.SaltAndPepper(0.2))
    data = perturbations(*((f"noise{k}@x", each.title, eps_of(each)) for k, each in enumerate(noises)))
    named = [str(each).partition(" ")[2] for each in conditions(data)]
    assert named == ["σ=0.1", "ε=8/255", "amount=0.2"]
    axes = [each.axis() for each in conditions(data)]
    assert axes == ["σ (input units)", "ε (input units)", "Amount (share of the coordinates)"]
    measured = [type(each).strength for each in noises]
    assert measured == ["std", "eps", "amount"]  # σ is the standard deviation, ε the largest change


def test_describe_adds_the_family_where_the_name_does_not_tell():
    assert [describe(MIXED.isel(perturbation=k)) for k in range(4)] == [
        "noise (Gaussian noise)", "a ε=8/255 (PGD)", "a ε=2/255 (PGD)", "l2 ε=0.5 (PGD)",
    ]  # fmt: skip
    assert describe(MIXED) == ""


def test_labels_come_from_attributes():
    array = xr.DataArray(0.0, name="v", attrs={"long_name": "level", "units": "dB"})
    assert label(array) == "Level (dB)"
    assert label(array.assign_attrs(units="1")) == "Level"
    assert label(xr.DataArray(0.0, name="v")) == "V"


def test_short_forms():
    assert shorten("conv1") == "conv1"
    assert shorten("encoder.layers.encoder_layer_11.mlp.0", 20) == "…oder_layer_11.mlp.0"
    assert [power(value) for value in (1e-12, 0.1, 1, 100, 1000)] == ["10⁻¹²", "10⁻¹", "1", "100", "10³"]


@pytest.mark.parametrize(
    "low, high, shown",
    [(1e-5, 1, ["10⁻⁵", "10⁻³", "10⁻¹"]), (15, 300, ["20", "50", "100", "200"]), (2.2e6, 9e6, ["5·10⁶"]),
     (0.012, 0.03, ["0.02"])],
)  # fmt: skip
def test_numbers_of_logarithmic_axes_are_written_out(low, high, shown):
    ax = plt.subplots()[1]
    ax.set(yscale="log", ylim=(low, high))
    log_ticks(ax.yaxis, low, high)
    assert [label.get_text() for label in ax.get_yticklabels()] == shown


def test_long_titles_have_lines_of_like_length_and_no_lone_per_cent_sign():
    assert balanced("400 of 500 atoms, by use: 6.28, 57 % nearly uniform", 34) == [
        "400 of 500 atoms, by use:", "6.28, 57 % nearly uniform"
    ]  # fmt: skip
    assert balanced("spectrum of the perturbation, boundary (Boundary L2)", 50) == [
        "spectrum of the perturbation,", "boundary (Boundary L2)"
    ]  # fmt: skip
    assert balanced("short", 20) == ["short"] and balanced("", 20) == []
    for letters in range(20, 60):
        words = "a bb ccc dddd eeeee ffffff ggggggg hhhhhhhh 12 % iii jj k"
        lines = balanced(words, letters)
        assert " ".join(lines) == words and max(map(len, lines)) <= letters
        assert len(lines) <= -(-len(words) // (letters - 8)) and not any(line.startswith("%") for line in lines)
