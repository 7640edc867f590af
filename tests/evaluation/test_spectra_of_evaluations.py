"""Spectra that an evaluation keeps are those of the perturbations, also after it was interrupted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluating_helpers import QUIET, Nearest, two_models
from tiny import images, lookup, shifted

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.evaluation import corruptions, evaluate
from netprobe.fourier.spectra import FourierSpectrum
from netprobe.reporting.verdict import verdict

SHAPE, N = (3, 16, 16), 12
NAMES = ["brightness", "gaussian_blur", "gaussian_noise"]


DATA = images(N, SHAPE)
CHANGED = shifted(DATA, 0.3)
ASKED = {"nearest": Nearest(lookup(CHANGED))} | corruptions([1, 3], NAMES)


def evaluated(**settings):
    return evaluate(two_models(), DATA, ASKED, **{**QUIET, "spectra": True, "chunk": 5, **settings})


@pytest.fixture(scope="module")
def tree():
    return evaluated()


def test_they_are_those_of_the_perturbation(tree):
    direct = FourierSpectrum()
    direct.update(CHANGED.double() - DATA.inputs.double(), torch.arange(N))
    found, wanted = tree["one/perturbation_spectrum"].isel(perturbation=0), direct.results()
    assert tree["one/perturbation_spectrum"]["perturbation"].values.tolist() == ["nearest"]
    for name in ("spectrum", "ring_energy", "low_frequency_share", "centroid", "centroid_image"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)  # float32 images


def test_corruptions_are_grouped_by_what_they_change(tree):
    alone = npb.perturbation_spectra(None, DATA, corruptions([1, 3], NAMES), progress=False)
    table = tree["one/corruptions"].to_dataset()
    each = alone["any model/perturbation_spectrum/centroid"]
    for name in NAMES:
        wanted = each.sel(perturbation=[f"{name}@1", f"{name}@3"]).mean()
        assert float(table["centroid"].sel(corruption=name)) == pytest.approx(float(wanted))
    order = table["corruption"].values[np.argsort(table["centroid"].values)]
    assert table["frequency_group"].sel(corruption=order).values.tolist() == ["low", "medium", "high"]
    means = table["accuracy"].mean("severity").sel(corruption=order)
    np.testing.assert_allclose(table["group_accuracy"], means)
    gains = tree["other/frequency_gains"]
    assert gains.attrs["baseline"] == "one" and "frequency_gains" not in tree["one"].children
    other = tree["other/corruptions/group_accuracy"]
    np.testing.assert_allclose(gains["group_gain"], other.values - table["group_accuracy"].values, atol=1e-12)


def test_models_are_compared_in_the_verdict(tree):
    assert tree["other/spectrum_difference"].attrs["baseline"] == "one"
    said = str(verdict(tree))
    assert "Of what nearest changes," in said and "one plus 0.0 points [0.0, 0.0] in other" in said  # changed alike
    assert "Under corruptions by frequency other gains over one" in said
    npb.plot_frequency_gains(tree, models=["other"])


def test_they_are_kept_and_do_not_tell_of_an_interruption(tree, tmp_path):
    evaluated(folder=tmp_path, shard="1/2")
    kept = list(tmp_path.glob("units/*.npz"))
    again = evaluated(folder=tmp_path)
    assert set(kept) < set(tmp_path.glob("units/*.npz"))
    for path in ("one/perturbation_spectrum", "other/corruptions", "other/spectrum_difference"):
        assert again[path].to_dataset().drop_attrs().identical(tree[path].to_dataset().drop_attrs())


def test_nothing_is_told_unasked_or_in_part(tmp_path):
    without, part = evaluated(spectra=False), evaluated(folder=tmp_path, shard="0/2")
    for tree in (without, part):
        assert "perturbation_spectrum" not in tree["one"].children and "centroid" not in tree["one/corruptions"]
    with pytest.raises(NetprobeError, match="evaluate with spectra=True"):
        npb.frequency_gains(without)
