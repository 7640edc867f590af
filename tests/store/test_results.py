"""Results on disk: identical when read back, equal bytes for equal results, written in one step."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from tiny import QUIET, ConvNet, images, seeded
from torch import nn

import netprobe as npb
from netprobe.errors import MissingData
from netprobe.store import atomically, model_card, portable, provenance, versions


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """Two models, every kind of variable, an array large enough to be compressed."""
    models = {"small": seeded(ConvNet), "other one": seeded(ConvNet, width=5)}
    return npb.probe(
        models, images(150), {"a": "gaussian:std=0.1", "b@1/255": "fgsm:eps=1/255"}, "psr,spectrum", **QUIET
    )


@pytest.fixture(scope="module")
def path(tree, tmp_path_factory) -> Path:
    return npb.save_results(tree, tmp_path_factory.mktemp("store") / "results.nc")


def types(tree: xr.DataTree) -> dict[str, tuple]:
    return {
        f"{node.path}/{name}": (variable.dims, variable.dtype, variable.attrs)
        for node in tree.subtree
        for name, variable in node.variables.items()
    }


def test_round_trip_is_identical(tree, path):
    loaded = npb.open_results(path)
    xr.testing.assert_identical(loaded, tree)
    assert types(loaded) == types(tree)
    assert loaded.attrs == tree.attrs
    for node in tree.subtree:
        for name, variable in node.data_vars.items():
            assert loaded[f"{node.path}/{name}"].values.tobytes() == variable.values.tobytes(), name


def test_equal_results_give_equal_bytes(tree, path, tmp_path):
    """Also those that have been in a file before."""
    assert npb.save_results(tree, tmp_path / "again.nc").read_bytes() == path.read_bytes()
    assert npb.save_results(npb.open_results(path), tmp_path / "other.nc").read_bytes() == path.read_bytes()


def test_large_arrays_are_compressed(tmp_path):
    repeated = xr.DataTree(xr.Dataset({"v": ("x", np.zeros(100_000))}))
    assert npb.save_results(repeated, tmp_path / "zeros.nc").stat().st_size < 80_000


def test_the_file_is_closed_after_reading(path, tmp_path):
    copy = tmp_path / "copy.nc"
    copy.write_bytes(path.read_bytes())
    loaded = npb.open_results(copy)
    copy.unlink()
    assert np.isfinite(loaded["small/psr/psr"].values).all()  # in memory
    h5py.File(copy, "w").close()  # and free to be written again


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "results.nc").touch()
    with pytest.raises(MissingData, match=r"no results file '.*result.nc'; nearest names in that folder: results.nc"):
        npb.open_results(tmp_path / "result.nc")
    with pytest.raises(MissingData, match="nearest names in that folder: none"):
        npb.open_results(tmp_path / "nowhere" / "result.nc")


@pytest.mark.parametrize("content", [b"", b"no netCDF in here", None])
def test_a_damaged_file_is_missing_data(path, tmp_path, content):
    damaged = tmp_path / "damaged.nc"
    damaged.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(MissingData, match="not a netCDF-4 file that netprobe wrote, or it is damaged"):
        npb.open_results(damaged)


def test_folders_are_made(tmp_path):
    assert atomically(tmp_path / "a" / "b" / "c", lambda part: part.write_text("x")).read_text() == "x"


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        atomically(path, lambda part: part.write_text("new"))
        assert reader.read() == "old" and path.read_text() == "new"


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part) -> None:
        part.write_text("half of the new")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomically(path, fail)
    assert os.listdir(tmp_path) == ["file"] and path.read_text() == "old"


def test_provenance_says_what_made_the_numbers(tree):
    for node in (tree, tree["small/psr"], tree["other one/accuracy"]):
        said = provenance(node)
        assert said["versions"] == versions() and said["versions"]["torch"] == torch.__version__.partition("+")[0]
        assert said["data"]["hash"] == images(150).hash and said["data"]["samples"] == 150
        assert said["perturbations"]["b@1/255"] == {"perturbation": "fgsm", **said["perturbations"]["b@1/255"]}
        assert said["perturbations"]["b@1/255"]["eps"] == 1 / 255
        assert said["settings"]["seed"] == 0 and said["settings"]["dtype"] == "float32"
        assert said["complete"] is True and said["images"] == {"small": 150, "other one": 150}
        assert said["models"]["small"] == model_card(seeded(ConvNet))


def test_model_cards():
    card = model_card(seeded(ConvNet))
    assert card["class"] == "ConvNet" and card["parameters"] == sum(p.numel() for p in ConvNet().parameters())
    assert card == model_card(seeded(ConvNet))
    json.dumps(card)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.conv1.weight.data.view(-1)[0].add_(1e-6),
        lambda m: m.double(),
        lambda m: m.register_buffer("more", torch.zeros(1)),
        lambda m: setattr(m, "conv2", nn.utils.parametrizations.weight_norm(m.conv2)),
    ],
    ids=["one weight", "precision", "a buffer", "other keys"],
)
def test_model_cards_tell_states_apart(change):
    model = seeded(ConvNet)
    before = model_card(model)["sha256"]
    change(model)
    assert model_card(model)["sha256"] != before


def test_model_cards_of_all_kinds_of_tensors():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.brief = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
            self.register_buffer("flag", torch.tensor(True))
            self.register_buffer("whole", torch.arange(3))
            self.register_buffer("none", torch.zeros(0, 4))
            self.register_buffer("strided", torch.rand(4, 3).T)

        def get_extra_state(self) -> dict:
            return {"version": 1}

        def set_extra_state(self, state: dict) -> None: ...

    assert len(model_card(Odd())["sha256"]) == 64


def test_model_cards_carry_the_source_of_loaded_models():
    model = seeded(ConvNet)
    model.netprobe_source = {"what": "net.py:Net", "checkpoint": "a.pth"}
    assert model_card(model)["source"] == model.netprobe_source
    assert model_card(seeded(ConvNet))["source"] is None


def test_results_name_files_without_the_folders_of_a_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = seeded(ConvNet)
    model.netprobe_source = {"what": "/home/someone/net.py:Net", "checkpoint": str(tmp_path / "runs" / "best.pt")}
    source = model_card(model)["source"]
    assert source == {"what": "net.py:Net", "checkpoint": "runs/best.pt"}
    assert portable("../a.pth") == "../a.pth" and portable("resnet18") == "resnet18"
