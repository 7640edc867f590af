"""Names lead to networks, and a name that does not says what would."""

from __future__ import annotations

import sys
import textwrap
import warnings

import pytest
import torch
from torch import nn

from netprobe import checkpoints
from netprobe.errors import NetprobeError
from netprobe.models import ARCHITECTURES
from netprobe.models.sources import blueprint, unwrapped

THEIRS = """
    from __future__ import annotations
    from dataclasses import dataclass
    from torch import nn

    @dataclass
    class Size:
        hidden: int = 4

    class Net(nn.Linear):
        def __init__(self, num_classes=10, hidden=4):
            super().__init__(Size(hidden).hidden, num_classes)

    ready = Net(5)
    depth = 18

    def anything(**options):
        return Net(**options)

    def plain():
        return Net()

    def wrong():
        return "a network"
"""


@pytest.fixture
def theirs(tmp_path):
    """A stranger's file."""
    file = tmp_path / "theirs.py"
    file.write_text(textwrap.dedent(THEIRS))
    return file


def build(what, num_classes=None, **arguments) -> nn.Module:
    return blueprint(what).build(num_classes, arguments)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_our_names(name):
    model = build(name, num_classes=3)
    assert blueprint(name).label == name and next(reversed(model.state_dict().values())).shape == (3,)


def test_an_unknown_name_lists_ours_and_the_other_forms():
    with pytest.raises(NetprobeError, match=r"unknown architecture 'resnet200': did you mean 'resnet20'") as error:
        build("resnet200")
    for form in (*ARCHITECTURES, "package.module:callable", "path/to/file.py:callable", "torchvision:NAME", "timm:"):
        assert form in str(error.value)


@pytest.mark.parametrize("what", [None, 3, ["resnet20"]])
def test_what_is_no_name_is_refused(what):
    with pytest.raises(NetprobeError, match=r"names no network"):
        build(what)


def test_a_module_is_copied_and_a_callable_called():
    mine = nn.Linear(2, 2)
    copy = build(mine)
    assert copy is not mine and torch.equal(copy.weight, mine.weight)
    assert blueprint(mine).label == "torch.nn.modules.linear:Linear"
    assert build(nn.Linear, in_features=2, out_features=3).weight.shape == (3, 2)
    with pytest.raises(NetprobeError, match=r"num_classes=3 has no effect on .*Linear, which takes no arguments"):
        build(mine, 3)


def test_what_cannot_be_copied_says_why():
    stuck = nn.Linear(2, 2)
    stuck.cache = stuck.weight * 2  # torch copies only tensors that the user created
    with pytest.raises(NetprobeError, match=r"Linear cannot be copied .*give the callable"):
        build(stuck)


def test_wrappers_are_taken_off():
    net = nn.Linear(2, 2)
    assert unwrapped(nn.DataParallel(torch.compile(net))) is net
    assert unwrapped(net) is net
    assert type(build(lambda: nn.DataParallel(net))) is nn.Linear


def test_torchscript_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch discourages TorchScript; people still have such modules
        script = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(NetprobeError, match=r"not a plain nn.Module"):
        build(lambda: script)


# ---------------------------------------------------------------- files


def test_a_strangers_file(theirs):
    model = build(f"{theirs}:Net", num_classes=7, hidden=3)
    assert model.weight.shape == (7, 3)
    assert build(f"{theirs}:anything", num_classes=7).weight.shape == (7, 4)
    assert build(f"{theirs}:ready").weight.shape == (5, 4)


def test_a_network_in_a_file_is_not_handed_out_twice(theirs):
    plan = blueprint(f"{theirs}:ready")
    assert plan.build(None, {}) is not plan.build(None, {})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Nett", {}, r"unknown callable in .*theirs\.py 'Nett': did you mean 'Net'"),
        ("depth", {}, "unknown callable"),
        ("", {}, "unknown callable"),
        ("wrong", {}, "gave a str, not a plain nn.Module"),
        ("plain", {"num_classes": 3}, "num_classes=3 has no effect on .*:plain, which takes no arguments"),
        ("plain", {"hiden": 3}, "unknown argument of .*:plain 'hiden'"),
        ("Net", {"hiden": 3}, "unknown argument of .*:Net 'hiden': did you mean 'hidden'"),
        ("anything", {"hiden": 3}, "unexpected keyword argument 'hiden'"),
    ],
)
def test_mistakes_in_naming_a_callable(theirs, name, arguments, message):
    with pytest.raises(NetprobeError, match=message):
        build(f"{theirs}:{name}", **arguments)


def test_arguments_without_a_default_are_named():
    with pytest.raises(NetprobeError, match=r"takes in_features, out_features.*missing.*'out_features'"):
        build(nn.Linear, in_features=2)


