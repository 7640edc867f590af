"""Sites: names, axes, shapes, MACs; every tensor as it was when the module produced it; the model left as found."""

from __future__ import annotations

import dataclasses
from collections import namedtuple

import pytest
import torch
from tiny import ConvNet, Recurrent, Tokens, recorded, seeded
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.models.normalize import Normalized
from netprobe.sites import Site, find_sites, listening

X = torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(1))


def named(model: nn.Module, x: Tensor = X, **how: bool) -> dict[str, Site]:
    return {site.name: site for site in find_sites(model, x, **how)}


def heard(model: nn.Module, x: Tensor, *names: str) -> dict[str, Tensor]:
    """What `listening` hands over at the sites called `names`, copied at once."""
    sites = [site for site in find_sites(model, x) if not names or site.name in names]
    tensors: dict[str, Tensor] = {}

    def keep(site: Site, tensor: Tensor) -> None:
        assert site.name not in tensors, "each site speaks once a pass"
        tensors[site.name] = tensor.detach().clone()

    with torch.no_grad(), listening(model, sites, keep):
        model.eval()(x)
    return tensors


# ---------------------------------------------------------------------------------------------- names and order


def test_every_module_has_an_input_and_an_output_in_run_order():
    sites = find_sites(seeded(ConvNet), X)
    assert [site.name for site in sites] == [
        "input", "conv1:in", "conv1", "relu1:in", "relu1", "conv2:in", "conv2", "relu2:in", "relu2", "head:in", "head",
        "output",
    ]  # fmt: skip
    assert [site.order for site in sites] == list(range(12))


def test_a_sites_facts():
    conv = named(seeded(ConvNet))["conv1"]
    assert (conv.module, conv.call, conv.where, conv.part, conv.kind) == ("conv1", 0, "output", (), "Conv2d")
    assert (conv.shape, conv.units, conv.batch_axis, conv.channel_axis) == ((7, 4, 3), 84, 0, 1)
    assert conv.parameters == 7 * 3 * 9 + 7
    assert conv.leaf
    assert {"Conv2d", "_ConvNd", "Module"} <= conv.lineage


def test_a_module_that_is_called_twice_has_a_site_for_each_call():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.fc(self.relu(x)))

    x = torch.randn(4, 5)
    model = seeded(Twice)
    assert [n for n in named(model, x) if n.startswith("relu")] == ["relu#0:in", "relu#0", "relu#1:in", "relu#1"]
    found = heard(model, x)
    torch.testing.assert_close(found["relu#0"], x.clamp(min=0), rtol=0, atol=0)
    torch.testing.assert_close(found["relu#1"], model(x), rtol=0, atol=0)
    torch.testing.assert_close(found["relu#1:in"], found["fc"], rtol=0, atol=0)


def test_the_wrapper_that_normalises_does_not_change_names():
    net = seeded(ConvNet)
    names = list(named(Normalized(net, 0.5, 0.5)))
    assert {"normalize", "conv1", "head:in", "net", "net:in", "input", "output"} <= set(names)
    assert not [name for name in names if name.startswith("net.")]


def test_a_submodule_called_net_of_another_model_keeps_its_name():
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(ConvNet)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    assert {"net.conv1", "net.head:in", "net"} <= named(Wrapper()).keys()


# ------------------------------------------------------------------------------------------- nested values

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass
class Record:
    logits: Tensor
    count: int
    extra: dict[str, Tensor]


class Nest(nn.Module):
    """A child that wraps its two tensors in `kind`, and a parent that unwraps them."""

    class Child(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind

        def forward(self, x: Tensor) -> object:
            a, b = x + 1, x * 2
            return {
                "tuple": (a, b),
                "list": [a, None, b],
                "dict": {"a": a, "b": b},
                "namedtuple": Pair(a, b),
                "dataclass": Record(a, 3, {"b": b}),
                "deep": {"x": [(a, torch.arange(3))], "y": b},
                "lone": (a,),
                "twice": (a, a, b),
            }[self.kind]

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.child = self.Child(kind)

    def forward(self, x: Tensor) -> Tensor:
        self.child(x)
        return x


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("tuple", "child/0", "child/1"),
        ("list", "child/0", "child/2"),
        ("dict", "child/a", "child/b"),
        ("namedtuple", "child/0", "child/1"),
        ("dataclass", "child/logits", "child/extra/b"),
        ("deep", "child/x/0/0", "child/y"),
        ("lone", "child", None),
        ("twice", "child/0", "child/2"),
    ],
)
def test_tensors_in_nested_outputs_are_sites(kind, first, second):
    x = torch.rand(4, 5)
    found = heard(Nest(kind), x)
    assert [n for n in found if n.startswith("child") and ":in" not in n] == [n for n in (first, second) if n]
    torch.testing.assert_close(found[first], x + 1, rtol=0, atol=0)
    if second:
        torch.testing.assert_close(found[second], x * 2, rtol=0, atol=0)


