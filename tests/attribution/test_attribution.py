from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import VisionTransformer, get_model

from netprobe.attribution import gradcam
from netprobe.attribution.gradcam import grad_cam, map_similarity
from netprobe.data import load
from netprobe.errors import NetprobeError
from netprobe.perturb import PGD, GaussianNoise

IMAGES = torch.rand(5, 3, 12, 8)  # every axis of another length
ROUNDING = {"atol": 1e-6, "rtol": 1e-5}  # float32, sums in another order


class CNN(nn.Module):
    """Maps as large as the image, so that enlarging them changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.Tanh()
        self.head = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x)).pow(2).mean((2, 3)))


class ViT(nn.Module):
    """Patches of 4x4, a class token and a register, two blocks; the logits read the class token."""

    def __init__(self, width: int = 8, outputs: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.first = nn.Parameter(torch.randn(1, 2, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.read(torch.cat([self.first.expand(len(x), -1, -1), tokens], 1), 0)

    def read(self, tokens: Tensor, start: int) -> Tensor:
        for block in self.blocks[start:]:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(x, self.norm1(x))

    def rest(self, x: Tensor, normed: Tensor) -> Tensor:
        x = x + self.attention(normed, normed, normed)[0]
        return x + self.mlp(self.norm2(x))


def slow_map(maps: Tensor, score: Tensor, size: tuple[int, int]) -> Tensor:
    """The definition, image by image and channel by channel."""
    gradient = torch.autograd.grad(score.sum(), maps)[0]
    signed = torch.zeros(maps.shape[0], *maps.shape[2:])
    for n in range(maps.shape[0]):
        for k in range(maps.shape[1]):
            signed[n] += gradient[n, k].mean() * maps[n, k].detach()
    return interpolate(signed[:, None], size, mode="bilinear")[:, 0]


def clean_map(result: xr.Dataset) -> Tensor:
    return torch.from_numpy(result["map"].sel(condition="clean").values)


def best(logits: Tensor) -> Tensor:
    return logits.amax(1)


def test_by_hand():
    # One channel, identity weights: A = x, logits (sum A, -sum A): dy/dA = 1, so a = 1 and the map is x.
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 2, bias=False))
    net[0].weight.data.fill_(1)
    net[2].weight.data = torch.tensor([[1.0] * 4, [-1.0] * 4])
    x = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
    torch.testing.assert_close(clean_map(grad_cam(net, x)), x[:, 0])
    torch.testing.assert_close(clean_map(grad_cam(net, x, target=1)), -x[:, 0])  # signs are kept


def test_cnn_equals_the_slow_definition_and_captum_itself():
    from captum.attr import LayerGradCam

    net = CNN().eval()
    result = grad_cam(net, IMAGES)
    assert result.attrs["target_site"] == "act" and result.attrs["grid"] == "12x8"
    maps = net.act(net.conv(IMAGES)).detach().requires_grad_()
    expected = slow_map(maps, best(net.head(maps.pow(2).mean((2, 3)))), (12, 8))
    torch.testing.assert_close(clean_map(result), expected, **ROUNDING)
    captum = LayerGradCam(net, net.act).attribute(IMAGES, target=net(IMAGES).argmax(1))
    torch.testing.assert_close(clean_map(result), captum[:, 0].detach(), **ROUNDING)


def test_tokens_equal_the_slow_definition():
    net = ViT().eval()
    result = grad_cam(net, IMAGES)
    assert result.attrs["target_site"] == "blocks.1.norm1" and result.attrs["grid"] == "3x2"
    tokens = net.patches(IMAGES).flatten(2).transpose(1, 2)
    before = net.blocks[0](torch.cat([net.first.expand(5, -1, -1), tokens], 1)).detach()
    normed = net.blocks[1].norm1(before).detach()
    maps = normed[:, 2:].transpose(1, 2).reshape(5, 8, 3, 2).requires_grad_()
    joined = torch.cat([normed[:, :2], maps.flatten(2).transpose(1, 2)], 1)
    logits = net.head(net.norm(net.blocks[1].rest(before, joined))[:, 0])
    torch.testing.assert_close(clean_map(result), slow_map(maps, best(logits), (12, 8)), **ROUNDING)


def slow_map_of_module(net: nn.Module, module: nn.Module, to_map, x: Tensor) -> Tensor:
    """For any net without in-place operations: keep the module's output and differentiate."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        forward = module.forward
        patch.setattr(module, "forward", lambda *a: kept.append(forward(*a).detach().requires_grad_()) or kept[-1])
        score = best(net(x)).sum()
    gradient = torch.autograd.grad(score, kept[0])[0]
    signed = (to_map(gradient).mean((2, 3), keepdim=True) * to_map(kept[0])).sum(1, keepdim=True)
    return interpolate(signed.detach(), x.shape[2:], mode="bilinear")[:, 0]


