"""Image-by-image kernels, slice by slice, against the product of the centred activations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny import seeded
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.probing.kernels import SliceStore, completed, leave_out, plan, recentred
from netprobe.probing.observables import Observation
from netprobe.sites import Site, find_sites

IMAGES, CONDITIONS = 9, 3
DOUBLE = torch.float64


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    """Of 60, 24 and 5 units."""
    model = seeded(nn.Sequential, nn.Conv2d(3, 5, 2), nn.Flatten(), nn.Linear(60, 24), nn.Linear(24, 5))
    return [s for s in find_sites(model, torch.rand(1, 3, 5, 4)) if s.name in "023"]


def spans(groups: list) -> list[list[tuple[str, int, int]]]:
    return [[(part.site.name, part.start, part.stop) for part in group] for group in groups]


def test_plan_by_hand(sites):
    # one unit is 4 bytes * 9 images * 3 conditions = 108; 40 units a pass
    assert spans(plan(sites, IMAGES, CONDITIONS, 40 * 108 + 107, torch.float32)) == [
        [("0", 0, 40)],
        [("0", 40, 60), ("2", 0, 20)],
        [("2", 20, 24), ("3", 0, 5)],
    ]
    assert spans(plan(sites, IMAGES, CONDITIONS, 10**6, torch.float32)) == [[("0", 0, 60), ("2", 0, 24), ("3", 0, 5)]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 7, 24, 60, 61, 1000])
def test_plan_covers_every_unit_once_within_the_budget(sites, width, dtype):
    need = dtype.itemsize * IMAGES * CONDITIONS
    groups = plan(sites, IMAGES, CONDITIONS, width * need, dtype)
    for group in groups:
        assert sum(part.stop - part.start for part in group) <= width
        assert len({part.site.name for part in group}) == len(group)
    for site in sites:
        parts = [part for group in groups for part in group if part.site == site]
        assert [u for part in parts for u in range(part.start, part.stop)] == list(range(site.units))


def test_a_budget_below_one_unit_is_an_error(sites):
    with pytest.raises(NetprobeError, match=r"memory=107 bytes is below the 108 .* raise it"):
        plan(sites, IMAGES, CONDITIONS, 107, torch.float32)
    assert plan([], IMAGES, CONDITIONS, 107, torch.float32) == []


def activations(site: Site, dtype: torch.dtype = DOUBLE) -> Tensor:
    """(condition, image, unit...), around 1000."""
    rng = np.random.default_rng(0)
    return torch.tensor(1000 + rng.normal(size=(CONDITIONS, IMAGES, *site.shape)), dtype=dtype)


def kernels_of(site: Site, tensor: Tensor, width: int, batch: int) -> dict[tuple[int, int], Tensor]:
    pairs = [(0, 0), (0, 2), (1, 1), (2, 2)]
    kernels = {pair: torch.zeros(IMAGES, IMAGES, dtype=DOUBLE) for pair in pairs}
    for (part,) in plan([site], IMAGES, CONDITIONS, width * 8 * IMAGES * CONDITIONS, DOUBLE):
        store = SliceStore(part, IMAGES, CONDITIONS, "cpu", tensor.dtype)
        for first in range(0, IMAGES, batch):
            x = tensor[:, first : first + batch]
            store.update(
                Observation(site, x.flatten(0, 1), torch.arange(IMAGES)[first : first + batch], CONDITIONS), first
            )
        store.add_to(kernels)
    return completed(kernels)


@pytest.mark.parametrize(("width", "batch"), [(1000, 9), (7, 4), (1, 1)])
@pytest.mark.parametrize("which", [0, 1])
def test_kernels_are_products_of_centred_activations(sites, which, width, batch):
    tensor = activations(sites[which])
    flat = tensor.flatten(2).numpy()
    centred = flat - flat.mean(1, keepdims=True)
    found = kernels_of(sites[which], tensor, width, batch)
    assert found.keys() == {(0, 0), (0, 2), (1, 1), (2, 2)}
    for (i, j), kernel in found.items():
        # at 1000, a rounding of 1e-13 in every unit of size one
        np.testing.assert_allclose(kernel, centred[i] @ centred[j].T, rtol=1e-10, atol=1e-10)


def test_chunks_of_units(sites, monkeypatch):
    tensor = activations(sites[0])
    expected = kernels_of(sites[0], tensor, 1000, 9)
    monkeypatch.setattr("netprobe.probing.kernels.CHUNK", 1)
    torch.testing.assert_close(kernels_of(sites[0], tensor, 1000, 9), expected, rtol=1e-10, atol=1e-10)


def test_recentred_kernel_is_that_of_the_centred_rows():
    x = np.random.default_rng(0).normal(size=(7, 4)) + 3
    centred = x - x.mean(0)
    np.testing.assert_allclose(recentred(torch.tensor(x @ x.T)), centred @ centred.T, atol=1e-12)


@pytest.mark.parametrize("images", [3, 8, 20, 100])
def test_leaving_out_blocks_drops_every_image_once(images):
    kept = leave_out(images)
    dropped = [np.setdiff1d(np.arange(images), k) for k in kept]
    np.testing.assert_array_equal(np.concatenate(dropped), np.arange(images))
    assert all(d.size and (np.diff(d) == 1).all() for d in dropped)  # runs of neighbours
    assert len(kept) <= 8


def test_a_site_of_one_number_an_image(sites):
    site = dataclasses.replace(sites[2], shape=(), channel_axis=0)
    tensor = activations(site)
    centred = tensor - tensor.mean(1, keepdim=True)
    torch.testing.assert_close(kernels_of(site, tensor, 1, 4)[0, 2], torch.outer(centred[0], centred[2]))