def test_inputs_given_by_keyword_are_sites():
    class Inner(nn.Module):
        def forward(self, x: Tensor, *, scale: Tensor, flag: bool = True) -> Tensor:
            return x * scale

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.only = Inner(), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.only(input=self.inner(x, scale=x + 1))

    x = torch.rand(4, 5)
    found = heard(seeded(Outer), x)
    torch.testing.assert_close(found["inner:in/0"], x, rtol=0, atol=0)
    torch.testing.assert_close(found["inner:in/1/scale"], x + 1, rtol=0, atol=0)
    torch.testing.assert_close(found["only:in"], x * (x + 1), rtol=0, atol=0)  # a lone tensor needs no path


def test_whole_numbers_and_scalars_are_no_sites():
    class Whole(nn.Module):
        def forward(self, x: Tensor) -> tuple:
            return x, torch.arange(len(x)), x.mean(), None, "text"

    assert list(named(Whole(), torch.rand(4, 5))) == ["input", "output"]


# ------------------------------------------------------------------------------------------- batch axes


def test_lstm_with_the_images_on_axis_1():
    x = torch.rand(4, 6, 5)
    model = seeded(Recurrent)
    sites = named(model, x)
    assert (sites["lstm/0"].batch_axis, sites["lstm/0"].shape, sites["lstm/0"].channel_axis) == (1, (6, 4), 2)
    assert sites["lstm/1/0"].batch_axis == 1  # the last hidden state: layers, images, features
    found = heard(model, x, "lstm/0", "lstm:in")
    states, _ = model.lstm(x.transpose(0, 1))
    torch.testing.assert_close(found["lstm/0"], states.transpose(0, 1).detach(), rtol=0, atol=0)
    torch.testing.assert_close(found["lstm:in"], x, rtol=0, atol=0)


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer_encoder_is_heard_although_torch_has_a_fused_path(batch_first):
    model = seeded(Tokens, batch_first).eval()
    x = torch.rand(4, 6, 5)
    sites = named(model, x)
    inside = "encoder.layers.0.linear1"
    assert (sites[inside].batch_axis, sites[inside].shape, sites[inside].channel_axis) == (
        0 if batch_first else 1,
        (6, 11),
        2,
    )
    assert {"encoder.layers.0.self_attn", "encoder.layers.0.norm2", "encoder.layers.0"} <= sites.keys()
    found = heard(model, x)
    hidden = found["encoder.layers.0.linear1:in"]
    torch.testing.assert_close(found[inside], model.encoder.layers[0].linear1(hidden).detach(), rtol=0, atol=0)
    assert torch.backends.mha.get_fastpath_enabled()  # as it was
    # the fused kernel and the modules one by one round differently
    torch.testing.assert_close(found["output"], model(x).detach(), rtol=1e-5, atol=1e-6)