TORCHVISION = {
    "resnet18": ({}, "layer4", lambda t: t),
    "swin_t": ({}, "norm", lambda t: t.permute(0, 3, 1, 2)),
    "vit_b_16": (
        {"image_size": 64},
        "encoder.layers.encoder_layer_11.ln_1",
        lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (4, 4)),
    ),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    settings, site, to_map = TORCHVISION[name]
    net, x = get_model(name, **settings).eval(), torch.rand(2, 3, 64, 64)
    last = list(net.parameters())[-2]
    nn.init.normal_(last, std=0.1)  # the ViT comes with zeros
    result = grad_cam(net, x, perturbations={"noise": GaussianNoise(0.1)})
    assert result.attrs["target_site"] == site
    assert bool(result["stability"].notnull().all())
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    expected = slow_map_of_module(net, net.get_submodule(site), to_map, x)
    # 1e-4 of the largest: float32 through up to 12 blocks, by two ways through the graph.
    torch.testing.assert_close(clean_map(result), expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_untrained_vit_with_a_last_weight_of_zeros():
    net = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16).eval()
    result = grad_cam(net, torch.rand(2, 3, 32, 32), perturbations={"noise": GaussianNoise(0.1)})
    assert result.attrs["target_site"] == "encoder.layers.encoder_layer_1.ln_1"
    assert "they depend on none" in result.attrs["target_reason"]
    assert not clean_map(result).any() and bool(result["stability"].isnull().all())


def test_in_place_relu_behind_the_layer():
    net = get_model("resnet18").eval()
    x = torch.rand(2, 3, 64, 64)
    result = grad_cam(net, x, layer="layer3.1.bn1")
    assert result.attrs["target_reason"] == "asked for"
    gentle = copy.deepcopy(net)
    for module in gentle.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    expected = slow_map_of_module(gentle, gentle.layer3[1].bn1, lambda t: t, x)
    torch.testing.assert_close(clean_map(result), expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_another_reader_of_the_same_tensor_is_not_explained():
    class Shortcut(nn.Module):
        """An identity hands on the very tensor that the shortcut reads too."""

        def __init__(self):
            super().__init__()
            self.identity, self.head = nn.Identity(), nn.Linear(3, 6)

        def forward(self, x):
            return self.head((2 * self.identity(x) + 5 * x).mean((2, 3)))

    net = Shortcut()
    maps = IMAGES.clone().requires_grad_()
    expected = slow_map(maps, best(net.head((2 * maps + 5 * IMAGES).mean((2, 3)))), (12, 8))
    torch.testing.assert_close(clean_map(grad_cam(net, IMAGES, layer="identity")), expected, **ROUNDING)


def test_small_images_skip_maps_of_one_place():
    result = grad_cam(get_model("resnet18").eval(), torch.rand(2, 3, 32, 32))
    assert result.attrs["target_site"] == "layer3" and result.attrs["grid"] == "2x2"  # layer4 is 1x1


def test_waveforms():
    net = nn.Sequential(nn.Unflatten(1, (1, 20)), nn.Conv1d(1, 3, 5, stride=5), nn.Flatten(), nn.Linear(12, 2))
    result = grad_cam(net, torch.rand(3, 20) * 2 - 1)
    assert result["map"].shape == (1, 3, 1, 20) and result["image"].shape == (3, 1, 1, 20)


def test_perturbed_maps_explain_the_class_of_the_clean_image():
    net = CNN().eval()

    def zero(model, x, y, *, generator):
        return torch.zeros_like(x)

    result = grad_cam(net, IMAGES, perturbations={"zero": zero})
    alone = grad_cam(net, torch.zeros_like(IMAGES), target=torch.from_numpy(result["target"].values))
    np.testing.assert_allclose(result["map"].sel(condition="zero"), alone["map"][0], rtol=1e-5)
    assert result["predicted"].sel(condition="zero").values.tolist() == [int(net(IMAGES[:1] * 0).argmax())] * 5


def test_labels_and_positions_of_data():
    data = load("digits", split="test")
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 10)).eval()
    noise = GaussianNoise(0.2)
    result = grad_cam(net, data, target="true", perturbations={"noise": noise, "pgd": PGD(eps=0.1)}, limit=20, seed=3)
    images = torch.from_numpy(result["index"].values.copy())
    assert sorted(set(result["label"].values.tolist())) == list(range(10))  # every class keeps its share
    assert result["target"].values.tolist() == data.labels[images].tolist()
    np.testing.assert_array_equal(result["image"].values, data.inputs[images].numpy())
    assert result["eps"].values.tolist() == [0.2, 0.1] and result["family"].values[1] == "PGD"
    few = grad_cam(net, data, target="true", perturbations={"noise": noise}, limit=7, seed=3)
    assert set(few["index"].values) <= set(images.tolist())
    shared = result.isel(image=np.searchsorted(result["index"], few["index"]))
    # An image's noise does not depend on how many there are. 1e-5: batches of other sizes round differently.
    np.testing.assert_allclose(few["map"].sel(condition="noise"), shared["map"].sel(condition="noise"), atol=1e-5)


