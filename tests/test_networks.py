"""Probes of networks of many kinds against plain hooks: in-place layers, tokens, channels last, images on axis 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny import QUIET, Recurrent, Tokens, lookup, seeded, shifted
from torch import Tensor, nn

import netprobe as npb
from netprobe.data import load


class Rows(nn.Module):
    """A network of sequences on one-channel images: their rows."""

    def __init__(self, build: Callable[..., nn.Module], *args) -> None:
        super().__init__()
        self.net = build(*args)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x[:, 0])


def resnet() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=2)


def swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    sizes = {"patch_size": [4, 4], "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": [4, 4]}
    return SwinTransformer(**sizes, num_classes=2)


def vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(16, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=2)


@dataclass
class Case:
    """A network, the shape of its images, and sites with the axes of images and of channels of what they return."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    sites: dict[str, tuple[int, int]]


MAPS, LAST, TOKENS, TOKENS_FIRST, VECTOR = (0, 1), (0, 3), (0, 2), (1, 2), (0, 1)

CASES = {
    "resnet": Case(resnet, (3, 32, 32), {"layer1.0.conv1": MAPS, "layer1.1.bn2": MAPS, "layer2.0.downsample.0": MAPS}),
    "swin": Case(swin, (3, 32, 32), {"features.0.0": MAPS, "features.1.0.mlp.0": LAST, "features.2.reduction": LAST}),
    "vit": Case(vit, (3, 16, 16), {"conv_proj": MAPS, "encoder.layers.encoder_layer_0.mlp.0": TOKENS}),
    "lstm": Case(lambda: Rows(Recurrent), (1, 6, 5), {"net.lstm": TOKENS_FIRST, "net.head": VECTOR}),
    "tokens": Case(lambda: Rows(Tokens, True), (1, 6, 5), {"net.encoder.layers.0.linear1": TOKENS}),
    "tokens first": Case(lambda: Rows(Tokens, False), (1, 6, 5), {"net.encoder.layers.0.linear1": TOKENS_FIRST}),
}


def hooked(model: nn.Module, x: Tensor, sites: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """(image, location, channel) of what the modules return, by hooks that copy; of tuples the first tensor."""
    found: dict[str, np.ndarray] = {}
    handles = []
    for name, axes in sites.items():

        def keep(_module, _args, output, name=name, axes=axes) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            rows = np.moveaxis(tensor.detach().numpy().copy(), axes, (0, -1))
            found[name] = rows.reshape(len(rows), -1, rows.shape[-1])

        handles.append(model.get_submodule(name).register_forward_hook(keep))
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()(x)
    torch.backends.mha.set_fastpath_enabled(fused)
    for handle in handles:
        handle.remove()
    return found


def hoyer(rows: np.ndarray) -> np.ndarray:
    """Per image, over locations that are not silent."""
    ratio = np.square(np.abs(rows).sum(-1)) / np.square(rows).sum(-1)
    return np.nanmean((ratio - 1) / (rows.shape[-1] - 1), axis=1)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_kind_of_network(case, paired):
    """1e-9: float64, through tens of layers that sum in other orders for other batches."""
    model = seeded(case.build).double()
    data = load((torch.rand(10, *case.shape), torch.arange(10) % 2))
    other = shifted(data)
    names = {f"{name}/0" if name.endswith("lstm") else name: name for name in case.sites}
    metrics = [npb.PSR(), npb.Hoyer(), npb.Spectrum(definitions=("channel", "unit")), npb.CKA()]
    tree = npb.probe(
        {"m": model}, data, lookup(other), metrics, list(names), batch_size=4, dtype="float64", paired=paired, **QUIET
    )
    assert sorted(tree["m/psr"].site.values) == sorted(names)
    clean, perturbed = (hooked(model, x.double(), case.sites) for x in (data.inputs, other))
    for site, name in names.items():
        a, b = clean[name], perturbed[name]
        flat, change = a.reshape(10, -1), (b - a).reshape(10, -1)
        psr = np.linalg.norm(change, axis=1) / np.linalg.norm(flat, axis=1)
        np.testing.assert_allclose(tree["m/psr/psr"].sel(norm="2", site=site)[0], psr, rtol=1e-9)
        np.testing.assert_allclose(tree["m/hoyer/hoyer_image"].sel(site=site)[0], hoyer(a), rtol=1e-9)
        for definition, rows in (("channel", a.reshape(-1, a.shape[-1])), ("unit", flat)):
            expected = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 / (len(rows) - 1)
            expected = expected[: min(rows.shape[1], len(rows) - 1)]
            found = tree["m/spectrum/eigenvalues"].sel(definition=definition, site=site, condition="clean")
            np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-9, atol=1e-12 * expected[0])
        x, y = (v.reshape(10, -1) - v.reshape(10, -1).mean(0) for v in (a, b))
        cka = np.sum((x @ x.T) * (y @ y.T)) / np.linalg.norm(x @ x.T) / np.linalg.norm(y @ y.T)
        np.testing.assert_allclose(tree["m/cka/cka"].sel(site=site), cka, rtol=1e-9)