def test_outputs_that_mix_or_drop_the_images_have_no_batch_axis():
    class Mixing(nn.Module):
        class Stack(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.reshape(-1, *x.shape[2:])  # images times channels

        class Mean(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.mean(0)

        class Gram(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.flatten(1) @ x.flatten(1).T

        def __init__(self) -> None:
            super().__init__()
            self.stack, self.mean, self.gram = self.Stack(), self.Mean(), self.Gram()

        def forward(self, x: Tensor) -> Tensor:
            self.stack(x), self.mean(x), self.gram(x)
            return x.flatten(1)

    sites = named(Mixing())
    assert [sites[name].batch_axis for name in ("stack", "mean", "gram")] == [None] * 3
    assert sites["output"].batch_axis == 0


def test_control_flow_that_depends_on_the_batch_size_is_an_error():
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if len(x) == 2 else self.b(x)

    with pytest.raises(NetprobeError, match="independent of the batch size"):
        find_sites(Moody(), X)


# ------------------------------------------------------------------------------------------- channel axes


def test_channel_axes_of_images_waveforms_tokens_and_vectors():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wave = nn.Sequential(nn.Conv1d(1, 4, 3, stride=2), nn.ReLU(), nn.BatchNorm1d(4))
            self.norm = nn.LayerNorm(4)
            self.act = nn.GELU()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.wave(x[:, None])
            x = self.act(self.norm(x.transpose(1, 2)))
            return self.fc(x).mean(1)

    sites = named(seeded(Mixed), torch.rand(4, 21))
    assert {name: (sites[name].shape, sites[name].channel_axis, sites[name].channels) for name in
            ("input", "wave.0:in", "wave.0", "wave.1", "wave.2", "norm", "act", "fc", "output")} == {
        "input": ((21,), 1, 21),
        "wave.0:in": ((1, 21), 1, 1),
        "wave.0": ((4, 10), 1, 4),
        "wave.1": ((4, 10), 1, 4),
        "wave.2": ((4, 10), 1, 4),
        "norm": ((10, 4), 2, 4),
        "act": ((10, 4), 2, 4),
        "fc": ((10, 2), 2, 2),
        "output": ((2,), 1, 2),
    }  # fmt: skip


def test_swin_is_channels_last():
    torchvision = pytest.importorskip("torchvision")
    model = seeded(
        torchvision.models.SwinTransformer,
        patch_size=[4, 4], embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=[4, 4], num_classes=3,
    )  # fmt: skip
    sites = named(model, torch.rand(2, 3, 32, 32))
    assert (sites["features.0.0"].shape, sites["features.0.0"].channel_axis) == ((8, 8, 8), 1)  # the patch convolution
    assert (sites["features.1.0.mlp.0"].shape, sites["features.1.0.mlp.0"].channel_axis) == ((8, 8, 32), 3)
    assert (sites["features.1.0"].shape, sites["features.1.0"].channel_axis) == ((8, 8, 8), 3)
    assert (sites["features.2.reduction"].shape, sites["features.2.reduction"].channel_axis) == ((4, 4, 16), 3)


# ------------------------------------------------------------------------------------------- MACs


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 7, (3, 2), stride=2, padding=1), (3, 6, 5), 7 * (3 * 3) * (3 * 3 * 2)),
        (nn.Conv2d(4, 6, 3, groups=2), (4, 6, 5), 6 * (4 * 3) * (2 * 9)),
        (nn.Conv1d(1, 4, 3, stride=2), (1, 21), 4 * 10 * 3),
        (nn.ConvTranspose2d(4, 3, 2, stride=2), (4, 3, 5), 3 * 4 * (2 * 2) * (3 * 5)),
        (nn.Linear(5, 9), (5,), 45),
        (nn.Linear(5, 9), (6, 5), 6 * 45),
        (nn.ReLU(), (5,), 0),
    ],
    ids=["conv", "grouped", "conv1d", "transposed", "linear", "tokens", "relu"],
)
def test_macs_by_hand(layer, shape, macs):
    sites = named(nn.Sequential(layer), torch.rand(1, *shape), macs=True)
    assert sites["0"].macs == sites["output"].macs == macs


def test_macs_are_counted_on_request_alone():
    assert {site.macs for site in find_sites(seeded(ConvNet), X)} == {None}


def test_macs_of_resnet18_are_the_published_ones():
    """torchvision publishes 1.814 GMAC at 224 x 224; it rounds to three digits, hence 5e-4."""
    torchvision = pytest.importorskip("torchvision")
    sites = named(seeded(torchvision.models.resnet18), torch.rand(1, 3, 224, 224), macs=True)
    published = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta
    assert sites["output"].macs / 1e9 == pytest.approx(published["_ops"], rel=5e-4)
    assert sites["output"].parameters == published["num_params"]
    assert sites["layer1"].macs == sum(sites[f"layer1.{b}.conv{c}"].macs for b in (0, 1) for c in (1, 2))


def vit_macs(tokens: int, dim: int, mlp: int, layers: int, patch: int, classes: int) -> int:
    """Patch embedding; q, k, v and the output projection, scores and mixing, two layers of MLP; head on one token."""
    block = 4 * tokens * dim**2 + 2 * tokens**2 * dim + 2 * tokens * dim * mlp
    return (tokens - 1) * dim * 3 * patch**2 + layers * block + dim * classes


