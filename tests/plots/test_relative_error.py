"""The mean corruption error relative to a baseline, and its paired interval."""

import numpy as np
import pytest
import xarray as xr

from netprobe.plots.corruption_error import relative


def table(wrong):
    """A corruptions Dataset from errors (corruption, image)."""
    return xr.Dataset(
        {"error_image": (("corruption", "image"), wrong), "error": ("corruption", wrong.mean(1))},
        {"corruption": ["fog", "snow"][: len(wrong)]},
    )


def wrong(share, images=400):
    """The same ones whatever tests ran before."""
    return (np.random.default_rng(round(100 * share)).random((2, images)) < share).astype(float)


def test_it_is_the_mean_of_ratios_and_its_interval_holds_it():
    ours, theirs = table(wrong(0.3)), table(wrong(0.6))
    found = relative(ours, theirs)
    expected = np.mean([ours["error"][i] / theirs["error"][i] for i in range(2)])
    assert float(found["mean_error"]) == pytest.approx(expected)
    low, high = found["mean_error_interval"].values
    assert low < expected < high < 1


def test_a_model_is_its_own_baseline_exactly():
    own = table(wrong(0.4))
    found = relative(own, own)
    np.testing.assert_allclose(found["error"], 1)
    np.testing.assert_allclose(found["error_interval"], 1)  # the same images: nothing left to chance


def test_images_are_resampled_together():
    """Errors that nearly agree image by image differ by little, whatever their size; unpaired they would not."""
    theirs = wrong(0.5)
    ours = theirs.copy()
    ours[:, :8] = 1 - ours[:, :8]
    low, high = relative(table(ours), table(theirs))["error_interval"].values[0]
    assert high - low < 0.06  # of two independent samples of 400 with half wrong: 0.28


def test_without_the_errors_of_images_there_is_no_interval():
    found = relative(table(wrong(0.3)).drop_vars("error_image"), table(wrong(0.5)))
    assert np.isnan(found["mean_error_interval"]).all()
    assert np.isfinite(found["mean_error"])
