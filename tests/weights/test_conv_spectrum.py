"""Singular values layer by layer: what the Dataset says, the laws it keeps, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional as F
from unrolled import reference

from netprobe.errors import NetprobeError
from netprobe.models import Normalized
from netprobe.settings import SpectrumSettings
from netprobe.weights.conv_spectrum import conv_spectrum
from netprobe.weights.operators import operator_of
from netprobe.weights.singular_values import LEVELS
from netprobe.weights.solving import choose_method

METHODS = ("exact", "circular", "lanczos")
every_method = pytest.mark.parametrize("method", METHODS)
SHAPE = (3, 8, 6)


class Net(nn.Module):
    """A convolution, a strided one, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.second(self.first(x))).mean((2, 3)))


def spectrum(model: nn.Module, layers: object = None, shape: tuple = SHAPE, **settings) -> xr.Dataset:
    return conv_spectrum(model, shape, layers, **{"progress": False, "values": True, **settings})


def test_the_resolution_each_layer_sees():
    model = Net()
    found = spectrum(model, method="exact")
    assert found.layer.values.tolist() == ["first", "second", "head"]
    assert found.kind.values.tolist() == ["Conv2d", "Conv2d", "Linear"]
    assert found.input_size.values.tolist() == ["3x8x6", "5x8x6", "4"]
    assert found.output_size.values.tolist() == ["5x8x6", "4x4x3", "2"]
    for layer, shape in {"first": (3, 8, 6), "second": (5, 8, 6), "head": (4,)}.items():
        expected, row = reference(getattr(model, layer), shape), found.sel(layer=layer)
        values = row["values"].values[: int(row["count"])]
        np.testing.assert_allclose(values, expected, rtol=1e-5)  # float32 through the reference's module
        assert float(row.operator_norm) == pytest.approx(expected[0], rel=1e-6)
        assert float(row.median_normalized) == pytest.approx(np.median(expected) / expected[0], rel=1e-5)
        share = expected / expected.sum()
        assert float(row.effective_rank) == pytest.approx(np.exp(-np.sum(share * np.log(share))), rel=1e-5)
        assert float(row.stable_rank) == pytest.approx(np.sum(expected**2) / expected[0] ** 2, rel=1e-5)
        ranks = LEVELS * (len(expected) - 1)
        at_levels = np.interp(ranks, np.arange(len(expected)), expected) / expected[0]
        np.testing.assert_allclose(row.normalized, at_levels, rtol=1e-5)
        k = min(20, len(expected))
        np.testing.assert_allclose(row.leading[:k], expected[:k], rtol=1e-5)
        np.testing.assert_allclose(row.trailing[:k], expected[::-1][:k], rtol=1e-4)
        assert np.isnan(row.leading[k:]).all() and np.isnan(row.trailing[k:]).all()
    assert float(found.log10_norm_product) == pytest.approx(np.log10(found.operator_norm).sum().item())


@every_method
def test_every_variable_says_what_it_is(method):
    found = spectrum(Net(), method=method, leading=4)
    for name, values in found.data_vars.items():
        assert {"long_name", "units", "definition"} <= values.attrs.keys(), name
    assert json.loads(found.attrs["settings"])["method"] == method
    assert found.method.values[:2].tolist() == [method] * 2
    assert set(found.padding.values) == {"circular" if method == "circular" else "zero"}
    assert (found.note == "").all()


@every_method
def test_bounds_hold(method):
    found = spectrum(Net(), method=method, leading=6)
    exact = spectrum(Net(), method="exact", leading=6) if method == "lanczos" else found
    assert (found.operator_norm_upper >= found.operator_norm).all()
    assert (found.leading_upper >= found.leading).where(found.leading.notnull(), True).all()
    assert (found.kernel_bound >= found.operator_norm * (1 - 1e-6)).all()
    assert (found.frobenius >= found.operator_norm * (1 - 1e-6)).all()
    assert found.upper.notnull().all() and exact.upper.notnull().all()


def test_certified_bounds_of_lanczos_are_above_the_exact_values():
    model = Net()
    found, exact = spectrum(model, method="lanczos"), spectrum(model, method="exact")
    values = exact.normalized * exact.operator_norm
    assert (found.upper >= values * (1 - 1e-6)).all()
    unbounded = spectrum(model, "first", method="lanczos", bounds=False)
    assert unbounded.operator_norm_upper.isnull().all() and unbounded.upper.isnull().all()


