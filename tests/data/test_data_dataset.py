"""Laws of `Data`: batches, selections, copies, and what the hash sees."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from netprobe.data import Data, load
from netprobe.errors import NetprobeError


def images(dtype: torch.dtype = torch.uint8) -> Data:
    """Eleven images (3, 4, 5), every byte value among them."""
    stored = (torch.arange(11 * 60) % 256).to(torch.uint8).reshape(11, 3, 4, 5)
    if dtype == torch.float32:
        stored = torch.from_numpy(stored.numpy().astype(np.float32) / np.float32(255))
    return Data(stored, torch.arange(11) % 3, ("ant", "bee", "cow"), "toy", "test")


def waves(dtype: torch.dtype = torch.int16) -> Data:
    """Seven waveforms of 9 samples that reach both ends of the scale."""
    stored = torch.linspace(-32768, 32767, 63).to(torch.int16).reshape(7, 9)
    if dtype == torch.float32:
        stored = stored.to(torch.float32) / 32768
    return Data(stored, torch.arange(7) % 2, ("no", "yes"), "words", "all", 8000)


SETS = pytest.mark.parametrize(
    "data",
    [images(), images(torch.float32), waves(), waves(torch.float32)],
    ids=["u8", "f32", "i16", "wave-f32"],
)


@SETS
@pytest.mark.parametrize("batch_size", [1, 2, 3, 11, 500])
def test_batches_of_any_size_make_up_the_whole(data: Data, batch_size: int) -> None:
    batches = list(data.batches(batch_size))
    assert len(batches) == len(data.batches(batch_size))
    assert all(len(b.x) == len(b.y) == len(b.index) <= batch_size for b in batches)
    assert torch.equal(torch.cat([b.x for b in batches]), data.inputs)
    assert torch.equal(torch.cat([b.y for b in batches]), data.labels)
    assert torch.equal(torch.cat([b.index for b in batches]), torch.arange(len(data)))


def test_batches_can_be_passed_over_twice() -> None:
    batches = images().batches(4)
    assert all(torch.equal(a.x, b.x) for a, b in zip(batches, batches, strict=True))


@SETS
def test_inputs_are_float32_in_range(data: Data) -> None:
    low = 0 if data.kind == "image" else -1
    assert data.inputs.dtype == torch.float32
    assert low <= data.inputs.min() < data.inputs.max() <= 1


def test_bytes_are_divided_by_255_correctly_rounded() -> None:
    data = Data(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16), torch.zeros(1).long(), ("a",), "ramp")
    assert np.array_equal(data.inputs.numpy().ravel(), np.arange(256, dtype=np.float32) / np.float32(255))


@SETS
def test_what_is_handed_out_are_copies(data: Data) -> None:
    before = data.inputs.clone()
    data.inputs.zero_()
    for batch in data.batches(3):
        batch.x.fill_(0.5)
        batch.y.zero_()
        batch.index.zero_()
    data.select(range(len(data))).stored.zero_()
    assert torch.equal(data.inputs, before)
    assert data.labels.sum() > 0


@SETS
def test_batches_arrive_on_the_device(data: Data) -> None:
    batch = next(iter(data.batches(2, device="meta")))  # a device that every machine has
    assert (batch.x.device.type, batch.y.device.type, batch.index.device.type) == ("meta", "meta", "cpu")
    assert batch.x.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@SETS
def test_devices_give_the_same_bits(data: Data) -> None:
    for on_gpu, on_cpu in zip(data.batches(4, "cuda"), data.batches(4), strict=True):
        assert torch.equal(on_gpu.x.cpu(), on_cpu.x)


def test_the_source_type_is_kept() -> None:
    assert images().stored.dtype == torch.uint8
    assert images().select([0]).stored.dtype == torch.uint8
    assert waves().take(3).stored.dtype == torch.int16


@SETS
def test_select_and_its_inverse_are_a_round_trip(data: Data) -> None:
    order = torch.randperm(len(data))
    shuffled = data.select(order)
    assert torch.equal(shuffled.inputs, data.inputs[order])
    assert shuffled.hash != data.hash
    assert shuffled.select(order.argsort()).hash == data.hash
    assert (shuffled.name, shuffled.classes, shuffled.sample_rate) == (
        data.name,
        data.classes,
        data.sample_rate,
    )


def test_select_takes_masks_arrays_and_repeats() -> None:
    data = images()
    assert torch.equal(data.select(data.labels == 1).labels, torch.ones(4).long())
    assert data.select(np.array([10, 0, 0])).labels.tolist() == [1, 0, 0]
    assert data.select(torch.tensor([2], dtype=torch.uint8)).labels.tolist() == [2]


@pytest.mark.parametrize("indices", [[], [11], [-1], [0.5], [[0]], [True, False]])
def test_select_refuses_what_are_no_positions(indices: list) -> None:
    with pytest.raises(NetprobeError, match="from 0 to 10, or a mask of 11"):
        images().select(indices)


def test_take_is_stratified_and_keeps_the_order() -> None:
    data, taken = images(), images().take(6, seed=1)
    assert torch.bincount(taken.labels).tolist() == [2, 2, 2]
    first_pixels = taken.stored[:, 0, 0, 0].tolist()
    positions = [data.stored[:, 0, 0, 0].tolist().index(pixel) for pixel in first_pixels]
    assert positions == sorted(positions)
    with pytest.raises(NetprobeError, match="there are 11 samples"):
        data.take(12)


@pytest.mark.parametrize("batch_size", [0, -3, 1.5, None])
def test_a_batch_size_must_be_positive(batch_size: object) -> None:
    with pytest.raises(NetprobeError, match="batch_size"):
        images().batches(batch_size)


def test_the_hash_does_not_depend_on_storage_or_names() -> None:
    assert images().hash == images(torch.float32).hash
    assert waves().hash == waves(torch.float32).hash
    assert images().hash == replace(images(), name="other", split="train").hash


def test_the_hash_takes_negative_zero_for_zero() -> None:
    zeros = Data(torch.zeros(2, 1, 3, 4), torch.zeros(2).long(), ("a",), "zeros")
    assert zeros.hash == replace(zeros, stored=-zeros.stored).hash


def changed_pixel(data: Data) -> Data:
    stored = data.stored.clone()
    stored[-1, -1, -1, -1] += 1
    return replace(data, stored=stored)


CHANGES = {
    "pixel": changed_pixel,
    "label": lambda data: replace(data, labels=(data.labels + torch.eye(11).long()[4]) % 3),
    "class order": lambda data: replace(data, classes=data.classes[::-1]),
    "shape": lambda data: replace(data, stored=data.stored.reshape(11, 3, 5, 4)),
    "number": lambda data: data.select(range(10)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_changes_with_every(change: str) -> None:
    assert CHANGES[change](images()).hash != images().hash


def test_the_hash_is_that_of_the_definition() -> None:
    import hashlib

    data = images()
    definition = hashlib.sha256(json.dumps([[11, 3, 4, 5], ["ant", "bee", "cow"]]).encode())
    definition.update((data.stored.numpy() / np.float32(255)).astype("<f4").tobytes())
    definition.update(data.labels.numpy().astype("<i8").tobytes())
    assert data.hash == definition.hexdigest()


def test_the_hash_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = images().hash
    monkeypatch.setattr("netprobe.data.dataset.HASHED_AT_ONCE", 61)
    assert images().hash == whole


def test_data_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        images().name = "cifar10"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stored": torch.zeros(11, 3, 4, 5, dtype=torch.float64)}, "float32"),
        ({"stored": torch.zeros(11, 4, 5)}, r"\(N, C, H, W\)"),
        ({"stored": torch.zeros(0, 3, 4, 5), "labels": torch.zeros(0).long()}, "at least one"),
        ({"labels": torch.zeros(10).long()}, r"labels of shape \(11,\)"),
        ({"labels": torch.zeros(11)}, "int64"),
        ({"labels": torch.full((11,), 3)}, r"in 0\.\.2 \(3 classes\), these lie in 3\.\.3"),
        ({"labels": torch.full((11,), -1)}, r"these lie in -1\.\.-1"),
    ],
)
def test_contradictions_are_errors(wrong: dict, message: str) -> None:
    with pytest.raises(NetprobeError, match=message):
        replace(images(), **wrong)


def test_it_describes_itself() -> None:
    data = images()
    assert json.loads(json.dumps(data.describe())) == {
        "name": "toy",
        "split": "test",
        "kind": "image",
        "samples": 11,
        "shape": [3, 4, 5],
        "num_classes": 3,
        "sample_rate": None,
        "hash": data.hash,
    }
    assert repr(data) == f"Data('toy', split='test': 11 images of 3×4×5, 3 classes, hash {data.hash[:8]})"
    assert "7 waveforms of 9" in repr(waves())
    assert "8000" in waves()._repr_html_()


def test_html_is_escaped() -> None:
    html = replace(images(), name="<script>", classes=("a", "b", "<img src=x>"))._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "<img" not in html


def test_loaded_data_can_be_loaded_again() -> None:
    data = images()
    assert load(data) is data
    assert load(data, "test", limit=6, seed=1).hash == data.take(6, seed=1).hash
    with pytest.raises(NetprobeError, match="split 'test' of toy, not 'train'"):
        load(data, "train")
    with pytest.raises(NetprobeError, match="size cannot apply"):
        load(data, size=3)
