"""Parts of a probe: they merge if they belong together, survive a file, and are computed at any time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from tiny import QUIET, ConvNet, assert_same, images, seeded

import netprobe as npb
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.metrics import CorrelationShift, Spectrum
from netprobe.probing.partial import Partial

METRICS = "psr,hoyer,spectrum,correlation"


def gathered(shard: str = "0/1", data=None, models=None, perturbations="gaussian:std=0.1", **settings) -> Partial:
    models = {"a": seeded(ConvNet), "b": seeded(ConvNet, width=5)} if models is None else models
    return npb.gather(
        models, data or images(), perturbations, **{**QUIET, "metrics": METRICS, "shard": shard, **settings}
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_merge_to_the_whole(order):
    parts = [gathered(f"{i}/3", dtype="float64") for i in order]
    assert not any(part.complete for part in (*parts, npb.merge(parts[:2])))
    merged = npb.merge(parts)
    assert merged.complete
    assert_same(merged.compute(), gathered(dtype="float64").compute(), rtol=1e-10)
    assert [part.models["a"].images for part in parts] == [(6, 7, 7)[i] for i in order]  # untouched


def test_parts_may_be_files_and_hold_different_models(tmp_path):
    a, b = {"a": seeded(ConvNet)}, {"b": seeded(ConvNet, width=5)}
    files = [gathered("0/2", models=a).save(tmp_path / "a0"), gathered("1/2", models=a).save(tmp_path / "a1")]
    merged = npb.merge([*files, gathered(models=b)])
    assert list(merged.models) == ["a", "b"]
    # float32 activations of other batches round differently
    assert_same(merged.compute(), gathered().compute(), rtol=1e-5)


def test_merging_nothing_is_an_error():
    with pytest.raises(NetprobeError, match="give at least one part"):
        npb.merge([])


def test_an_image_counts_once():
    with pytest.raises(NetprobeError, match="7 images of model 'a' are in both parts, the first is 6; merge each once"):
        npb.merge([gathered("1/3"), gathered("0/3"), gathered("1/3")])


@pytest.mark.parametrize(
    "other",
    [
        {"perturbations": "gaussian:std=0.2"},
        {"perturbations": {"other name": "gaussian:std=0.1"}},
        {"metrics": "psr"},
        {"metrics": (*npb.metrics.resolve("psr,hoyer,correlation"), Spectrum(first=2))},
        {"seed": 1},
        {"dtype": "float64"},
        {"sites": "conv"},
        {"paired": False},
        {"data": images(seed=1)},
        {"models": {"a": seeded(ConvNet, seed=1)}},
        {"memory": "1KB"},  # keeps no jackknife blocks apart
    ],
    ids=lambda other: next(iter(other)),
)
def test_parts_of_different_probes_do_not_merge(other):
    with pytest.raises(NetprobeError, match=r"different probes|same memory="):
        npb.merge([gathered("0/2"), gathered("1/2", **other)])


def test_how_it_was_run_does_not_matter():
    merged = npb.merge([gathered("0/2", batch_size=3), gathered("1/2", batch_size=5)])
    assert merged.models["a"].images == 20


def test_a_part_survives_a_file(tmp_path):
    part = gathered("1/3")
    loaded = Partial.load(part.save(tmp_path / "part"))
    assert (loaded.conditions, loaded.metrics, loaded.fingerprint) == (part.conditions, part.metrics, part.fingerprint)
    assert loaded.models["a"].sites == part.models["a"].sites  # the lineage of a site too
    xr.testing.assert_identical(loaded.compute(), part.compute())
    merged = npb.merge([gathered("0/3"), loaded, gathered("2/3")])
    xr.testing.assert_identical(merged.compute(), npb.merge([gathered("0/3"), part, gathered("2/3")]).compute())


def test_reading_a_part_executes_no_code(tmp_path):
    torch.load(gathered().save(tmp_path / "part"), weights_only=True)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"text", lambda b: b[: len(b) // 2]])
def test_a_damaged_file_is_an_error(tmp_path, damage):
    path = gathered().save(tmp_path / "part")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="not a partial probe result, or it is damaged"):
        Partial.load(path)
    with pytest.raises(CheckpointError):
        Partial.load(tmp_path / "absent")


def test_another_kind_of_file_is_an_error(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(CheckpointError):
        Partial.load(tmp_path / "other")


def test_nothing_seen_gives_no_results():
    empty = gathered("0/100")
    assert empty.models["a"].images == 0
    assert [node.path for node in empty.compute().subtree] == ["/"]


def test_metrics_of_one_site_share_what_they_need():
    """Spectrum without and correlation with jackknife blocks read the same moments, kept in blocks."""
    part = gathered(metrics="spectrum,correlation")
    assert [len(keyed) for keyed in part.models["a"].observables.values()] == [1, 1, 1]
    for metric in ("spectrum", "correlation"):
        alone = gathered(metrics=metric).compute()[f"a/{metric}"]
        for name, values in alone.data_vars.items():  # float64 sums in another order
            np.testing.assert_allclose(part.compute()[f"a/{metric}"][name], values, rtol=1e-9, atol=1e-12)


def test_a_budget_too_small_for_blocks_costs_the_interval_alone(caplog):
    small, large = (gathered(metrics=(CorrelationShift(),), memory=memory).compute() for memory in ("1KB", "1GiB"))
    assert "no jackknife intervals" in caplog.text
    assert small["a/correlation/shift_interval"].isnull().all()
    np.testing.assert_allclose(small["a/correlation/shift"], large["a/correlation/shift"], rtol=1e-9)


def test_coordinates():
    tree = gathered(perturbations={"n": "gaussian:std=0.25", "p": "pgd:eps=0.1,steps=1", "own": _own}).compute()
    psr, hoyer = tree["a/psr"], tree["a/hoyer"]
    assert psr.perturbation.values.tolist() == ["n", "p", "own"]
    assert psr.family.values.tolist() == ["Gaussian noise", "PGD", "_own"]
    np.testing.assert_array_equal(psr.eps, [0.25, 0.1, np.nan])
    assert hoyer.condition.values.tolist() == ["clean", "n", "p", "own"]
    assert hoyer.family.values.tolist() == ["clean", "Gaussian noise", "PGD", "_own"]
    np.testing.assert_array_equal(hoyer.eps, [0, 0.25, 0.1, np.nan])
    assert psr.site.values.tolist() == ["conv1", "conv2", "head"]
    assert psr.kind.values.tolist() == ["Conv2d", "Conv2d", "Linear"]
    assert psr.order.values.tolist() == [2, 6, 10]
    np.testing.assert_allclose(psr["depth"], [0.2, 0.6, 1.0])
    assert psr.image.values.tolist() == list(range(20))


def _own(model, x, y, *, generator):
    return 1 - x
