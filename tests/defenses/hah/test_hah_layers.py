"""HaH layers: their equations, their gradients, and what the paper's specification promises of them."""

import copy

import pytest
import torch
from reference_hah import block, divided, responses, thresholded, top_and_rest
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from netprobe.defenses.hah import (
    AdaptiveThreshold,
    DivisiveNorm,
    HaHBlock,
    NormalizedConv2d,
    StandardBlock,
    hebbian_responses,
    rectified_response,
)
from netprobe.defenses.hah.blocks import strongest
from netprobe.defenses.hah.selecting import kth_smallest
from netprobe.errors import NetprobeError
from netprobe.perturb.backward import declared_passes, surrogates

LAYOUTS = [torch.contiguous_format, torch.channels_last]
DOUBLE = {"rtol": 1e-10, "atol": 1e-12}  # float64, a few hundred operations


def random(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def hah(channels=3, width=10, pool=3, rule="keep", dtype=torch.float64, **geometry):
    torch.manual_seed(0)
    conv = NormalizedConv2d(channels, width, 3, **({"padding": 1} | geometry), bias=False, dtype=dtype)
    return HaHBlock(conv, DivisiveNorm(pool), AdaptiveThreshold(rule=rule))


# --- the k-th smallest ---


@pytest.mark.parametrize("n", [1, 2, 7, 64, 205, 1024])
@pytest.mark.parametrize("kind", ["signed", "rectified", "few values", "constant"])
def test_the_kth_smallest_is_that_of_a_sort(n, kind):
    rows = random(5, 3, n, dtype=torch.float32)
    rows = {"signed": rows, "rectified": rows.relu(), "few values": rows.round(), "constant": rows * 0 - 1}[kind]
    ordered = rows.sort(-1).values
    for k in {1, max(n // 2, 1), max(n - 1, 1), n}:
        assert torch.equal(kth_smallest(rows, k), ordered[..., k - 1 : k])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_kth_smallest_in_other_precisions(dtype):
    rows = random(4, 33).to(dtype)
    assert torch.equal(kth_smallest(rows, 20), rows.sort(-1).values[..., 19:20])


def test_infinity_and_nan_are_the_largest():
    rows = torch.tensor([[1.0, torch.inf, -torch.inf, torch.nan]])
    assert [kth_smallest(rows, k).item() for k in (1, 2, 3)] == [-torch.inf, 1, torch.inf]
    assert kth_smallest(rows, 4).isnan()


def test_rows_that_are_not_contiguous_and_many_threads():
    rows = random(40, 64, 128, dtype=torch.float32).transpose(1, 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(kth_smallest(rows, 50), rows.sort(-1).values[..., 49:50])
    finally:
        torch.set_num_threads(before)


# --- implicit weight normalisation ---


@pytest.mark.parametrize(
    "geometry",
    [
        {"padding": 1},
        {"stride": 2, "padding": (2, 0), "dilation": (1, 2)},
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": "same", "padding_mode": "circular", "groups": 2},
    ],
)
def test_filters_are_divided_by_their_norms(geometry):
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, **geometry, dtype=torch.float64)
    conv, x = NormalizedConv2d.of(plain), random(2, 4, 9, 8)
    norms = (plain.weight.flatten(1).norm(dim=1) + 1e-6).view(-1, 1, 1)
    expected = (plain(x) - plain.bias.view(-1, 1, 1)) / norms
    torch.testing.assert_close(conv(x), expected, **DOUBLE)
    torch.testing.assert_close(rectified_response(conv, x, 2).y, expected.relu(), **DOUBLE)


def test_the_scale_of_a_filter_does_not_matter():
    block, x = hah(dtype=torch.float32), random(2, 3, 6, 6, dtype=torch.float32)
    before = block(x)
    with torch.no_grad():
        block.conv.weight *= torch.logspace(-1, 2, 10).view(-1, 1, 1, 1)
    # rtol of the specification; the 1e-6 beside norms of 0.6 and the rounding of float32 stay far below it
    torch.testing.assert_close(block(x), before, rtol=1e-4, atol=1e-4)


def test_only_the_direction_of_a_filter_is_learnt():
    conv, x = hah().conv, random(2, 3, 6, 6)
    (slope,) = torch.autograd.grad(conv(x).square().sum(), conv.weight)
    along = (slope * conv.weight).sum((1, 2, 3)).abs() / (
        slope.flatten(1).norm(dim=1) * conv.weight.flatten(1).norm(dim=1)
    )
    assert along.max() < 1e-5  # not 0: of the 1e-6 beside norms of 0.6


def test_making_one_draws_no_random_number_and_keeps_the_weights():
    plain = nn.Conv2d(3, 4, 3)
    plain.weight.requires_grad_(False)
    before = torch.random.get_rng_state()
    made = NormalizedConv2d.of(plain.eval())
    assert torch.equal(before, torch.random.get_rng_state())
    assert made.weight is plain.weight
    assert made.bias is None
    assert not made.training


# --- divisive normalisation ---


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pool", [1, 3, 5])
@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0])
def test_divisive_normalisation_is_its_equation(pool, sigma, layout):
    y = random(3, 4, 5, 7).relu().contiguous(memory_format=layout)
    torch.testing.assert_close(DivisiveNorm(pool, sigma)(y), divided(y, pool, sigma), **DOUBLE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pool", [1, 3])
@pytest.mark.parametrize("sigma", [0.1, 0.6])
def test_its_gradient_goes_through_the_mean_and_its_largest(sigma, pool, layout):
    y = (random(2, 3, 4, 5).abs() + 0.1).contiguous(memory_format=layout).requires_grad_()
    assert gradcheck(DivisiveNorm(pool, sigma), y)
    assert gradgradcheck(DivisiveNorm(pool, sigma), y)
    weights = random(2, 3, 4, 5, seed=2)
    ours, theirs = (
        torch.autograd.grad((weights * z).sum(), y)[0] for z in (DivisiveNorm(pool, sigma)(y), divided(y, pool, sigma))
    )
    torch.testing.assert_close(ours, theirs, **DOUBLE)


@pytest.mark.parametrize("pool", [1, 3])
def test_where_all_channels_are_equal_and_strongest_it_gives_one_and_nowhere_more_than_their_number(pool):
    y = random(2, 6, 8, 8).relu()
    y[:, :, 3, 4] = 9.0
    z = DivisiveNorm(pool)(y)
    torch.testing.assert_close(z[:, :, 3, 4], torch.ones(2, 6, dtype=torch.float64), rtol=1e-7, atol=0)  # 1e-7 / 9
    alone = torch.zeros(1, 6, 8, 8, dtype=torch.float64)
    alone[0, 2, 3, 3] = 5.0
    assert max(z.max(), DivisiveNorm(pool)(alone).max()) <= 6
    assert DivisiveNorm(pool)(alone).max() > 5.99


def test_an_image_of_zeros_stays_one_and_others_do_not_matter():
    y = random(3, 4, 5, 5).relu()
    y[1] = 0
    z = DivisiveNorm()(y)
    assert not z[1].any()
    torch.testing.assert_close(z[2:], DivisiveNorm()(y[2:]), rtol=0, atol=0)


def test_half_precision_is_near():
    """Only what it gives is rounded: what it divides by has the precision of float32."""
    y = random(2, 8, 6, 6, dtype=torch.float32).relu()
    for dtype in (torch.float16, torch.bfloat16):
        z = DivisiveNorm()(y.to(dtype))
        assert z.dtype == dtype
        assert (z == DivisiveNorm()(y.to(dtype).float()).to(dtype)).float().mean() > 0.99  # sums in another order


# --- the threshold ---


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", ["keep", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_threshold_is_its_equation(rule, dtype, layout):
    z = random(2, 3, 7, 6).to(dtype).relu().contiguous(memory_format=layout)
    assert torch.equal(AdaptiveThreshold(rule=rule)(z), thresholded(z, rule))


@pytest.mark.parametrize(("side", "kept"), [(32, 205), (16, 52), (8, 13), (4, 4), (2, 1), (1, 1)])
def test_a_channel_keeps_a_fifth_of_its_places(side, kept):
    z = random(2, 3, side, side).abs() + 1
    o = AdaptiveThreshold()(z)
    assert (o != 0).sum((2, 3)).tolist() == [[kept] * 3] * 2
    assert torch.equal(o[o != 0], z[o != 0])
    for n in range(2):
        for c in range(3):
            assert z[n, c][o[n, c] == 0].numel() == 0 or z[n, c][o[n, c] == 0].max() < z[n, c][o[n, c] > 0].min()


@pytest.mark.parametrize(("keep", "kept"), [(0.1, 10), (0.3, 30), (0.9, 90), (1.0, 100)])
def test_shares_of_whole_numbers_are_whole(keep, kept):
    z = torch.arange(1.0, 101).view(1, 1, 10, 10)
    assert (AdaptiveThreshold(keep)(z) != 0).sum() == kept


def test_where_more_than_four_fifths_are_zero_the_positives_remain():
    z = torch.zeros(1, 2, 10, 10)
    z[0, 0, 0, :7] = torch.arange(1.0, 8)  # 7 of 100
    z[0, 1, :3] = 1 + torch.arange(30.0).view(3, 10)  # 30 of 100: the threshold takes 10
    o = AdaptiveThreshold()(z)
    assert torch.equal(o[0, 0], z[0, 0])
    assert o[0, 1][o[0, 1] > 0].tolist() == list(range(11, 31))


@pytest.mark.parametrize("rule", ["keep", "mean"])
def test_no_gradient_goes_through_the_threshold(rule):
    z = random(2, 3, 5, 5).abs().requires_grad_()
    weights = random(2, 3, 5, 5, seed=2)
    o = AdaptiveThreshold(rule=rule)(z)
    (slope,) = torch.autograd.grad((weights * o).sum(), z)
    assert torch.equal(slope, weights * (o > 0))


def test_without_a_threshold_nothing_changes():
    z = random(2, 3, 5, 5)
    assert AdaptiveThreshold(rule="none")(z) is z


def test_attacks_try_the_true_gradient_and_one_that_no_threshold_stops():
    z = random(2, 3, 6, 6).relu_().requires_grad_()
    threshold, weight = AdaptiveThreshold(), random(2, 3, 6, 6, seed=2)
    (own,) = torch.autograd.grad((threshold(z) * weight).sum(), z)
    assert declared_passes(nn.Sequential(threshold)) == ("own", "through")
    for name, expected in (("own", own), ("through", weight), (None, own)):
        with surrogates(threshold, name):
            o = threshold(z)
            (found,) = torch.autograd.grad((o * weight).sum(), z)
        assert torch.equal(o, threshold(z)) and torch.equal(found, expected)
    assert not torch.equal(own, weight)
    assert declared_passes(AdaptiveThreshold(rule="none")) == ()


def test_what_is_not_a_number_stays_so():
    z = random(1, 2, 5, 5).relu()
    z[0, 0, 1, 1] = torch.nan
    assert AdaptiveThreshold()(z)[0, 0, 1, 1].isnan()


# --- the block ---


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pool", [1, 3])
@pytest.mark.parametrize("rule", ["keep", "mean"])
def test_the_block_is_its_equations(pool, rule, layout):
    net, x = hah(pool=pool, rule=rule), random(2, 3, 6, 7).contiguous(memory_format=layout)
    torch.testing.assert_close(net(x), block(x, net.conv.weight, pool, rule), **DOUBLE)


def test_the_gradients_of_a_block_are_those_of_its_equations():
    net, x = hah(), random(2, 3, 6, 7).requires_grad_()
    weights = random(2, 10, 6, 7, seed=2)
    outs = net(x), block(x, net.conv.weight)
    ours, theirs = (torch.autograd.grad((weights * o).sum(), [x, net.conv.weight]) for o in outs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **DOUBLE)


@pytest.mark.parametrize("scale", [1e-2, 3.0, 1e3])
def test_the_scale_of_an_image_does_not_matter(scale):
    net, x = hah(dtype=torch.float32), random(2, 3, 8, 8, dtype=torch.float32)
    torch.testing.assert_close(net(scale * x), net(x), rtol=1e-4, atol=1e-4)


def test_outputs_are_not_negative_and_a_fifth_of_the_places_remain():
    o = hah()(random(4, 3, 16, 16))
    assert o.min() == 0
    assert (o > 0).sum((2, 3)).max() == 52


def test_train_and_eval_are_one_and_images_do_not_mix():
    net, x = hah(), random(3, 3, 8, 8)
    assert torch.equal(net.train()(x), net.eval()(x))
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), **DOUBLE)