def test_macs_of_a_vision_transformer():
    """Exactly the formula, attention's own two products included."""
    torchvision = pytest.importorskip("torchvision")
    model = seeded(
        torchvision.models.VisionTransformer,
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=5,
    )  # fmt: skip
    assert named(model, torch.rand(1, 3, 32, 32), macs=True)["output"].macs == vit_macs(17, 16, 24, 2, 8, 5)


def test_the_formula_gives_the_published_macs_of_vit_b_16():
    """17.564 GMAC at 224 x 224, rounded to five digits."""
    torchvision = pytest.importorskip("torchvision")
    published = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta["_ops"]
    assert vit_macs(197, 768, 3072, 12, 16, 1000) / 1e9 == pytest.approx(published, abs=5e-4)


# ------------------------------------------------------------------------------------------- what is read


def test_in_place_operations_downstream_do_not_change_what_was_read():
    """ResNet-18 overwrites 17 of its 20 batch-norm outputs; every site must be what plain hooks that copy saw."""
    torchvision = pytest.importorskip("torchvision")
    model = seeded(torchvision.models.resnet18, num_classes=4).eval()
    x = torch.rand(2, 3, 32, 32)
    found = heard(model, x)
    once = {name: module for name, module in model.named_modules() if name and not name.endswith("relu")}
    truth = recorded(model, x, *once)
    assert found.keys() >= truth.keys()
    for name, expected in truth.items():
        torch.testing.assert_close(found[name], torch.from_numpy(expected), rtol=0, atol=0, msg=name)
    for block in ("layer1.0", "layer4.1"):
        torch.testing.assert_close(found[f"{block}.relu#0"], found[f"{block}.bn1"].clamp(min=0), rtol=0, atol=0)
        torch.testing.assert_close(found[f"{block}.relu#1"], found[block], rtol=0, atol=0)


def test_memory_format_does_not_matter():
    model = seeded(ConvNet)
    plain = heard(model, X)
    last = heard(model, X.contiguous(memory_format=torch.channels_last))
    for name, tensor in plain.items():  # 1e-6: another convolution algorithm sums in another order
        torch.testing.assert_close(last[name], tensor, rtol=1e-6, atol=1e-6)


def test_models_that_write_to_their_input_can_be_dry_run():
    class Scaling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2).sub_(1).flatten(1)

    x = X.clone()
    assert list(named(Scaling(), x)) == ["input", "output"]
    torch.testing.assert_close(x, X, rtol=0, atol=0)


def test_a_model_without_parameters():
    assert list(named(nn.Sequential(nn.Flatten()), X)) == ["input", "0:in", "0", "output"]


# ------------------------------------------------------------------------------------------- hooks


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Failing(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.fc, self.error, self.armed = nn.Linear(5, 2), error, False

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        if self.armed:
            raise self.error("in the model")
        return x


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_hook_survives_an_error_in_the_model(error):
    model, x = Failing(error), torch.rand(4, 5)
    sites = find_sites(model, x)
    assert hooks_of(model) == 0
    model.armed = True
    with pytest.raises(error), listening(model, sites, lambda site, tensor: None):
        model(x)
    with pytest.raises(error):
        find_sites(model, x)
    assert hooks_of(model) == 0
    assert torch.backends.mha.get_fastpath_enabled()


def test_no_hook_survives_an_error_in_the_callback_and_the_users_own_stay():
    model, x = Failing(RuntimeError), torch.rand(4, 5)
    seen = []
    model.fc.register_forward_hook(lambda *_: seen.append(1))

    def refuse(site: Site, tensor: Tensor) -> None:
        raise ArithmeticError(site.name)

    with pytest.raises(ArithmeticError), listening(model, find_sites(model, x), refuse):
        model(x)
    assert hooks_of(model) == 1
    seen.clear()
    model(x)
    assert seen == [1]


def test_calls_are_counted_anew_in_every_pass_also_after_a_pass_that_failed():
    model, x = Failing(RuntimeError), torch.rand(4, 5)
    names: list[str] = []
    with listening(model, find_sites(model, x), lambda site, tensor: names.append(site.name)):
        model(x)
        model.armed = True
        with pytest.raises(RuntimeError):
            model(x)
        model.armed = False
        names.clear()
        model(x)
    assert names == ["input", "fc:in", "fc", "output"]
