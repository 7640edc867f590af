"""`load` puts a network, its weights and its normalisation together, and records where they came from."""

from __future__ import annotations

import json
import logging
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netprobe.checkpoints import load
from netprobe.defenses import PolarizingDefense
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import STATISTICS, Normalized, digits_cnn, lenet, mlp, resnet20

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def trained() -> nn.Module:
    """A network whose every tensor differs from a fresh one, batch statistics included."""
    model = digits_cnn()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(torch.rand(value.shape) if value.is_floating_point() else 1)
    return model.eval()


@pytest.fixture
def saved(tmp_path):
    """A function that writes contents to a file and gives its path."""

    def write(contents, name: str = "weights.pt"):
        torch.save(contents, tmp_path / name)
        return tmp_path / name

    return write


def same(one: nn.Module, other: nn.Module, x: torch.Tensor = X) -> bool:
    with torch.no_grad():
        return torch.equal(one(x), other(x))


# ---------------------------------------------------------------- what comes back


def test_a_fresh_network_is_ready_to_be_probed():
    model = load("digits_cnn")
    assert not any(module.training for module in model.modules())
    assert model.netprobe_source == {
        "what": "digits_cnn",
        "num_classes": None,
        "arguments": {},
        "checkpoint": None,
        "checkpoint_sha256": None,
        "normalize": None,
    }


def test_weights_round_trip_and_are_recorded(trained, saved):
    contents = {"epoch": 3, "model": {"module." + n: v for n, v in trained.state_dict().items()}, "ema": None}
    model = load("digits_cnn", saved(contents))
    assert same(model, trained)
    source = model.netprobe_source
    assert json.loads(json.dumps(source)) == source
    assert source["what"] == "digits_cnn" and source["checkpoint"].endswith("weights.pt")
    assert len(source["checkpoint_sha256"]) == 64
    assert (source["key"], source["prefix"], source["skipped"], source["ignored"]) == ("model", "module.", [], [])


def test_several_candidates_are_recorded_and_can_be_chosen(trained, saved):
    average = {name: torch.zeros_like(value) for name, value in trained.state_dict().items()}
    file = saved({"ema": average, "net": trained.state_dict()})
    model, other = load("digits_cnn", file), load("digits_cnn", file, key="ema")
    assert same(model, trained) and not same(other, trained)
    assert (model.netprobe_source["key"], model.netprobe_source["other_keys"]) == ("net", ["ema"])
    assert (other.netprobe_source["key"], other.netprobe_source["other_keys"]) == ("ema", ["net"])


def test_what_is_no_tensor_is_recorded(trained, saved):
    model = load("digits_cnn", saved({**trained.state_dict(), "epoch": 3}))
    assert model.netprobe_source["ignored"] == ["epoch"]


def test_safetensors_and_half_precision(trained, saved, tmp_path):
    state = trained.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    assert same(load("digits_cnn", tmp_path / "w.safetensors"), trained)
    half = load("digits_cnn", saved({n: v.half() if v.is_floating_point() else v for n, v in state.items()}))
    with torch.no_grad():
        # Each weight is off by up to 2**-11 of itself; six layers of them add up to a few thousandths.
        torch.testing.assert_close(half(X), trained(X), rtol=0.02, atol=0.02)


def test_the_users_own_module_stays_as_it_is(trained, saved):
    mine = digits_cnn().train()
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    model = load(mine, saved(trained.state_dict()), normalize=(0.5, 0.5))
    assert same(model.net, trained) and mine.training and not hasattr(mine, "netprobe_source")
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())


def test_half_precision_modules_take_float32():
    assert load(digits_cnn().half())(X).dtype == torch.float32


def test_arguments_go_to_the_constructor_and_into_the_record(tmp_path):
    model = load("mlp", hidden=(9, 8), in_features=64, num_classes=3)
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == [9, 8, 3]
    source = model.netprobe_source
    assert source["arguments"] == {"hidden": [9, 8], "in_features": 64} and source["num_classes"] == 3
    odd = load(lambda device: nn.Linear(2, 2, device=device), device=torch.device("cpu"))
    assert json.dumps(odd.netprobe_source["arguments"]) == '{"device": "device(type=\'cpu\')"}'


def test_unknown_arguments_are_errors():
    with pytest.raises(NetprobeError, match=r"unknown argument of mlp 'hiden': did you mean 'hidden'"):
        load("mlp", hiden=(9,))
    with pytest.raises(NetprobeError, match=r"key='ema' .* there is no checkpoint"):
        load("mlp", key="ema")


# ---------------------------------------------------------------- the number of classes