def test_perturbations_get_labels_or_else_predictions():
    net, data, seen = nn.Sequential(nn.Conv2d(1, 10, 3), nn.Flatten(), nn.Linear(360, 10)), load("digits"), []

    def spy(model, x, y, *, generator):
        seen.append((x, y, generator.images))
        return x

    grad_cam(net, data, perturbations={"spy": spy})
    grad_cam(net, data.inputs, perturbations={"spy": spy})
    (_, y, images), (x, guess, first) = seen
    assert y.tolist() == data.labels[images].tolist()
    assert guess.tolist() == net(x).argmax(1).tolist() and first.tolist() == list(range(8))


def test_batches_change_nothing(monkeypatch):
    net, settings = CNN().eval(), {"perturbations": {"pgd": PGD(eps=0.05)}, "controls": 2}
    whole = grad_cam(net, IMAGES, **settings)
    monkeypatch.setattr(gradcam, "BATCH", 2)
    xr.testing.assert_allclose(grad_cam(net, IMAGES, **settings), whole, rtol=1e-4, atol=1e-6)


def test_maps_scale_with_the_logits_and_stability_does_not():
    net = CNN().eval()
    louder = copy.deepcopy(net)
    louder.head.weight.data.mul_(3)
    louder.head.bias.data.mul_(3)
    one, three = (grad_cam(m, IMAGES, perturbations={"noise": GaussianNoise(0.1)}) for m in (net, louder))
    np.testing.assert_allclose(three["map"], 3 * one["map"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(three["stability"], one["stability"], atol=0.02)  # rounding may swap close ranks


def test_similarity_by_hand():
    maps = np.array([[[1.0, 2.0], [3.0, 4.0]]] * 4)
    others = np.array([[[10.0, 20], [30, 40]], [[4, 3], [2, 1]], [[1, 2], [4, 3]], [[5, 5], [5, 5]]])
    # The same order; the reverse; one neighbouring swap, 1 - 6 * 2 / (4 * 15) = 0.8; constant.
    np.testing.assert_allclose(map_similarity(maps, others), [1, -1, 0.8, np.nan])


def test_similarity_equals_scipy_with_ties():
    maps, others = np.random.default_rng(0).integers(0, 4, (2, 3, 5, 4)).astype(float)
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps, others, strict=True)]
    np.testing.assert_allclose(map_similarity(maps, others), expected, rtol=1e-12)


def test_an_identity_is_perfectly_stable():
    result = grad_cam(CNN().eval(), IMAGES, perturbations={"nothing": GaussianNoise(0.0)})
    np.testing.assert_allclose(result["stability"], 1)


def test_controls_draw_the_last_weight_anew_and_leave_it_alone():
    net = CNN().eval()
    before = copy.deepcopy(net.state_dict())
    result = grad_cam(net, IMAGES, controls=3)
    again = grad_cam(net, IMAGES, controls=3)
    xr.testing.assert_identical(result, again)
    assert result["control"].dims == ("draw", "image") and result.sizes["draw"] == 3
    assert float(np.abs(result["control"]).mean()) < 0.95  # these maps do depend on the last weights
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_control_equals_a_model_with_that_weight():
    net, generator = CNN().eval(), torch.Generator().manual_seed(0)
    result = grad_cam(net, IMAGES, controls=1)
    other = copy.deepcopy(net)
    other.head.weight.data = net.head.weight.std() * torch.randn(6, 4, generator=generator)
    redrawn = grad_cam(other, IMAGES, target=torch.from_numpy(result["target"].values))
    expected = map_similarity(result["map"][0].values, redrawn["map"][0].values)
    np.testing.assert_allclose(result["control"][0], expected, atol=1e-3)  # close ranks may swap


