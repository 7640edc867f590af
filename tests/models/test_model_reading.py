"""Files are read without executing anything, and whatever is wrong with one is said."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netprobe.errors import CheckpointError
from netprobe.models.reading import digest, read


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.rand(2, 3), "bias": torch.rand(2)}


def saved(contents: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(contents, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_either_format_round_trip(tmp_path, weights, zipped):
    torch.save({"state_dict": weights}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    contents = read(tmp_path / "w.pt")
    assert all(torch.equal(contents["state_dict"][name], tensor) for name, tensor in weights.items())


def test_safetensors_round_trip(tmp_path, weights):
    save_file(weights, tmp_path / "w.safetensors")
    contents = read(str(tmp_path / "w.safetensors"))
    assert all(torch.equal(contents[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_bomb_does_not_go_off(tmp_path, weights, zipped):
    mark, file = tmp_path / "executed", tmp_path / "bomb.pt"
    torch.save({"state_dict": weights, "x": Bomb(mark)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"would run \w+\.mkdir") as error:
        read(file)
    assert not mark.exists()
    assert "torch.save(model.state_dict()" in str(error.value) and "unsafe=True" in str(error.value)


def test_unsafe_does_unpickle(tmp_path, weights):
    mark, file = tmp_path / "executed", tmp_path / "bomb.pt"
    torch.save({"state_dict": weights, "x": Bomb(mark)}, file)
    assert torch.equal(read(file, unsafe=True)["state_dict"]["bias"], weights["bias"])
    assert mark.exists()


@pytest.mark.parametrize("unsafe", [True, False])
def test_plain_pickles_are_never_opened(tmp_path, unsafe):
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(CheckpointError, match=r"written by pickle, not by torch.save"):
        read(tmp_path / "bomb.pkl", unsafe=unsafe)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_names_its_class_and_the_remedies(tmp_path, zipped):
    torch.save(nn.Linear(2, 2), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"would run torch\.nn\.modules\.linear\.Linear"):
        read(tmp_path / "m.pt")
    assert isinstance(read(tmp_path / "m.pt", unsafe=True), nn.Linear)


def test_common_harmless_leftovers_are_refused_by_name(tmp_path):
    torch.save({"accuracy": np.float64(0.9)}, tmp_path / "n.pt")
    with pytest.raises(CheckpointError, match=r"would run numpy\.[\w.]+"):
        read(tmp_path / "n.pt")


def test_a_module_whose_code_is_elsewhere(tmp_path, monkeypatch):
    gone = type("Gone", (nn.Module,), {"__module__": __name__})
    monkeypatch.setitem(globals(), "Gone", gone)
    torch.save(gone(), tmp_path / "m.pt")
    monkeypatch.delitem(globals(), "Gone")
    with pytest.raises(CheckpointError, match=r"code that is not here.*Gone.*run from the folder of that code"):
        read(tmp_path / "m.pt", unsafe=True)


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch discourages TorchScript; people still have the files
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


def flipped() -> bytes:
    data = saved({"w": torch.rand(4)}, _use_new_zipfile_serialization=False)
    return data[:150] + b"\x00\x99" + data[152:]


DAMAGED = {
    "empty": (lambda: b"", "is empty"),
    "half a zip": (lambda: saved({"w": torch.rand(1000)})[:3000], "damaged or not a checkpoint"),
    "half a legacy file": (
        lambda: saved({"w": torch.rand(1000)}, _use_new_zipfile_serialization=False)[:2000],
        "damaged or not a checkpoint",
    ),
    "changed bytes": (flipped, "damaged or not a checkpoint"),
    "noise": (lambda: bytes(range(7, 250)) * 4, "damaged or not a checkpoint"),
    "text": (lambda: b"hello, world", "damaged or not a checkpoint"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "html": (lambda: b"\n<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
    "keras": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(100), "unpack it first"),
    "torchscript": (torchscript, r"TorchScript archive.*torch\.jit\.load\(path\)\.state_dict\(\)"),
    "npz": (archive, r"torch\.save did not write \(it holds x\.npy"),
}


@pytest.mark.parametrize("kind", ["empty", "lfs", "html", "text"])
def test_safetensors_that_are_none_say_so(tmp_path, kind):
    make, message = DAMAGED[kind]
    (tmp_path / "w.safetensors").write_bytes(make())
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "w.safetensors")


@pytest.mark.parametrize("unsafe", [True, False])
@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_checkpoint_says_so(tmp_path, kind, unsafe):
    make, message = DAMAGED[kind]
    (tmp_path / "file.pt").write_bytes(make())
    with pytest.raises(CheckpointError, match=message) as error:
        read(tmp_path / "file.pt", unsafe)
    assert "file.pt" in str(error.value)
    assert "weights_only" not in str(error.value)  # torch's advice to switch its safety off


def test_damaged_safetensors(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}")
    with pytest.raises(CheckpointError, match=r"w\.safetensors .*damaged"):
        read(tmp_path / "w.safetensors")


def test_a_missing_file_names_its_neighbours(tmp_path, weights):
    for name in ("resnet20.th", "vgg.th"):
        torch.save(weights, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"resnet_20\.th does not exist; .*: resnet20\.th, vgg\.th"):
        read(tmp_path / "resnet_20.th")
    with pytest.raises(CheckpointError, match=r"is a folder, not a checkpoint; .*resnet20\.th"):
        read(tmp_path)
    with pytest.raises(CheckpointError, match=r"nor does its folder"):
        read(tmp_path / "nowhere" / "x.pt")
    (tmp_path / "bare").mkdir()
    with pytest.raises(CheckpointError, match=r"files in .*bare: none"):
        read(tmp_path / "bare" / "x.pt")


def test_addresses_and_other_objects_are_no_paths(weights):
    with pytest.raises(CheckpointError, match=r"downloads no checkpoints"):
        read("https://example.org/resnet20.th")
    with pytest.raises(CheckpointError, match=r"is not a path"):
        read(weights)


def test_a_home_folder_is_found(tmp_path, weights, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(weights, tmp_path / "w.pt")
    assert set(read("~/w.pt")) == {"weight", "bias"}


def test_tensors_come_to_the_cpu(tmp_path, weights):
    # The location that a tensor was saved from is a word in the pickle: this file says cuda:0.
    data = saved(weights)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(tmp_path / "w.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    assert read(tmp_path / "w.pt")["weight"].device.type == "cpu"


def test_the_digest_is_that_of_the_file(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"abc")
    assert digest(tmp_path / "w.pt") == hashlib.sha256(b"abc").hexdigest()