def test_classes_are_read_off_the_checkpoint(saved):
    file = saved(resnet20(num_classes=100).state_dict())
    model = load("resnet20", file)
    assert model.linear.out_features == 100 and model.netprobe_source["num_classes"] == 100
    seven = saved(load("torchvision:squeezenet1_1", num_classes=7).state_dict(), "seven.pt")
    assert load("torchvision:squeezenet1_1", seven).classifier[1].out_channels == 7


def test_an_open_ended_signature_is_not_guessed_at(saved):
    def theirs(**options):
        return nn.Linear(2, options.pop("n", 10), **options)

    with pytest.raises(CheckpointError, match=r"7 classes: build the network with as many"):
        load(theirs, saved(nn.Linear(2, 7).state_dict()))
    assert load(theirs, saved(nn.Linear(2, 7).state_dict()), n=7).out_features == 7


def test_contradicting_classes_are_an_error_that_names_the_remedy(saved):
    file = saved(resnet20(num_classes=100).state_dict())
    with pytest.raises(CheckpointError, match=r"100 classes: pass num_classes=100") as error:
        load("resnet20", file, num_classes=10)
    assert "linear.weight: (10, 64) in the model, (100, 64) in the checkpoint" in str(error.value)
    with pytest.raises(CheckpointError, match=r"100 classes: build the network with as many"):
        load(resnet20(), file)


# ---------------------------------------------------------------- what does not fit


def test_another_architecture_is_recognised(trained, saved):
    with pytest.raises(CheckpointError) as error:
        load("resnet20", saved(trained.state_dict()))
    message = str(error.value)
    assert "does not fit resnet20" in message and "names are those of digits_cnn" in message
    own, theirs = ({n: v.shape for n, v in model.state_dict().items()} for model in (resnet20(), trained))
    unlike = {n for n in own.keys() | theirs.keys() if own.get(n) != theirs.get(n) and "num_batches" not in n}
    assert len(unlike) > 90 and all(f"  {name}" in message for name in unlike)


def test_nothing_in_common_is_an_error_even_if_not_strict(saved):
    with pytest.raises(CheckpointError, match=r"0 fit.*\n.*another architecture.*\nNothing fits"):
        load("digits_cnn", saved({"a.weight": torch.rand(2)}), strict=False)


def test_not_strict_loads_what_fits_and_says_what_not(trained, saved, caplog):
    state = trained.state_dict()
    state["linear.weight"] = torch.rand(3, 5)
    state["extra"] = torch.rand(2)
    del state["conv2.weight"]
    file = saved(state)
    with pytest.raises(CheckpointError, match=r"1 are missing and 1 misshapen; 1 in the file are unexpected"):
        load("digits_cnn", file)
    with caplog.at_level(logging.WARNING):
        model = load("digits_cnn", file, strict=False)
    assert torch.equal(model.conv1.weight, trained.conv1.weight)
    assert model.netprobe_source["skipped"] == ["conv2.weight", "extra", "linear.weight"]
    (record,) = caplog.records
    assert record.name == "netprobe.checkpoints"
    assert all(name in record.getMessage() for name in ("conv2.weight", "extra", "linear.weight"))


def test_other_candidates_are_offered_when_one_does_not_fit(trained, saved):
    with pytest.raises(CheckpointError, match=r"Read from model; also there: ema \(choose with key=\)"):
        load("digits_cnn", saved({"model": resnet20().state_dict(), "ema": trained.state_dict()}))


# ---------------------------------------------------------------- normalisation


@pytest.mark.parametrize("name", STATISTICS)
def test_normalisation_is_the_first_layer(name):
    model = load("resnet20", normalize=name)
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v)[:, None, None] for v in STATISTICS[name])
    assert isinstance(model, Normalized)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.net((x - mean) / std))
    assert model.netprobe_source["normalize"] == dict(zip(("mean", "std"), map(list, STATISTICS[name]), strict=True))


def test_an_unknown_normalisation_is_found_before_anything_is_read():
    with pytest.raises(NetprobeError, match=r"unknown normalisation 'imagnet': did you mean 'imagenet'"):
        load("no such network", "no such file", normalize="imagnet")


def test_what_we_save_we_load(trained, saved):
    first = load(trained, normalize=(0.3, 0.4))
    file = saved(first.state_dict())
    for normalize in (None, (0.3, 0.4), (0.3001, 0.4)):
        second = load("digits_cnn", file, normalize=normalize)
        assert same(first, second)
        assert second.netprobe_source["normalize"] == {"mean": [0.3], "std": [0.4]}