@every_method
def test_scaling_the_kernel_scales_the_values(method):
    model = Net().double()
    before = spectrum(model, method=method, leading=4)
    with torch.no_grad():
        model.first.weight *= -3
    after = spectrum(model, method=method, leading=4)
    for name, factor in {"operator_norm": 3, "frobenius": 3, "kernel_bound": 3, "median_normalized": 1}.items():
        expected = before[name].sel(layer="first") * factor
        # lanczos runs in float32, and its distribution, though not its ends, feels every rounding
        rtol = 1e-2 if (method, name) == ("lanczos", "median_normalized") else 1e-5
        np.testing.assert_allclose(after[name].sel(layer="first"), expected, rtol=rtol)


@every_method
def test_permuting_channels_changes_nothing(method):
    """Of what is exact; start vectors of lanczos meet another operator, so its distribution only nearly agrees."""
    model = Net().double()
    before = spectrum(model, "first", method=method, leading=4)
    with torch.no_grad():
        model.first.weight.copy_(model.first.weight[[4, 2, 0, 1, 3]][:, [2, 0, 1]])
    after = spectrum(model, "first", method=method, leading=4)
    rtol = 1e-5 if method == "lanczos" else 1e-9
    np.testing.assert_allclose(after.leading, before.leading, rtol=rtol)
    np.testing.assert_allclose(after.normalized, before.normalized, atol=0.15 if method == "lanczos" else 1e-9)


@every_method
def test_sum_of_squares_is_the_frobenius_norm(method):
    found = spectrum(Net(), method=method)
    if method == "lanczos":
        assert found["values"].isnull().all()
    else:
        np.testing.assert_allclose(np.sqrt(np.square(found["values"]).sum("index")), found.frobenius, rtol=1e-9)


@pytest.mark.parametrize("method", ["exact", "circular"])
def test_groups_are_the_union_of_their_blocks(method):
    grouped = nn.Conv2d(6, 4, 3, padding=1, groups=2)
    whole = spectrum(nn.Sequential(grouped), method=method, shape=(6, 5, 4))["values"].values[0]
    halves = []
    for part in range(2):
        half = nn.Conv2d(3, 2, 3, padding=1)
        half.weight.data = grouped.weight.data[2 * part : 2 * part + 2]
        halves.append(spectrum(nn.Sequential(half), method=method, shape=(3, 5, 4))["values"].values[0])
    np.testing.assert_allclose(whole, np.sort(np.concatenate(halves))[::-1], rtol=1e-9)