def state_of(model: nn.Module) -> list:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    parameters = [(p.requires_grad, p.grad is None, p.sum().item()) for p in model.parameters()]
    buffers = [b.clone() for b in model.buffers()]
    return [hooks, modes, parameters, *(b.tolist() for b in buffers), torch.get_rng_state().tolist()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_found(fails):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(240, 6)).train()
    net[0].eval()
    net[0].weight.requires_grad_(False)
    net[4].weight.grad = torch.ones_like(net[4].weight)

    def rude(model, x, y, *, generator):
        model.train()
        model(x)
        torch.rand(1)
        if fails:
            raise KeyError("on purpose")
        return x

    before = state_of(net)
    if fails:
        with pytest.raises(KeyError):
            grad_cam(net, IMAGES, perturbations={"rude": rude})
    else:
        grad_cam(net, IMAGES, perturbations={"rude": rude}, controls=1)
    assert state_of(net) == before


def test_works_on_frozen_models_double_precision_and_without_grad_mode():
    net = CNN().eval()
    expected = clean_map(grad_cam(net, IMAGES))
    with torch.no_grad():
        torch.testing.assert_close(clean_map(grad_cam(net.requires_grad_(False), IMAGES)), expected, **ROUNDING)
    with torch.inference_mode():
        torch.testing.assert_close(clean_map(grad_cam(net, IMAGES.clone())), expected, **ROUNDING)
    channels_last = IMAGES.to(memory_format=torch.channels_last)
    torch.testing.assert_close(clean_map(grad_cam(net, channels_last)), expected, **ROUNDING)
    torch.testing.assert_close(clean_map(grad_cam(net.double(), IMAGES)).float(), expected, **ROUNDING)


def test_results_are_labelled_and_survive_netcdf(tmp_path):
    result = grad_cam(CNN().eval(), IMAGES, perturbations={"pgd": PGD(eps=0.05)}, controls=1)
    assert result["map"].dims == ("condition", "image", "row", "col")
    assert result["condition"].values.tolist() == ["clean", "pgd"]
    for variable in result.data_vars.values():
        assert {"long_name", "units", "definition"} <= variable.attrs.keys()
    result.to_netcdf(tmp_path / "cam.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "cam.nc", engine="h5netcdf") as stored:
        xr.testing.assert_identical(stored.load(), result)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "blocks.1.norm"}, "did you mean 'blocks.1.norm"),
        ({"layer": "head"}, r"'head', \(6,\) for one input, is no map"),
        ({"layer": "norm"}, "depend on no feature map.*only its class token counts"),
        ({"target": "best"}, "did you mean|valid choices: predicted"),
        ({"target": "true"}, "needs data with labels"),
        ({"target": 6}, "whole numbers from 0 to 5"),
        ({"target": [0, 1]}, "one for each of the 5 images"),
        ({"target": 0.5}, "whole numbers"),
        ({"limit": 0}, "at least 1"),
        ({"perturbations": [PGD(eps=0.1)]}, "must map names"),
        ({"perturbations": {"clean": PGD(eps=0.1)}}, "other than 'clean'"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(NetprobeError, match=message):
        grad_cam(ViT().eval(), IMAGES, **settings)


def test_a_model_without_maps_is_an_error():
    with pytest.raises(NetprobeError, match=r"depend on no feature map \(looked at: none"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(288, 6)), IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_at_full_size(name):
    result = grad_cam(get_model(name).eval(), torch.rand(1, 3, 224, 224))
    assert result.attrs["target_site"] == TORCHVISION[name][1]
    assert result.attrs["grid"] == {"resnet18": "7x7", "swin_t": "7x7", "vit_b_16": "14x14"}[name]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    net = CNN().eval()
    expected = grad_cam(net, IMAGES, perturbations={"noise": GaussianNoise(0.1)}, controls=1)
    # 1e-4: other kernels
    xr.testing.assert_allclose(
        grad_cam(net.cuda(), IMAGES, perturbations={"noise": GaussianNoise(0.1)}, controls=1)[["map"]],
        expected[["map"]],
        rtol=1e-4,
        atol=1e-6,
    )