def test_the_standard_block_has_its_batch_norm_behind_relu():
    torch.manual_seed(0)
    net = StandardBlock(NormalizedConv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5)).double()
    x = random(4, 3, 6, 6)
    y = responses(x, net.conv.weight)
    expected = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(net(x), expected, **DOUBLE)


# --- its loss ---


@pytest.mark.parametrize(("channels", "expected"), [(10, 1), (64, 7), (128, 13), (256, 26), (30, 3), (70, 7)])
def test_the_strongest_tenth(channels, expected):
    assert strongest(channels, 0.1) == expected
    assert strongest(100, 0.07) == 7  # 0.07 * 100 is 7.000000000000001


def test_the_loss_of_a_hand_made_place():
    """Filters that give (5, 1, ..., 1) at every place: 5 - 0.1 * 1 = 4.9."""
    conv = NormalizedConv2d(10, 10, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(10).view(10, 10, 1, 1))
    x = torch.ones(2, 10, 3, 4, dtype=torch.float64)
    x[:, 4] = 5
    found = rectified_response(conv, x, 1)
    assert (found.top - 0.1 * found.rest).item() == pytest.approx(4.9, rel=2e-6)  # of the 1e-6 beside the norm


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("strong", [1, 3, 9])
def test_top_and_rest_are_means_of_sorted_channels(strong, layout):
    net, x = hah(), random(3, 3, 6, 5).contiguous(memory_format=layout)
    found, y = rectified_response(net.conv, x, strong), responses(x, net.conv.weight, padding=1)
    torch.testing.assert_close(found.y, y, **DOUBLE)
    for ours, theirs in zip(found[1:], top_and_rest(y, strong), strict=True):
        torch.testing.assert_close(ours, theirs, **DOUBLE)


