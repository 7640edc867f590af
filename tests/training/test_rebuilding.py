"""A checkpoint that training wrote loads by itself, and runs nothing that its author chose."""

import pytest
import torch

import netprobe as npb
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import digits_cnn
from netprobe.recipes import QUICK
from netprobe.training import fit
from netprobe.training.initial import initial

RECIPE = QUICK.with_settings(epochs=1)


@pytest.fixture(scope="module")
def digits():
    return npb.data.load("digits", "train", limit=200)


def same(one, other):
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_the_path_alone_gives_the_trained_network(digits, tmp_path):
    trained = fit("fast:eps=0.1", "digits_cnn", digits, RECIPE, out=tmp_path, progress=False)
    loaded = npb.load(tmp_path / "best.pt")
    assert same(loaded, trained.model)
    assert not loaded.training
    assert loaded.netprobe_source["what"] == "digits_cnn"
    assert loaded.netprobe_source["defense"]["eps"] == 0.1
    assert loaded.netprobe_source["checkpoint_sha256"]


def test_normalisation_and_arguments_come_back(digits, tmp_path):
    network = initial("digits_cnn", digits, 0, normalize=(0.3, 0.2))
    trained = fit("natural", network, digits, RECIPE, out=tmp_path, progress=False)
    loaded = npb.load(tmp_path / "last.pt")
    assert same(loaded, trained.last)
    assert loaded.netprobe_source["normalize"] == {"mean": [0.3], "std": [0.2]}


def test_it_also_loads_into_a_network_that_is_named(digits, tmp_path):
    trained = fit("natural", "digits_cnn", digits, RECIPE, out=tmp_path, progress=False)
    loaded = npb.load("digits_cnn", tmp_path / "best.pt")
    assert same(loaded, trained.model)


def test_a_network_of_the_users_own_must_be_given(digits, tmp_path):
    trained = fit("natural", digits_cnn(), digits, RECIPE, out=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match="would run code to build: give the network"):
        npb.load(tmp_path / "best.pt")
    loaded = npb.load(digits_cnn(), tmp_path / "best.pt")
    assert same(loaded, trained.model)


@pytest.mark.parametrize("what", ["evil.py:net", "os:system", None])
def test_what_a_checkpoint_names_is_never_executed(what, digits, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    fit("natural", "digits_cnn", digits, RECIPE, out=tmp_path, progress=False)
    contents = torch.load(tmp_path / "best.pt", weights_only=True)
    contents["netprobe"]["network"]["what"] = what and what.replace("evil.py", str(tmp_path / "evil.py"))
    torch.save(contents, tmp_path / "changed.pt")
    with pytest.raises(CheckpointError, match="would run code to build"):
        npb.load(tmp_path / "changed.pt")


@pytest.mark.parametrize(
    "what, arguments",
    [
        ("timm:resnet18", {"checkpoint_path": "theirs.bin"}),
        ("torchvision:resnet18", {"weights": "DEFAULT"}),
        ("timm:hf_hub:someone/net", {}),
        ("timm:local-dir:/somewhere", {}),
    ],
)
def test_arguments_and_names_that_reach_files_and_the_network_are_not_taken_from_a_checkpoint(
    what, arguments, digits, tmp_path
):
    fit("natural", "digits_cnn", digits, RECIPE, out=tmp_path, progress=False)
    contents = torch.load(tmp_path / "best.pt", weights_only=True)
    contents["netprobe"]["network"] |= {"what": what, "arguments": arguments}
    torch.save(contents, tmp_path / "changed.pt")
    with pytest.raises(CheckpointError, match="would run code to build"):
        npb.load(tmp_path / "changed.pt")


def test_a_file_called_like_an_architecture_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "mlp").write_text("notes")
    monkeypatch.chdir(tmp_path)
    assert npb.load("mlp").netprobe_source["what"] == "mlp"


def test_a_file_of_weights_that_is_not_ours_still_asks_for_the_architecture(tmp_path):
    torch.save(digits_cnn().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    for name in ("weights.pt", "damaged.pt"):
        with pytest.raises(NetprobeError, match="give the architecture first"):
            npb.load(str(tmp_path / name))


def test_settings_beside_a_checkpoint_that_says_all_are_refused(digits, tmp_path):
    fit("natural", "digits_cnn", digits, RECIPE, out=tmp_path, progress=False)
    with pytest.raises(NetprobeError, match="leave out num_classes"):
        npb.load(tmp_path / "best.pt", num_classes=5)


def test_a_defense_that_is_none_of_ours_is_named(digits, tmp_path):
    fit("natural", "digits_cnn", digits, RECIPE, out=tmp_path, progress=False)
    contents = torch.load(tmp_path / "best.pt", weights_only=True)
    contents["netprobe"]["defense"] = {"defense": "magic"}
    torch.save(contents, tmp_path / "changed.pt")
    with pytest.raises(CheckpointError, match="the defense magic, which is none of"):
        npb.load(tmp_path / "changed.pt")
