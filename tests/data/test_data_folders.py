"""Folders of images: order, splits, sizes, modes, and what is wrong with a broken one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from netprobe.data import images, load
from netprobe.errors import MissingData, NetprobeError

Write = Callable[..., np.ndarray]


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_equal_those_of_torchvision(image_folder: Path, split: str) -> None:
    data = load(image_folder, split)
    theirs = ImageFolder(image_folder / split, transform=pil_to_tensor)
    assert data.classes == tuple(theirs.classes) == ("cat", "dog", "emu")
    assert data.labels.tolist() == theirs.targets
    assert torch.equal(data.stored, torch.stack([x for x, _ in theirs]))
    assert (data.name, data.split, data.shape) == ("pets", split, (3, 5, 7))


def test_threads_change_nothing(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = load(image_folder).hash
    monkeypatch.setattr(images, "WORTH_A_THREAD", 0)
    assert load(image_folder).hash == alone


def test_the_held_out_part_is_the_default(image_folder: Path) -> None:
    assert load(image_folder).hash == load(str(image_folder), "test").hash


def test_a_bare_name_is_looked_for_in_the_data_root(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("pets", root=image_folder.parent).hash == load(image_folder).hash
    monkeypatch.setenv("NETPROBE_DATA", str(image_folder.parent))
    assert load("pets").name == "pets"


def test_only_the_images_kept_are_read(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(image_folder, "test")
    read = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda file, *rest: read.append(file) or decode(file, *rest))
    few = load(image_folder, "test", limit=6, seed=2)
    assert few.hash == whole.take(6, seed=2).hash
    assert torch.bincount(few.labels).tolist() == [1, 2, 3]
    assert len(set(read)) == 6


def test_a_limit_above_the_number_of_images_names_it(image_folder: Path) -> None:
    with pytest.raises(NetprobeError, match="there are 12 samples"):
        load(image_folder, "test", limit=13)


def test_order_does_not_depend_on_that_of_the_file_system(image_folder: Path, write_image: Write) -> None:
    write_image(image_folder / "test" / "cat" / "10.png")
    write_image(image_folder / "test" / "cat" / "00.PNG")  # written last, sorted first; suffixes in any case
    data = load(image_folder, "test")
    expected = [
        np.asarray(Image.open(image_folder / "test" / "cat" / f)) for f in ("0.png", "00.PNG", "1.png", "10.png")
    ]
    assert [x.permute(1, 2, 0).tolist() for x in data.stored[:4]] == [x.tolist() for x in expected]


def test_a_class_missing_from_one_part_does_not_shift_the_others(image_folder: Path, write_image: Write) -> None:
    write_image(image_folder / "train" / "ant" / "0.png")
    data = load(image_folder, "test")
    assert data.classes == ("ant", "cat", "dog", "emu")
    assert torch.bincount(data.labels).tolist() == [0, 2, 4, 6]


def test_classes_set_the_order(image_folder: Path) -> None:
    data = load(image_folder, "test", classes=("emu", "cat", "dog"))
    assert data.classes == ("emu", "cat", "dog")
    assert torch.bincount(data.labels).tolist() == [6, 2, 4]
    with pytest.raises(NetprobeError, match=r"not named: \['emu'\], not there: \['cow'\]"):
        load(image_folder, "test", classes=("cat", "dog", "cow"))


@pytest.mark.parametrize("spelling", ["val", "valid", "validation", "test", None])
def test_the_validation_part_has_many_names(image_folder: Path, spelling: str | None) -> None:
    (image_folder / "test").rename(image_folder / "val")
    assert load(image_folder, spelling).split == "val"


def test_validation_is_not_the_test_part(image_folder: Path) -> None:
    with pytest.raises(NetprobeError, match=r"unknown split of pets 'val'.*valid choices: train, test"):
        load(image_folder, "val")


@pytest.mark.parametrize("split", [None, "all"])
def test_a_folder_without_parts_is_read_whole(image_folder: Path, split: str | None) -> None:
    data = load(image_folder / "train", split)
    assert (data.name, data.split, len(data)) == ("train", "all", 9)


def test_a_folder_without_parts_has_no_test_part(image_folder: Path) -> None:
    with pytest.raises(NetprobeError, match="no train and test parts: leave split out, or pass 'all'"):
        load(image_folder / "train", "test")


def test_a_class_called_train_is_a_class(tmp_path: Path, write_image: Write) -> None:
    for name in ("bus", "train"):
        write_image(tmp_path / "vehicles" / name / "0.png")
    assert load(tmp_path / "vehicles").classes == ("bus", "train")


def test_other_files_are_ignored_aloud(image_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (image_folder / "test" / "cat" / "labels.txt").write_text("cat")
    (image_folder / "test" / "cat" / ".DS_Store").write_text("")
    (image_folder / "test" / ".cache").mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(load(image_folder, "test")) == 12
    assert "1 of other types ignored, such as labels.txt" in caplog.text


def test_mixed_sizes_need_a_size(image_folder: Path, write_image: Write) -> None:
    write_image(image_folder / "test" / "emu" / "wide.png", height=4, width=9)
    with pytest.raises(NetprobeError, match=r"differ in size: .*0\.png is 5×7, .*wide\.png is 4×9.*size=5"):
        load(image_folder, "test")
    assert load(image_folder, "test", size=6).shape == (3, 6, 6)
    assert load(image_folder, "test", size=(3, 4)).shape == (3, 3, 4)


def test_resizing_crops_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = np.random.default_rng(0).integers(0, 256, (4, 4, 3))
    (tmp_path / "set" / "a").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "set" / "a" / "0.png")
    data = load(tmp_path / "set", size=4)
    assert torch.equal(data.stored[0], torch.from_numpy(pixels[:, 2:6]).permute(2, 0, 1))


def test_an_image_of_the_wanted_size_is_untouched(image_folder: Path) -> None:
    assert load(image_folder, size=(5, 7)).hash == load(image_folder).hash


@pytest.mark.parametrize("size", [0, -2, 2.5, (3, 4, 5), (3, 0)])
def test_a_size_must_be_pixels(image_folder: Path, size: object) -> None:
    with pytest.raises(NetprobeError, match="size"):
        load(image_folder, size=size)


def test_grey_images_have_the_channels_asked_for(tmp_path: Path, write_image: Write) -> None:
    pixels = torch.from_numpy(write_image(tmp_path / "set" / "a" / "0.png", channels=None))
    assert torch.equal(load(tmp_path / "set", channels=1).stored[0, 0], pixels)
    assert torch.equal(load(tmp_path / "set").stored[0], pixels.expand(3, 5, 7))
    with pytest.raises(NetprobeError, match="channels must be 3"):
        load(tmp_path / "set", channels=4)


def test_grey_of_colour_is_pillows(tmp_path: Path, write_image: Write) -> None:
    write_image(tmp_path / "set" / "a" / "0.png", height=40, width=50)
    grey = load(tmp_path / "set", channels=1)
    wanted = np.asarray(Image.open(tmp_path / "set" / "a" / "0.png").convert("L"))
    assert np.array_equal(grey.stored[0, 0].numpy(), wanted)
    floats = load((load(tmp_path / "set").inputs, np.zeros(1, int)), channels=1)
    assert np.abs(floats.stored[0, 0].numpy() * 255 - wanted).max() < 0.501  # Pillow rounds


def test_channels_of_sets_that_are_not_folders() -> None:
    assert load("digits", limit=10, channels=3).shape == (3, 8, 8)
    with pytest.raises(NetprobeError, match="no channels of colour"):
        load((torch.zeros(2, 100), torch.zeros(2, dtype=torch.int64)), channels=1)


def test_deep_images_are_not_clipped(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    Image.fromarray(np.full((3, 4), 1000, np.uint16)).save(tmp_path / "set" / "a" / "0.png")
    with pytest.raises(NetprobeError, match=r"0\.png: pixels of mode I;16 have more than 8 bits"):
        load(tmp_path / "set")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0, 10, 0.5])
def test_a_truncated_image_is_named(tmp_path: Path, write_image: Write, suffix: str, kept: float) -> None:
    for name in ("0", "1"):
        write_image(tmp_path / "set" / "a" / f"{name}.{suffix}", height=32, width=32)
    file = tmp_path / "set" / "a" / f"1.{suffix}"
    whole = file.read_bytes()
    file.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(MissingData, match=rf"1\.{suffix} is damaged"):
        load(tmp_path / "set")


def test_a_class_folder_without_images_is_an_error(image_folder: Path) -> None:
    (image_folder / "test" / "fox").mkdir()
    with pytest.raises(MissingData, match=r"class folder .*fox has no \.jpg"):
        load(image_folder)


def test_images_outside_class_folders_are_no_set(tmp_path: Path, write_image: Write) -> None:
    write_image(tmp_path / "loose" / "0.png")
    with pytest.raises(MissingData, match=r"no images and no recordings .*FOLDER/CLASS/FILE"):
        load(tmp_path / "loose")


@pytest.mark.parametrize("what", ["./nowhere", "", "..", "/nowhere/at/all.npz"])
def test_a_path_that_is_not_there_says_where_it_looked(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingData, match=r"there is no|no images"):
        load(what, root=tmp_path)


def test_options_that_do_not_apply_are_errors(image_folder: Path) -> None:
    with pytest.raises(NetprobeError, match=r"length= does not apply to '.*pets'; what does: .*size"):
        load(image_folder, length=3)
    with pytest.raises(NetprobeError, match="download= does not apply"):
        load(image_folder, download=True)
    with pytest.raises(TypeError, match="sise"):
        load(image_folder, sise=3)