def test_channels_that_are_equal_are_counted_once():
    conv = NormalizedConv2d(1, 4, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    found = rectified_response(conv, torch.full((1, 1, 2, 2), 3.0, dtype=torch.float64), 2)
    assert found.top.item() == pytest.approx(3, rel=2e-6)
    assert found.rest.item() == pytest.approx(3, rel=2e-6)


@pytest.mark.parametrize("reach", ["own", "all"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "groups": 1}, {"padding": "same", "padding_mode": "reflect"}])
def test_the_gradient_is_that_of_two_convolutions_one_of_them_of_a_detached_input(layout, geometry, reach):
    net = hah(**geometry)
    x = random(2, 3, 6, 7).contiguous(memory_format=layout).requires_grad_()
    with hebbian_responses(net, reach) as found:
        weights = random(*net(x).shape, seed=2)
        found.clear()
        out = net(x)
    ours = torch.autograd.grad((weights * out).sum() - found[0].top + 0.7 * found[0].rest, [x, net.conv.weight])
    out = net(x)
    top, rest = top_and_rest(net.conv(x.detach() if reach == "own" else x).relu(), 1)
    theirs = torch.autograd.grad((weights * out).sum() - top + 0.7 * rest, [x, net.conv.weight])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **DOUBLE)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_gradients_of_responses_are_those_of_small_changes(check):
    """In the filters, of all three results; in x of y alone, unless all are to reach it."""
    conv, x = hah(2, 4).conv, random(1, 2, 4, 4)

    def of_filters(weight):
        made = copy.copy(conv)
        made._parameters = {"weight": weight, "bias": None}
        return tuple(rectified_response(made, x, 2))

    assert check(of_filters, conv.weight.detach().clone().requires_grad_())
    assert check(lambda z: rectified_response(conv, z, 2).y, x.clone().requires_grad_())
    assert check(lambda z: tuple(rectified_response(conv, z, 2, "all")), x.clone().requires_grad_())


