from __future__ import annotations

import pytest
import torch
from torch import nn

from netprobe.attribution.feature_maps import Layout, candidate_maps, effective, layouts, named_site, rerouted, size_of
from netprobe.errors import NetprobeError
from netprobe.sites import find_sites

IMAGES = torch.rand(2, 3, 12, 8)  # every axis of another length


class Transformer(nn.Module):
    """Patches of 4x4 (3x2 places), a class token, one attention whose matrix is a site, logits of that token."""

    def __init__(self, patches: nn.Module | None = None, tokens: int = 7) -> None:
        super().__init__()
        self.patches = patches or nn.Conv2d(3, 6, 4, stride=4)
        self.first = nn.Parameter(torch.randn(1, 1, 6))
        self.norm1, self.qkv, self.weights = nn.LayerNorm(6), nn.Linear(6, 18), nn.Softmax(-1)
        self.norm2, self.head = nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1)
        q, k, v = self.qkv(self.norm1(tokens)).chunk(3, -1)
        matrix = self.weights((q @ k.transpose(1, 2))[:, None])  # (N, 1, T, T): square, like a map
        return self.head(self.norm2(tokens + matrix[:, 0] @ v)[:, 0])


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.norm(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))


class SharedReLU(nn.Module):
    """One in-place ReLU called twice, after batch norms whose outputs it overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, stride=2), nn.BatchNorm2d(4)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(4, 5)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.head(self.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def maps_of(model: nn.Module, x: torch.Tensor = IMAGES, **kwargs) -> dict[str, Layout]:
    return {layout.site.name: layout for layout in layouts(find_sites(model.eval(), x), size_of(x), **kwargs)}


def test_layouts_of_maps_tokens_and_channels_last():
    transformer, last = maps_of(Transformer()), maps_of(ChannelsLast())
    assert (transformer["patches"].height, transformer["patches"].width) == (3, 2)
    assert (transformer["norm1"].height, transformer["norm1"].width, transformer["norm1"].prefix) == (3, 2, 1)
    assert (last["norm"].height, last["norm"].width) == (3, 2)
    assert "head" not in last  # (N, K) has no places


def test_waveforms_are_maps_of_one_row():
    net = nn.Sequential(nn.Unflatten(1, (1, 20)), nn.Conv1d(1, 3, 5, stride=5), nn.Flatten(), nn.Linear(12, 2))
    assert (maps_of(net, torch.rand(2, 20))["1"].height, maps_of(net, torch.rand(2, 20))["1"].width) == (1, 4)


@pytest.mark.parametrize(
    ("model", "site"), [(Transformer(), "patches"), (Transformer(), "norm1"), (ChannelsLast(), "norm")]
)
def test_from_map_undoes_to_map(model, site):
    layout = maps_of(model)[site]
    tensor = torch.rand(2, *layout.site.shape)
    maps = layout.to_map(tensor)
    assert maps.shape == (2, 6, 3, 2)
    assert torch.equal(layout.from_map(maps, tensor), tensor)
    replaced = layout.from_map(maps + 1, tensor)  # every place moves, the class token does not
    assert int((replaced != tensor).sum()) == maps.numel()


def test_token_order_is_row_by_row():
    layout = maps_of(Transformer())["norm1"]
    tokens = torch.arange(7.0)[None, :, None].expand(1, 7, 6)
    assert layout.to_map(tokens)[0, 0].tolist() == [[1, 2], [3, 4], [5, 6]]


class Unfolded(Transformer):
    """Without a convolution there is no map that shows the grid."""

    def __init__(self, patch: int) -> None:
        super().__init__(nn.Sequential(nn.Unfold(patch, stride=patch), _Project(3 * patch**2)))


class _Project(nn.Module):
    def __init__(self, values: int) -> None:
        super().__init__()
        self.linear = nn.Linear(values, 6)

    def forward(self, x):
        return self.linear(x.transpose(1, 2)).transpose(1, 2)


def test_grid_of_tokens_from_the_aspect_of_the_input():
    layout = maps_of(Unfolded(4))["norm1"]  # 7 tokens: 3x2 patches of 4x4 and a class token
    assert (layout.height, layout.width, layout.prefix) == (3, 2, 1)


def test_ambiguous_grid_is_an_error_that_names_the_remedy():
    x = torch.rand(2, 3, 48, 48)  # 10 tokens: 3x3 and a class token, or 2x2 and six registers
    with pytest.raises(NetprobeError, match=r"3x3 or 2x2.*grid="):
        maps_of(Unfolded(16), x)
    assert maps_of(Unfolded(16), x, grid=(3, 3))["norm1"].prefix == 1


def test_attention_matrices_and_pools_that_repeat_are_no_features():
    transformer = maps_of(Transformer(), torch.rand(2, 3, 8, 8))
    assert "weights" in transformer  # 5x5, square as the input is
    assert [m.site.name for m in candidate_maps(list(transformer.values()))] == ["patches", "norm1", "norm2"]
    repeating = nn.Sequential(nn.Conv2d(3, 4, 8), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(196, 5))
    assert not candidate_maps(list(maps_of(repeating, torch.rand(2, 3, 8, 8)).values()))


def test_only_maps_that_reach_the_scores_are_effective():
    model, maps = Transformer().eval(), maps_of(Transformer())
    felt = effective(model, [maps["norm1"], maps["norm2"]], lambda: model(IMAGES).amax(1))
    assert [layout.site.name for layout in felt] == ["norm1"]  # behind the attention only the class token counts


@pytest.mark.parametrize("model", [Transformer(), ChannelsLast(), SharedReLU()])
def test_rerouting_through_nothing_changes_no_bit(model):
    maps = list(maps_of(model).values())
    expected = model(IMAGES)
    seen = []
    with rerouted(model, maps, lambda layout, values: seen.append(layout) or values):
        assert torch.equal(model(IMAGES), expected)
        assert torch.equal(model(IMAGES), expected)  # calls are counted anew in every pass
    assert seen == maps * 2
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_rerouting_tells_calls_of_one_module_apart():
    model = SharedReLU()
    maps = maps_of(model)
    with rerouted(model, [maps["relu#0"]], lambda _, values: torch.zeros_like(values)):
        silenced = model(IMAGES)
    expected = model.head(torch.relu(model.bn2(model.conv2.bias[None, :, None, None].expand(2, 4, 6, 4))).mean((2, 3)))
    # Convolving zeros leaves the bias. 1e-6: sums in another order.
    torch.testing.assert_close(silenced, expected, atol=1e-6, rtol=0)


def test_rerouting_removes_its_hooks_after_an_exception():
    model = SharedReLU().eval()

    def fail(layout, values):
        raise KeyError("on purpose")

    with pytest.raises(KeyError), rerouted(model, list(maps_of(model).values()), fail):
        model(IMAGES)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_named_site():
    model = SharedReLU().eval()
    sites = find_sites(model, IMAGES)
    assert named_site(model, sites, "relu#0").name == "relu#0"
    assert named_site(model, sites, "relu").name == "relu#1"  # the last call
    assert named_site(model, sites, model.bn1).name == "bn1"
    with pytest.raises(NetprobeError, match="did you mean 'conv1'"):
        named_site(model, sites, "conv11")
    with pytest.raises(NetprobeError, match="no part of this SharedReLU"):
        named_site(model, sites, nn.ReLU())
