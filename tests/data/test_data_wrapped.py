"""torch Datasets and DataLoaders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from netprobe.data import load
from netprobe.errors import NetprobeError

X = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 3, 4, 5), np.uint8))
Y = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0])


class Items(Dataset):
    """A map-style data set of whatever `x` and `y` hold; it counts what is asked of it."""

    def __init__(self, x: Any = X, y: Any = Y) -> None:
        self.x, self.y, self.asked = x, y, []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple:
        self.asked.append(i)
        return self.x[i], self.y[i]


class Known(Items):
    """One that knows its labels, as torchvision's do."""

    classes = ("ant", "bee", "cow")
    targets = Y.tolist()


def pictures() -> list[Image.Image]:
    return [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in X]


@pytest.fixture
def expected() -> str:
    return load((X, Y)).hash


def test_datasets_hold_what_their_items_hold(expected: str) -> None:
    assert load(Items()).hash == expected
    assert load(TensorDataset(X, Y)).hash == expected
    assert load(Items(X.float() / 255, Y.tolist())).hash == expected
    assert load(Items(X.numpy(), Y.numpy())).hash == expected
    assert load(Items(pictures(), Y.tolist())).hash == expected
    assert load(Items()).name == "Items"


def test_grey_pictures_have_one_channel() -> None:
    grey = [picture.convert("L") for picture in pictures()]
    assert load(Items(grey)).shape == (1, 4, 5)


def test_many_batches_are_put_together(expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netprobe.data.wrapped.READ_AT_ONCE", 2)
    assert load(Items()).hash == expected


def test_known_labels_save_reading() -> None:
    dataset = Known()
    data = load(dataset, limit=3, seed=2)
    whole = load(Known())
    assert data.hash == whole.take(3, seed=2).hash
    assert len(dataset.asked) == 3
    assert data.classes == ("ant", "bee", "cow")
    assert load(Items(), limit=3, seed=2).labels.tolist() == data.labels.tolist()


def test_subsets_know_the_labels_of_what_they_are_part_of() -> None:
    dataset = Known()
    part = [8, 1, 2, 5]
    data = load(Subset(Subset(dataset, part), [1, 2, 3]), limit=2)
    assert len(dataset.asked) == 2
    assert data.classes == ("ant", "bee", "cow")
    assert load(Subset(dataset, part)).hash == load(Known()).select(part).hash


def test_transformed_targets_are_read_from_the_items() -> None:
    dataset = Known(y=2 - Y)
    dataset.target_transform = lambda y: 2 - y
    assert load(dataset).labels.tolist() == (2 - Y).tolist()


def test_targets_that_lie_are_found() -> None:
    with pytest.raises(NetprobeError, match=r"Known\.targets disagrees"):
        load(Known(y=2 - Y))


@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"batch_size": 4, "drop_last": True}, {"shuffle": True}])
def test_loaders_are_read_once_in_the_order_of_the_dataset(options: dict, expected: str) -> None:
    assert load(DataLoader(Items(), **options)).hash == expected
    assert load(DataLoader(TensorDataset(X, Y), **options)).hash == expected


def test_loaders_keep_their_collate_function() -> None:
    def halves(items: list) -> tuple:
        xs, ys = zip(*items, strict=True)
        return torch.stack(xs) / 255 / 2, torch.tensor(ys)

    assert torch.allclose(load(DataLoader(Items(), collate_fn=halves)).inputs, X / 510)


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": RandomSampler(range(9), replacement=True)},
        {"sampler": WeightedRandomSampler([1.0] * 9, 9)},
        {"batch_sampler": [[0, 1], [5]]},
        {"sampler": [3, 4]},
        {"batch_size": None},
    ],
)
def test_loaders_that_choose_are_errors(options: dict) -> None:
    with pytest.raises(NetprobeError, match="sampler of its own"):
        load(DataLoader(Items(), **options))


def test_the_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    load(Items())
    load(DataLoader(Items(), shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple]:
        return iter(zip(X, Y, strict=True))


def test_streams_are_read_to_their_end(expected: str) -> None:
    assert load(Stream()).hash == expected
    assert load(DataLoader(Stream(), batch_size=2)).hash == expected
    assert len(load(Stream(), limit=3)) == 3


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Items(X.float() / 255 * 4 - 2), "if they were normalised, undo it"),
        (Items([torch.zeros(3, 4, 5), torch.zeros(3, 5, 4)]), "items differ in shape"),
        (Items([torch.zeros(3, 4, 5)] * 2 + [torch.zeros(3, 5, 4)]), "items differ in shape"),
        (Items(X, Y.float()), "labels must be integers"),
        (Items(X.permute(0, 2, 3, 1)), "say which with layout="),
        (TensorDataset(X), r"must give pairs \(x, y\)"),
        (TensorDataset(X, Y, Y), r"must give pairs \(x, y\)"),
        (Items(X[:0]), "no items"),
    ],
)
def test_unfit_items_name_the_remedy(dataset: Dataset, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netprobe.data.wrapped.READ_AT_ONCE", 2)
    with pytest.raises(NetprobeError, match=message):
        load(dataset)


def test_layout_and_names_can_be_given() -> None:
    data = load(Items(X.permute(0, 2, 3, 1)), layout="NHWC", classes=["a", "b", "c"], name="mine")
    assert (data.shape, data.name, data.classes) == ((3, 4, 5), "mine", ("a", "b", "c"))