def test_a_transposed_convolution_has_the_values_of_the_convolution():
    conv, back = nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 3, padding=1)
    back.weight.data = conv.weight.data
    one = spectrum(nn.Sequential(conv), shape=(3, 6, 5))["values"]
    np.testing.assert_allclose(spectrum(nn.Sequential(back), shape=(4, 6, 5))["values"], one, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_real_type(dtype):
    """As the same numbers in float64."""
    model = Net().to(dtype)
    as_double = Net().double()
    as_double.load_state_dict(model.state_dict())
    np.testing.assert_allclose(spectrum(model)["values"], spectrum(as_double)["values"], rtol=1e-12)


def test_auto_says_what_it_chose():
    def chosen(module: nn.Module, shape: tuple) -> str:
        return choose_method(operator_of(module, shape, module(torch.zeros(1, *shape)).shape[1:]), SpectrumSettings())

    assert chosen(nn.Conv2d(4, 4, 3, padding=1), (4, 8, 8)) == "exact"
    assert chosen(nn.Conv2d(256, 512, 1, stride=2), (256, 32, 32)) == "exact"
    assert chosen(nn.Conv2d(64, 64, 3, padding=1), (64, 32, 32)) == "lanczos"
    assert chosen(nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"), (64, 32, 32)) == "circular"
    assert chosen(nn.Conv2d(3, 64, 16, stride=16), (3, 224, 224)) == "exact"


def test_circular_padding_is_the_published_convention_whatever_the_method():
    model = Net()
    found = {method: spectrum(model, "first,second", method=method, padding="circular") for method in METHODS}
    np.testing.assert_allclose(found["exact"]["values"], found["circular"]["values"], atol=1e-9)
    np.testing.assert_allclose(found["lanczos"].leading, found["circular"].leading, rtol=1e-5)
    assert set(found["exact"].padding.values) == {"circular"}


def test_the_model_and_the_random_state_are_left_as_found():
    model = Net().train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    spectrum(model)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_names_of_a_normalised_model_are_its_own():
    assert spectrum(Normalized(Net(), 0.5, 0.2)).layer.values.tolist() == ["first", "second", "head"]


# what cannot be analysed


class Awkward(Net):
    """Beside the usual layers, ones that cannot be analysed, each for its own reason."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(3, 3, 3)
        self.nan = nn.Conv2d(3, 3, 1)
        self.nan.weight.data[0] = torch.nan
        self.reflecting = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
        self.standardised = Standardised(3, 3, 3, padding=1)
        self.complex = nn.Conv2d(2, 2, 1, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.standardised(self.reflecting(x))
        return super().forward(x) + 0 * self.nan(x).sum().nan_to_num()


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight - self.weight.mean(), self.bias, padding=1)


REASONS = {
    "unused": "never reached by the dry run",
    "nan": "3 of 9 numbers of a weight are NaN",
    "reflecting": "'reflect' is neither",
    "standardised": "the forward of this Standardised is not the linear map of its weight",
    "complex": "complex64, not real",
}


@pytest.mark.parametrize("name", REASONS)
def test_a_reasoned_row_or_an_error_when_named(name):
    found = spectrum(Awkward()).sel(layer=name)
    assert REASONS[name] in str(found.note.values)
    numbers = [v for v in found.data_vars.values() if v.dtype.kind == "f" and v.name != "log10_norm_product"]
    assert all(v.isnull().all() for v in numbers)
    assert found.method == ""
    with pytest.raises(NetprobeError, match=f"layer '{name}'.*{REASONS[name]}"):
        spectrum(Awkward(), name)


def test_the_others_are_analysed_all_the_same():
    found = spectrum(Awkward(), "*")
    assert found.operator_norm.sel(layer=["first", "second", "head"]).notnull().all()


def test_lazy_layers_stay_lazy():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyConv2d(5, 3))
    found = spectrum(model)
    assert found.note.values[0] == "" and "lazy" in found.note.values[1]
    assert isinstance(model[1].weight, nn.parameter.UninitializedParameter)
    with pytest.raises(NetprobeError, match="layer '1' cannot be analysed: lazy"):
        spectrum(model, "1")


def test_quantised_weights_are_refused():
    class Linear(nn.Module):
        """As torch's quantised layers: of the usual name, with packed weights behind a method."""

        def weight(self) -> Tensor:
            return torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            return x

    found = spectrum(nn.Sequential(nn.Conv2d(3, 4, 3), Linear()))
    assert "quantised" in found.note.values[1] and np.isnan(found.operator_norm.values[1])


def test_a_layer_called_at_two_sizes_is_noted():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.max_pool2d(self.conv(x), 2))

    found = spectrum(Twice())
    assert "the numbers are for 3x8x6, not for 3x4x3" in found.note.values[0]
    assert found["count"].values[0] == 3 * 8 * 6


def test_a_stride_that_does_not_divide_has_no_circular_row():
    found = spectrum(Net(), shape=(3, 7, 6), method="circular")
    assert "stride 2 does not divide the input size 7" in str(found.note.sel(layer="second").values)
    assert found.operator_norm.isnull().values.tolist() == [False, True, False]
    with pytest.raises(NetprobeError, match=r"layer 'second'.*does not divide"):
        spectrum(Net(), "second", shape=(3, 7, 6), method="circular")


def test_more_memory_than_there_is():
    found = spectrum(Net(), method="exact", memory="100KB")
    assert "GiB, more than memory='100KB'" in str(found.note.sel(layer="first").values)
    with pytest.raises(NetprobeError, match=r"layer 'first'.*more than memory"):
        spectrum(Net(), "first", method="exact", memory="100KB")


def test_the_zero_operator():
    model = Net()
    model.first.weight.data.zero_()
    row = spectrum(model).sel(layer="first")
    assert float(row.operator_norm) == 0 and row.normalized.isnull().all() and np.isnan(row.effective_rank)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "exakt"}, "unknown method 'exakt': did you mean 'exact'"),
        ({"padding": "same"}, "unknown padding"),
        ({"precision": "half"}, "unknown precision"),
        ({"leading": 0}, "leading=0"),
        ({"memory": "lots"}, "cannot read the size"),
        ({"colour": 1}, "unknown setting of conv_spectrum 'colour'"),
        ({"layers": "frist"}, "did you mean 'first'"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(NetprobeError, match=message):
        conv_spectrum(Net(), SHAPE, **settings)


@pytest.mark.parametrize("shape", [(3,), (4, 8, 6), (), (3, 0, 6)])
def test_inputs_the_model_does_not_take(shape):
    with pytest.raises(NetprobeError, match="input_shape"):
        conv_spectrum(Net(), shape)


def test_a_progress_bar(capsys):
    conv_spectrum(Net(), SHAPE)
    assert "singular values: 100%" in capsys.readouterr().err
    spectrum(Net())
    assert not capsys.readouterr().err
