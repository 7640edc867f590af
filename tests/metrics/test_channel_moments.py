"""Means and variances of channels against plain hooks and numpy, and probes of clean images alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny import QUIET, ConvNet, channel_rows, images, lookup, recorded, seeded, shifted

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.metrics import ChannelMoments

N = 20


@pytest.fixture(scope="module")
def model() -> ConvNet:
    return seeded(ConvNet).double()


def probed(model, data, perturbations, **settings):
    tree = npb.probe(model, data, perturbations, "channel_moments", "conv", dtype="float64", **QUIET | settings)
    return tree["ConvNet/channel_moments"].to_dataset()


def test_against_numpy(model):
    data = images(N)
    perturbed = shifted(data)
    found = probed(model, data, {"moved": lookup(perturbed)}, batch_size=7)
    for condition, inputs in (("clean", data.inputs), ("moved", perturbed)):
        for site, activations in recorded(model, inputs.double(), "conv1", "conv2").items():
            rows = channel_rows(activations)
            at = found.sel(condition=condition, site=site).isel(channel=slice(rows.shape[1]))
            assert at["rows"] == len(rows)
            # 1e-12: float64 sums of a few hundred numbers of order one, in another order
            np.testing.assert_allclose(at["mean"], rows.mean(0), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(at["variance"], rows.var(0, ddof=1), rtol=1e-12)
    assert found.sizes["channel"] == 7 and found["mean"].sel(site="conv2", channel=6).isnull().all()


def test_left_out_blocks_against_numpy(model):
    found = probed(model, images(N), None)
    rows = recorded(model, images(N).inputs.double(), "conv2")["conv2"]
    assert found.sizes["block"] == 7  # of 3 images each, the last of 2
    for block in range(7):
        kept = channel_rows(np.delete(rows, range(3 * block, min(3 * block + 3, N)), axis=0))
        at = found.sel(condition="clean", site="conv2", block=block).isel(channel=slice(6))
        np.testing.assert_allclose(at["jackknife_mean"], kept.mean(0), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(at["jackknife_variance"], kept.var(0, ddof=1), rtol=1e-11)


def test_clean_images_alone_are_one_condition(model):
    found = probed(model, images(N), None)
    assert found.condition.values.tolist() == ["clean"] and "perturbation" not in found.dims
    both = probed(model, images(N), {"moved": lookup(shifted(images(N)))})
    # 1e-12: another batch size sums in another order
    np.testing.assert_allclose(found["mean"][0], both["mean"][0], rtol=1e-12, atol=1e-14)


def test_what_compares_needs_something_to_compare_with(model):
    with pytest.raises(NetprobeError, match=r"no perturbations given \(needed by psr\): name one"):
        npb.probe(model, images(N), None, "channel_moments,psr", **QUIET)


def test_at_the_inputs(model):
    metric = dataclasses.replace(ChannelMoments(at="input"), sites="conv1")
    data = images(N)
    tree = npb.probe(model, data, None, metric, dtype="float64", **QUIET)
    rows = channel_rows(data.inputs.double().numpy())
    np.testing.assert_allclose(tree["ConvNet/channel_moments"]["mean"][0, 0], rows.mean(0), rtol=1e-12)
