"""Arrays, tensors and their files: layouts, scales, labels, keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netprobe.data import load
from netprobe.errors import MissingData, NetprobeError

Y = np.array([0, 1, 2, 1, 0, 2])


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


NCHW = pixels(6, 3, 4, 5)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_a_pair_is_a_set(kind: Any) -> None:
    data = load((kind(NCHW), kind(Y)))
    assert (data.name, data.split, data.classes) == ("arrays", "all", ("0", "1", "2"))
    assert torch.equal(data.stored, torch.from_numpy(NCHW))
    assert data.labels.tolist() == Y.tolist()


def test_bytes_and_floats_of_the_same_values_are_the_same_data() -> None:
    x = NCHW.astype(np.float64) / 255
    hashes = {load((a, Y)).hash for a in (NCHW, x, x.astype(np.float32), torch.from_numpy(x))}
    assert len(hashes) == 1


@pytest.mark.parametrize("x", [torch.from_numpy(NCHW), torch.rand(6, 3, 4, 5), torch.rand(6, 9)])
def test_the_callers_tensor_stays_the_callers(x: torch.Tensor) -> None:
    y = torch.from_numpy(Y.copy())
    data = load((x, y))
    inputs, labels = data.inputs, data.labels.clone()
    x.zero_()
    y.zero_()
    assert torch.equal(data.inputs, inputs)
    assert torch.equal(data.labels, labels)


def test_a_tensor_with_a_graph_is_detached() -> None:
    assert not load((torch.rand(6, 3, 4, 5, requires_grad=True), Y)).inputs.requires_grad


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6, 3, 4, 5), (3, 4, 5)), ((6, 4, 5, 3), (3, 4, 5)), ((6, 4, 5, 1), (1, 4, 5)), ((6, 4, 5), (1, 4, 5))],
)
def test_layouts_of_arrays_are_recognised(shape: tuple, expected: tuple) -> None:
    x = pixels(*shape)
    data = load((x, Y))
    assert data.shape == expected
    if shape[1] != 3:
        by_hand = x.reshape(6, 4, 5, -1).transpose(0, 3, 1, 2)
        assert np.array_equal(data.stored.numpy(), by_hand)


@pytest.mark.parametrize("shape", [(6, 3, 4, 3), (6, 1, 4, 1), (6, 4, 5, 6)])
def test_ambiguous_arrays_need_a_layout(shape: tuple) -> None:
    x = pixels(*shape)
    with pytest.raises(NetprobeError, match=r"layout='NCHW' or layout='NHWC'"):
        load((x, Y))
    assert load((x, Y), layout="NCHW").shape == shape[1:]
    assert load((x, Y), layout="NHWC").shape == (shape[3], shape[1], shape[2])


def test_tensors_are_channels_first_or_an_error() -> None:
    assert load((torch.rand(6, 2, 4, 5), Y)).shape == (2, 4, 5)
    assert load((torch.rand(6, 3, 4, 3), Y)).shape == (3, 4, 3)
    with pytest.raises(NetprobeError, match="say which with layout="):
        load((torch.rand(6, 4, 5, 3), Y))


def test_waveforms_are_two_dimensional() -> None:
    data = load((torch.rand(6, 50) * 2 - 1, Y))
    assert (data.kind, data.shape) == ("waveform", (50,))
    assert load((np.zeros((6, 50), np.int16), Y)).stored.dtype == torch.int16


@pytest.mark.parametrize("shape", [(6,), (6, 1, 50), (6, 1, 2, 3, 4)])
def test_other_shapes_are_errors(shape: tuple) -> None:
    with pytest.raises(NetprobeError, match=r"neither images .* nor waveforms"):
        load((np.zeros(shape, np.float32), Y))


def test_a_layout_must_fit() -> None:
    with pytest.raises(NetprobeError, match=r"unknown layout 'NWHC': did you mean 'NHWC'"):
        load((NCHW, Y), layout="NWHC")
    with pytest.raises(NetprobeError, match=r"layout='NHW' needs 3 dims"):
        load((NCHW, Y), layout="NHW")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (NCHW.astype(np.float32), r"images must lie in \[0, 1\], these in \[0, 255\]: divide by 255"),
        (NCHW / 255 * 4 - 2, r"these in \[-2, 2\]: if they were normalised, undo it \(x \* std \+ mean\)"),
        (NCHW / 255 - 0.5, r"these in \[-0.5, 0.5\]"),
        (NCHW / 255 * (1 + 1e-6), r"round-off, x\.clip\(0, 1\)"),
        (NCHW * 257.0, "divide by their full scale"),
        (NCHW.astype(np.int64), r"must be torch\.uint8 or floats in \[0, 1\], got torch\.int64"),
        (np.where(NCHW.max() == NCHW, np.nan, 0.5), "input values are NaN or infinite"),
        (np.linspace(-3, 3, 60).reshape(6, 10), r"waveforms must lie in \[-1, 1\], these in \[-3, 3\]"),
        (pixels(6, 20), "flattened images must be reshaped"),
        (np.full((6, 3, 4, 5), "a"), "inputs must be numbers"),
    ],
)
def test_values_off_scale_name_the_remedy(x: np.ndarray, message: str) -> None:
    with pytest.raises(NetprobeError, match=message):
        load((x, Y))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y - 1, "must not be negative, the smallest is -1"),
        (Y.astype(np.float32), r"must be integers.*got 6 of float32.*astype"),
        (np.eye(3)[Y], r"one-hot labels: y\.argmax"),
        (Y[:5], "6 inputs but 5 labels"),
        (np.array(list("abcabc")), "must be integers"),
        (np.zeros((6, 1, 1), int), r"shape \(N,\)"),
    ],
)
def test_labels_must_be_class_indices(y: np.ndarray, message: str) -> None:
    with pytest.raises(NetprobeError, match=message):
        load((NCHW, y))


def test_no_samples_is_an_error() -> None:
    with pytest.raises(NetprobeError, match="at least one"):
        load((NCHW[:0], Y[:0]))


def test_labels_may_be_a_column_or_have_gaps() -> None:
    assert load((NCHW, Y[:, None] * 4)).labels.tolist() == (4 * Y).tolist()
    assert load((NCHW, Y * 4)).num_classes == 9


def test_class_names_may_be_given_but_must_suffice() -> None:
    assert load((NCHW, Y), classes=["a", "b", "c", "d"], name="mine").classes == ("a", "b", "c", "d")
    with pytest.raises(NetprobeError, match="largest label is 2 but there are only 2 class names"):
        load((NCHW, Y), classes=["a", "b"])
    with pytest.raises(NetprobeError, match="sequence of names"):
        load((NCHW, Y), classes="abc")


def test_limit_is_stratified() -> None:
    whole = load((NCHW, Y))
    assert load((NCHW, Y), limit=3, seed=5).hash == whole.take(3, seed=5).hash
    assert sorted(load((NCHW, Y), limit=3).labels.tolist()) == [0, 1, 2]


def test_pairs_have_no_splits() -> None:
    assert load((NCHW, Y), "all").split == "all"
    with pytest.raises(NetprobeError, match="leave split out"):
        load((NCHW, Y), "test")


def test_npy_files_come_in_pairs(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", NCHW)
    np.save(tmp_path / "y.npy", Y)
    pair = (str(tmp_path / "x.npy"), tmp_path / "y.npy")
    assert load(pair).hash == load((NCHW, Y)).hash
    assert load(pair, limit=2).hash == load((NCHW, Y), limit=2).hash
    with pytest.raises(NetprobeError, match=r"alone is not a data set: pass \('x\.npy', 'y\.npy'\)"):
        load(tmp_path / "x.npy")
    with pytest.raises(MissingData, match=r"there is no file .*z\.npy"):
        load((tmp_path / "x.npy", tmp_path / "z.npy"))


def test_foreign_byte_order_is_converted(tmp_path: Path) -> None:
    x = NCHW.astype(np.float32) / np.float32(255)
    assert load((x.astype(">f4"), Y.astype(">i8"))).hash == load((x, Y)).hash


@pytest.mark.parametrize(
    ("keys", "split"),
    [
        (("x", "y"), "all"),
        (("images", "labels"), "all"),
        (("X", "Y"), "all"),
        (("x_test", "y_test"), "test"),
        (("test_images", "test_labels"), "test"),
        (("val_images", "val_labels"), "val"),
    ],
)
def test_npz_files_by_their_keys(tmp_path: Path, keys: tuple[str, str], split: str) -> None:
    np.savez(tmp_path / "mine.npz", **dict(zip(keys, (NCHW, Y), strict=True)))
    data = load(tmp_path / "mine.npz")
    assert (data.name, data.split) == ("mine", split)
    assert data.hash == load((NCHW, Y)).hash
    assert load(str(tmp_path / "mine.npz"), split, limit=3).hash == load((NCHW, Y), limit=3).hash


def test_npz_files_may_have_parts_and_class_names(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "cow"])
    np.savez_compressed(tmp_path / "m.npz", x_train=NCHW[:4], y_train=Y[:4], x_test=NCHW, y_test=Y, classes=names)
    assert load(tmp_path / "m.npz").classes == ("ant", "bee", "cow")
    assert len(load(tmp_path / "m.npz", "train")) == 4
    with pytest.raises(NetprobeError, match=r"unknown split of m 'val'.*valid choices: train, test"):
        load(tmp_path / "m.npz", "val")


def test_npz_files_without_a_pair_list_their_keys(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=NCHW, y=Y)
    with pytest.raises(NetprobeError, match=r"has the keys \['features', 'y'\]; needed are"):
        load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=NCHW, images=NCHW, y=Y)
    with pytest.raises(NetprobeError, match="several inputs or labels for 'all'"):
        load(tmp_path / "b.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "exploded",)

    bomb = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "bomb.npz", x=bomb, y=Y[:1])
    np.save(tmp_path / "bomb.npy", bomb)
    for what in (tmp_path / "bomb.npz", (tmp_path / "bomb.npy", Y[:1])):
        with pytest.raises(MissingData, match="never unpickled"):
            load(what)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("suffix", ["npz", "npy"])
@pytest.mark.parametrize("kept", [0, 5, 300])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, kept: int) -> None:
    np.savez(tmp_path / "a.npz", x=NCHW, y=Y)
    np.save(tmp_path / "a.npy", NCHW)
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(MissingData, match=rf"a\.{suffix} cannot be read .*damaged"):
        load(file if suffix == "npz" else (file, Y))


@pytest.mark.parametrize("x", [NCHW, np.zeros_like(NCHW)], ids=["wrong checksum", "invalid stream"])
def test_a_damaged_member_of_an_npz_is_found(tmp_path: Path, x: np.ndarray) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=x, y=Y)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    start = raw.index(b"x.npy") + len("x.npy")
    raw[start + 20 : start + 60] = b"\xff" * 40
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(MissingData, match=r"a\.npz cannot be read"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("what", [NCHW, torch.zeros(3), {"x": NCHW, "y": Y}, [NCHW, Y], None, 3])
def test_what_is_no_data_set_says_what_is(what: object) -> None:
    with pytest.raises(NetprobeError, match=r"cannot load data from a \w+: pass a name, .* a pair \(x, y\)"):
        load(what)