def test_contradicting_normalisations_are_errors(trained, saved):
    model = load(trained, normalize=(0.3, 0.4))
    message = "contradict each other: in the .*0.3.*asked for.*0.5"
    with pytest.raises(NetprobeError, match=message):
        load("digits_cnn", saved(model.state_dict()), normalize=(0.5, 0.4))
    with pytest.raises(NetprobeError, match=message):
        load(model, normalize=(0.5, 0.4))
    with pytest.raises(NetprobeError, match=r"contradict"):
        load(load("resnet20", normalize="imagenet"), normalize=((0.485, 0.456), (0.229, 0.224)))


def test_a_normalised_module_takes_weights_with_and_without_statistics(trained, saved):
    mine = Normalized(digits_cnn(), 0.3, 0.4)
    bare = load(mine, saved(trained.state_dict()))
    whole = load(mine, saved(load(trained, normalize=(0.3, 0.4)).state_dict(), "whole.pt"))
    assert same(bare, whole) and same(bare.net, trained) and not isinstance(bare.net, Normalized)


def test_statistics_of_a_strangers_wrapper_are_used(trained, saved):
    class Standardise(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.full((1, 1, 1, 1), 0.2))
            self.register_buffer("std", torch.full((1, 1, 1, 1), 0.3))

        def forward(self, x):
            return (x - self.mean) / self.std

    theirs = nn.Sequential(Standardise(), trained).eval()
    model = load("digits_cnn", saved(theirs.state_dict()))
    assert same(model, theirs)
    assert model.netprobe_source["normalize"] == {"mean": [0.2], "std": [0.3]}


# ---------------------------------------------------------------- safety


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("what", ["digits_cnn", None])
def test_a_checkpoint_executes_nothing(trained, saved, tmp_path, what):
    file = saved({"state_dict": trained.state_dict(), "x": Bomb(tmp_path / "executed")})
    with pytest.raises(CheckpointError, match=r"unsafe=True"):
        load(what, file)
    assert not (tmp_path / "executed").exists()


def test_a_pickled_module_needs_the_word(trained, saved):
    file = saved(trained)
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*unsafe=True"):
        load(None, file)
    for what in (None, "digits_cnn"):
        assert same(load(what, file, unsafe=True), trained)
    source = load(None, file, unsafe=True).netprobe_source
    assert source["what"] == "netprobe.models.cnn:ConvNet" and len(source["checkpoint_sha256"]) == 64


def test_a_pickled_module_may_be_wrapped_and_normalised(trained, saved):
    file = saved({"epoch": 3, "model": nn.DataParallel(trained)})
    model = load(None, file, unsafe=True, normalize=(0.5, 0.5))
    assert same(model.net, trained)
    with pytest.raises(NetprobeError, match=r"num_classes=3 has no effect"):
        load(None, file, unsafe=True, num_classes=3)


def test_weights_alone_need_an_architecture(trained, saved):
    with pytest.raises(NetprobeError, match=r"weights only: say which architecture .*those of digits_cnn"):
        load(None, saved(trained.state_dict()))
    with pytest.raises(NetprobeError, match=r"weights only: .*one of digits_cnn, .*file\.py:callable"):
        load(None, saved(mlp(hidden=(3, 3, 3)).state_dict()))
    with pytest.raises(NetprobeError, match=r"nothing to load: name a network, one of digits_cnn, "):
        load(None)


def test_a_front_end_under_other_names(tmp_path):
    """As checkpoints of other people's code have them."""

    def built():
        return PolarizingDefense(filters=3).build(lenet(in_channels=3))

    theirs = built()
    named = {"front.filters": "frontend.conv", "classifier.linear1": "classifier.fc1"}
    state = {}
    for name, tensor in theirs.state_dict().items():
        head = next((head for head in named if name.startswith(head)), "")
        state[named.get(head, "") + name[len(head) :]] = tensor
    torch.save({"state_dict": state}, tmp_path / "theirs.pt")
    names = {theirs: ours for ours, theirs in named.items()}
    with pytest.raises(CheckpointError, match=r"frontend\.conv\.weight"):
        load(built, tmp_path / "theirs.pt")
    model = load(built, tmp_path / "theirs.pt", names=names)
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(model(x), theirs.eval()(x))
    with pytest.raises(NetprobeError, match="but there is no checkpoint"):
        load("lenet", names=names)
    torch.save(theirs, tmp_path / "whole.pt")
    with pytest.raises(NetprobeError, match=r"names=.* has no effect without a network to build"):
        load(None, tmp_path / "whole.pt", names=names, unsafe=True)
