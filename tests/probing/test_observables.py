"""What is accumulated at a site, against loops over images, locations and channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from netprobe.probing import reductions, streaming
from netprobe.probing.observables import ConditionMoments, Layout, LocationHoyer, Norms, Observable, Observation
from netprobe.sites import Site
from netprobe.uncertainty import BLOCKS

IMAGES, CONDITIONS = 11, 3
LAYOUTS = {
    "vector": ((6,), 1),
    "map": ((4, 3, 2), 1),
    "last": ((3, 2, 4), 3),
    "tokens": ((5, 4), 2),
    "wave": ((4, 5), 1),
    "scalar": ((), 0),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def site(layout: str) -> Site:
    shape, channel_axis = LAYOUTS[layout]
    return Site(
        name="here", module="here", call=0, where="output", part=(), kind="Layer", shape=shape, batch_axis=0,
        channel_axis=channel_axis, order=0, parameters=0, macs=0, leaf=True, lineage=frozenset(),
    )  # fmt: skip


def activations(layout: str, at: float = 1000.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """(condition, image, ...), around `at` and drifting over images; perturbed ones nearby, some entries zero."""
    shape = LAYOUTS[layout][0]
    rng = np.random.default_rng(0)
    clean = at + rng.normal(size=(IMAGES, *shape)) + np.linspace(0, 5, IMAGES).reshape(-1, *[1] * len(shape))
    noise = rng.normal(size=(CONDITIONS, IMAGES, *shape)) * np.arange(CONDITIONS).reshape(-1, *[1] * (len(shape) + 1))
    return torch.tensor((clean + 0.1 * noise) * (rng.random((IMAGES, *shape)) > 0.3), dtype=dtype)


def observations(tensor: Tensor, layout: str, batches: list[list[int]]) -> Iterator[Observation]:
    """One observation a batch of images, conditions one after the other, as in a pass."""
    for batch in batches:
        yield Observation(site(layout), tensor[:, batch].flatten(0, 1), torch.tensor(batch), CONDITIONS)


def rows_of(tensor: Tensor, layout: str) -> np.ndarray:
    """(condition, image, location, channel), by moving the channels last."""
    values = tensor.double().numpy()
    if values.ndim == 2:
        return values[..., None, None]
    values = np.moveaxis(values, LAYOUTS[layout][1] + 1, -1)
    return values.reshape(CONDITIONS, IMAGES, -1, values.shape[-1])


BATCHINGS = {
    "whole": [list(range(IMAGES))],
    "single": [[i] for i in range(IMAGES)],
    "uneven": [[0, 1, 2, 3], [4], [5, 6, 7], [8, 9, 10]],
    "shuffled": [[7, 2], [0, 10, 5], [1], [9, 3, 8, 4, 6]],
}

OBSERVABLES: dict[str, Callable[[], Observable]] = {
    "norms": Norms,
    "norm 2": lambda: Norms(("2",)),
    "norms inf 1": lambda: Norms(("inf", "1")),
    "hoyer": LocationHoyer,
    "channel": ConditionMoments,
    "pooled": lambda: ConditionMoments("pooled"),
    "channel blocks": lambda: ConditionMoments("channel", 2),
    "pooled blocks": lambda: ConditionMoments("pooled", 4),
}
every_observable = pytest.mark.parametrize("make", OBSERVABLES.values(), ids=OBSERVABLES)


def fed(make: Callable[[], Observable], tensor: Tensor, layout: str, batches: list[list[int]]) -> Observable:
    observable = make()
    for observation in observations(tensor, layout, batches):
        observable.update(observation)
    return observable


def numbers(observable: Observable) -> dict[str, np.ndarray]:
    """All that can be read from an observable."""
    if not isinstance(observable, ConditionMoments):
        images, values = observable.table.read()
        return {"images": images, "values": values}
    found = {}
    for condition in range(CONDITIONS):
        for name, m in enumerate([observable.moments(condition), *observable.jackknife(condition)]):
            found |= {f"{condition} {name} mean": m.mean, f"{condition} {name} covariance": m.covariance}
            found[f"{condition} {name} count"] = m.count
    return {name: np.asarray(value) for name, value in found.items()}


def assert_numbers(found: Observable, expected: Observable, rtol: float) -> None:
    one, other = numbers(found), numbers(expected)
    assert one.keys() == other.keys()
    for name, value in other.items():
        finite = np.abs(value[np.isfinite(value)])
        atol = rtol * finite.max() if finite.size else 0
        np.testing.assert_allclose(one[name], value, rtol=rtol, atol=atol, err_msg=name)


# ------------------------------------------------------------------------------------------------- laws


@every_observable
@every_layout
@pytest.mark.parametrize("batching", list(BATCHINGS)[1:])
def test_any_batching_and_order(make, layout, batching):
    """At 1000 and drifting. 1e-10: float64 rounding times the square of 1000 over the spread."""
    tensor = activations(layout)
    expected = fed(make, tensor, layout, BATCHINGS["whole"])
    assert_numbers(fed(make, tensor, layout, BATCHINGS[batching]), expected, 1e-10)


@every_observable
@every_layout
def test_merging_parts_is_one_pass(make, layout):
    tensor = activations(layout)
    parts = [fed(make, tensor, layout, [batch]) for batch in BATCHINGS["shuffled"]]
    total = make()
    for part in (make(), *parts, make()):  # empty parts change nothing
        total.merge(part)
    assert_numbers(total, fed(make, tensor, layout, BATCHINGS["whole"]), 1e-10)


@every_observable
def test_going_on_from_a_stored_state_is_exact(make):
    tensor, batches = activations("map"), BATCHINGS["uneven"]
    stored, resumed = fed(make, tensor, "map", batches[:2]), make()
    resumed.restore(stored.state())
    for observation in observations(tensor, "map", batches[2:]):
        resumed.update(observation)
    assert_numbers(resumed, fed(make, tensor, "map", batches), 0)


@every_observable
def test_an_empty_state_can_be_stored(make):
    empty, tensor = make(), activations("map")
    empty.restore(make().state())
    empty.merge(fed(make, tensor, "map", BATCHINGS["whole"]))
    assert_numbers(empty, fed(make, tensor, "map", BATCHINGS["whole"]), 0)


@every_observable
@every_layout
def test_float32_agrees_with_float64(make, layout):
    """1e-5: a hundred roundings of float32; data around zero, since at 1000 float32 itself is off by 6e-5."""
    single = activations(layout, at=0.0, dtype=torch.float32)
    found, expected = (fed(make, t, layout, BATCHINGS["uneven"]) for t in (single, single.double()))
    assert_numbers(found, expected, 1e-5)


@every_observable
def test_any_memory_format(make):
    tensor = activations("map", at=0.0)
    strided = Observation(
        site("map"),
        tensor.flatten(0, 1).contiguous(memory_format=torch.channels_last),
        torch.arange(IMAGES),
        CONDITIONS,
    )
    observable = make()
    observable.update(strided)
    assert_numbers(observable, fed(make, tensor, "map", BATCHINGS["whole"]), 1e-12)


@every_observable
@pytest.mark.parametrize("chunk", [1, 30])
def test_images_are_taken_a_chunk_at_a_time(make, monkeypatch, chunk):
    tensor = activations("map")
    expected = fed(make, tensor, "map", BATCHINGS["whole"])
    monkeypatch.setattr(reductions, "CHUNK", chunk)
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    assert_numbers(fed(make, tensor, "map", BATCHINGS["whole"]), expected, 1e-10)


@every_observable
def test_the_models_tensor_is_not_written_to(make):
    tensor = activations("map")
    before = tensor.clone()
    observation = Observation(site("map"), tensor.flatten(0, 1), torch.arange(IMAGES), CONDITIONS)
    make().update(observation)
    torch.testing.assert_close(tensor, before, rtol=0, atol=0)


@pytest.mark.parametrize("make", [OBSERVABLES[name] for name in ("channel", "pooled", "channel blocks")])
def test_moments_do_not_grow_with_the_images(make):
    tensor = activations("map")
    once = fed(make, tensor, "map", BATCHINGS["whole"])
    often = fed(make, tensor, "map", BATCHINGS["whole"] * 20)

    def numel(observable: Observable) -> int:
        return sum(t.numel() for state in observable.state().values() for t in state.values())

    assert numel(often) == numel(once)


# ------------------------------------------------------------------------------------------- references


@every_layout
def test_norms_of_the_clean_tensor_and_of_the_differences(layout):
    tensor = activations(layout)
    _, values = fed(Norms, tensor, layout, BATCHINGS["uneven"]).table.read()
    for image in range(IMAGES):
        clean = tensor[0, image].numpy().ravel()
        for condition in range(CONDITIONS):
            what = clean if condition == 0 else tensor[condition, image].numpy().ravel() - clean
            expected = [np.abs(what).sum(), np.sqrt((what**2).sum()), np.abs(what).max()]
            np.testing.assert_allclose(values[image, condition], expected, rtol=1e-12)


def test_norms_in_the_order_asked_for():
    tensor = activations("map")
    _, every = fed(Norms, tensor, "map", BATCHINGS["whole"]).table.read()
    _, some = fed(lambda: Norms(("inf", "1")), tensor, "map", BATCHINGS["whole"]).table.read()
    np.testing.assert_allclose(some, every[..., [2, 0]], rtol=1e-15)


def hoyer_of(a: np.ndarray) -> float:
    """((||a||_1 / ||a||_2)^2 - 1) / (C - 1) of one location."""
    return ((sum(abs(a)) / np.sqrt(sum(a**2))) ** 2 - 1) / (len(a) - 1)


@every_layout
def test_hoyer_location_by_location(layout):
    tensor = activations(layout, at=0.0)
    tensor[:, 3] = 0  # a silent image
    rows = rows_of(tensor, layout)
    _, values = fed(LocationHoyer, tensor, layout, BATCHINGS["uneven"]).table.read()
    for image in range(IMAGES):
        for condition in range(CONDITIONS):
            locations = rows[condition, image]
            silent = [not a.any() for a in locations]
            heard = [hoyer_of(a) for a, quiet in zip(locations, silent, strict=True) if not quiet and len(a) > 1]
            np.testing.assert_allclose(values[image, condition, 0], np.mean(heard) if heard else np.nan, rtol=1e-12)
            assert values[image, condition, 1] == pytest.approx(np.mean(silent))


def test_hoyer_of_known_vectors():
    # one channel of four: 0; all equal in size: 1; two equal: ((2/sqrt 2)^2 - 1) / 3 = 1/3
    locations = torch.tensor([[0.0, 5, 0, 0], [2, -2, 2, -2], [0, 3, 0, -3], [0, 0, 0, 0]]).T
    observable = LocationHoyer()
    observable.update(Observation(site("wave"), locations[None], torch.tensor([0]), 1))
    values = observable.table.read()[1][0, 0]
    assert values.tolist() == [pytest.approx((0 + 1 + 1 / 3) / 3), 0.25]


@every_layout
@pytest.mark.parametrize("block", [0, 2, 4])
def test_moments_of_channels_and_of_their_means(layout, block):
    tensor = activations(layout)
    rows = rows_of(tensor, layout)
    for unit, observed in (("channel", rows), ("pooled", rows.mean(2, keepdims=True))):
        found = fed(lambda u=unit: ConditionMoments(u, block), tensor, layout, BATCHINGS["shuffled"])
        for condition in range(CONDITIONS):
            every = observed[condition]
            kept = [np.arange(IMAGES)]
            if block:
                kept += [np.delete(kept[0], slice(s, s + block)) for s in range(0, IMAGES, block)]
            moments = [found.moments(condition), *found.jackknife(condition)]
            assert len(moments) == len(kept)
            for m, images in zip(moments, kept, strict=True):
                expected = np.cov(every[images].reshape(-1, every.shape[-1]), rowvar=False).reshape(m.size, m.size)
                np.testing.assert_allclose(m.covariance, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def test_the_only_block_leaves_nothing():
    found = fed(lambda: ConditionMoments("channel", 100), activations("map"), "map", BATCHINGS["uneven"])
    (left,) = found.jackknife(1)
    assert left.count == 0 and left.covariance.isnan().all()


@pytest.mark.parametrize("images", [1, 7, 8, 9, 20, 1000])
def test_layouts_have_at_most_eight_blocks(images):
    block = Layout.blocked(images).block
    assert -(-images // block) <= BLOCKS
    assert (images - 1) // block + 1 >= min(images, BLOCKS) / 2  # and not many fewer