def test_errors_inside_a_users_constructor_stay_their_own():
    def broken():
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"mine"):
        build(broken)


def test_missing_files_and_missing_names(theirs, monkeypatch):
    with pytest.raises(NetprobeError, match=r"their\.py does not exist; Python files in .*: theirs\.py"):
        build(f"{theirs.parent}/their.py:Net")
    with pytest.raises(NetprobeError, match=r"say which callable.*theirs\.py:NAME"):
        build(str(theirs))
    (theirs.parent / "weights.pt").write_bytes(b"")
    with pytest.raises(NetprobeError, match=r"is a file of weights: give the architecture first"):
        build(str(theirs.parent / "weights.pt"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import not_installed", "ModuleNotFoundError: No module named 'not_installed'"),
        ("def net(:", "SyntaxError"),
        ("raise RuntimeError('mine')", "RuntimeError: mine"),
        ("raise SystemExit(2)", "SystemExit: 2"),
        ("from .layers import x", "relative import.*package.module:callable"),
    ],
)
def test_a_file_that_fails_says_which_and_why(tmp_path, line, message):
    (tmp_path / "bad.py").write_text(line)
    with pytest.raises(NetprobeError, match=rf"importing .*bad\.py failed: .*{message}"):
        build(f"{tmp_path}/bad.py:net")


def test_two_checkouts_keep_their_own_siblings(tmp_path):
    for folder, width in (("one", 3), ("two", 4)):
        (tmp_path / folder / "parts").mkdir(parents=True)
        (tmp_path / folder / "width.py").write_text(f"WIDTH = {width}")
        (tmp_path / folder / "parts" / "bias.py").write_text(f"BIAS = {width == 3}")
        (tmp_path / folder / "model.py").write_text(
            "from torch import nn\nfrom width import WIDTH\n"
            "def net():\n    from parts.bias import BIAS\n    return nn.Linear(2, WIDTH, bias=BIAS)\n"
        )
    plans = [blueprint(f"{tmp_path / folder}/model.py:net") for folder in ("one", "two")]
    models = [plan.build(None, {}) for plan in plans]
    assert [m.out_features for m in models] == [3, 4] and [m.bias is not None for m in models] == [True, False]
    assert not {"width", "parts", "parts.bias", "model"} & sys.modules.keys()
    assert not any(str(tmp_path) in entry for entry in sys.path)


def test_a_module_found_from_the_working_folder(theirs, monkeypatch):
    package = theirs.parent / "strange_package"
    package.mkdir()
    theirs.rename(package / "nets.py")
    monkeypatch.chdir(theirs.parent)
    try:
        assert build("strange_package.nets:Net", 6).out_features == 6
    finally:
        for name in ("strange_package.nets", "strange_package"):
            sys.modules.pop(name, None)
    with pytest.raises(NetprobeError, match=r"importing no_such_package failed: ModuleNotFoundError"):
        build("no_such_package:net")
    with pytest.raises(NetprobeError, match=r"unknown callable in torch.nn 'Liner': did you mean 'Linear'"):
        build("torch.nn:Liner")


# ---------------------------------------------------------------- libraries


def test_torchvision_by_name_without_download():
    model = build("torchvision:squeezenet1_1", 4).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 4)


def test_efficientnet_of_torchvision_with_ten_classes():
    model = checkpoints.load("torchvision:efficientnet_b0", num_classes=10)
    # 1000 x 1280 weights and 1000 biases of the 5,288,548 parameters of its paper's network give way to ten rows.
    assert sum(p.numel() for p in model.parameters()) == 5_288_548 - 990 * 1281
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, 10)


def test_torchvision_mistakes():
    with pytest.raises(NetprobeError, match=r"unknown torchvision model 'resnet_18': did you mean 'resnet18'"):
        build("torchvision:resnet_18")
    with pytest.raises(NetprobeError, match=r"torchvision:squeezenet1_1: .*unexpected keyword argument 'depth'"):
        build("torchvision:squeezenet1_1", depth=3)


def test_timm_by_name():
    pytest.importorskip("timm", reason="needs timm: pip install 'netprobe-torch[timm]'")
    assert build("timm:resnet10t", 4).fc.out_features == 4
    with pytest.raises(NetprobeError, match=r"unknown timm model 'resnot10t': did you mean 'resnet10t'"):
        build("timm:resnot10t")
    with pytest.raises(NetprobeError, match=r"timm would unpickle"):
        build("timm:resnet10t", checkpoint_path="weights.pt")


def test_timm_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(NetprobeError, match=r"needs the package timm: pip install 'netprobe-torch\[timm\]'"):
        build("timm:resnet10t")