def test_an_image_has_no_gradient_of_the_loss():
    net, x = hah(), random(2, 3, 6, 6).requires_grad_()
    found = rectified_response(net.conv, x, 1)
    (slope,) = torch.autograd.grad(found.top + found.rest, x)
    assert not slope.any()


def test_inside_autocast_it_computes_in_that_precision():
    net, x = hah(dtype=torch.float32), random(2, 3, 8, 8, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = rectified_response(net.conv, x, 1)
    assert found.y.dtype == torch.bfloat16
    assert found.top.dtype == torch.float32
    exact = rectified_response(net.conv, x, 1)
    torch.testing.assert_close(found.top, exact.top, rtol=1e-2, atol=0)  # bfloat16 keeps 8 bits
    ours, theirs = (torch.autograd.grad(r.y.float().sum() + r.top, net.conv.weight)[0] for r in (found, exact))
    assert (ours - theirs).norm() < 0.1 * theirs.norm()  # some ReLUs are on the other side


def test_filters_that_are_frozen_and_images_without_gradient():
    net, x = hah(), random(2, 3, 6, 6)
    rectified_response(net.conv, x, 1).top.backward()
    assert net.conv.weight.grad.any()
    net.conv.weight.requires_grad_(False)
    assert not rectified_response(net.conv, x, 1).top.requires_grad


def test_responses_are_told_only_inside_and_also_after_an_error():
    net, x = hah(), random(1, 3, 5, 5)
    with pytest.raises(ZeroDivisionError), hebbian_responses(net):
        raise ZeroDivisionError
    assert net._responses is None
    net(x)
    with hebbian_responses(nn.Sequential(net)) as found:
        net(x)
    assert len(found) == 1


def test_responses_do_not_change_what_a_block_gives():
    net, x = hah(dtype=torch.float32), random(2, 3, 8, 8, dtype=torch.float32)
    expected = net(x)
    with hebbian_responses(net):
        assert torch.equal(net(x), expected)


# --- mistakes ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DivisiveNorm(2), "pool=2: the side of the neighbourhood is odd"),
        (lambda: DivisiveNorm(sigma=1.5), r"sigma=1.5: .* in \[0, 1\]"),
        (lambda: AdaptiveThreshold(0), "keep=0: .* above 0"),
        (lambda: AdaptiveThreshold(rule="kept"), "did you mean 'keep'"),
        (lambda: hah(width=1), "of 1 channels the strongest 1"),
    ],
)
def test_a_mistake_is_named(make, message):
    with pytest.raises(NetprobeError, match=message):
        make()
