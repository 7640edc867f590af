"""The self-consistent layer: what the sanity checks of its definition ask, and its fast way against the slow one."""

import copy

import pytest
import torch
from reference_sca import dense, energy, output, path
from torch import nn
from torch.nn.functional import cross_entropy

from netprobe.defenses.sca import SCALinear, curvature
from netprobe.defenses.sca.bound import spectral_norm
from netprobe.defenses.sca.unrolled import Steps, masked, pattern, settle

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64, a few dozen operations
SHAPES = [(7, 5, 6), (40, 5, 9), (5, 9, 3)]  # d, n, rows: the first two take the Gram matrix of V, the last does not


def inputs(rows, features, seed=1):
    return torch.rand(rows, features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def prepared(layer, x):
    weights = (layer.lateral, layer.lateral_bias, layer.feedback, layer.feedback_bias)
    return pattern(x, *weights, Steps(layer.steps, layer.eta, layer.lam, layer.cap))


@pytest.mark.parametrize(("features", "units", "rows"), SHAPES)
@pytest.mark.parametrize("cap", [10.0, 0.3])
def test_activations_are_those_of_the_definition(features, units, rows, cap):
    layer, x = dense(features, units, steps=4, cap=cap), inputs(rows, features)
    torch.testing.assert_close(layer(x), output(layer, x), **EXACT)
    assert (layer.capped > 0) == (cap < 1)


def test_both_ways_to_step_are_tried_here():
    chosen = [prepared(dense(d, n, steps=4), inputs(rows, d)).gram for d, n, rows in SHAPES]
    assert chosen == [True, True, False]


@pytest.mark.parametrize(("features", "units", "rows"), SHAPES)
@pytest.mark.parametrize("cap", [10.0, 0.3])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_are_those_of_the_unrolled_definition(features, units, rows, cap, checkpoint):
    layer, x = dense(features, units, steps=4, cap=cap, checkpoint=checkpoint), inputs(rows, features).requires_grad_()
    weight = torch.randn(rows, units, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((out * weight).sum(), [x, *layer.parameters()]) for out in (layer(x), output(layer, x))
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize(("features", "units", "rows"), SHAPES)
def test_gradients_of_inputs_alone_are_the_same_from_less_memory(features, units, rows):
    layer, x = dense(features, units, steps=4), inputs(rows, features).requires_grad_()
    (whole,) = torch.autograd.grad(layer(x).square().sum(), x)
    kept = []
    layer.requires_grad_(False)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = layer(x)
    (alone,) = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(alone, whole, **EXACT)
    masks = [each for each in kept if each.dtype == torch.bool]
    assert len(masks) == 2 * layer.steps + 1


@pytest.mark.parametrize(("features", "units", "rows"), SHAPES)
def test_gradients_and_second_gradients_by_differences(features, units, rows):
    layer, x = dense(features, units, steps=3, cap=1e9), inputs(rows, features)
    found = prepared(layer, x)
    arguments = [each.detach().requires_grad_() for each in (layer.weight @ x.t(), found.base, found.matrix)]

    def settled(s, base, matrix):
        return settle(s.t(), type(found)(matrix, base, found.gram), Steps(3, 0.25, layer.lam, 1e9))[0]

    assert torch.autograd.gradcheck(settled, arguments)
    assert torch.autograd.gradgradcheck(settled, arguments)


def test_check_10_gradients_of_the_logits_by_differences():
    layer, head, x = dense(steps=4), nn.Linear(5, 3, dtype=torch.float64), inputs(4, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: head(layer(z)), x)


def test_second_gradients_are_those_of_the_definition():
    layer, x = dense(steps=3, cap=0.5), inputs(4, 7).requires_grad_()
    weights, found = [x, *layer.parameters()], []
    for out in (layer(x), output(layer, x)):
        (slope,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), weights))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


def test_check_1_without_steps_it_is_the_plain_layer_bit_for_bit():
    plain = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 3))
    ours = nn.Sequential(SCALinear(copy.deepcopy(plain[0]), steps=0, dropout=0.2), nn.Linear(5, 3))
    ours[1].load_state_dict(plain[3].state_dict())
    x, y = torch.rand(6, 7), torch.arange(6) % 3
    losses = []
    for network in (plain, ours):
        torch.manual_seed(0)
        losses.append(cross_entropy(network.train()(x), y))
        losses[-1].backward()
    assert losses[0] == losses[1]
    assert torch.equal(plain.eval()(x), ours.eval()(x))
    assert torch.equal(plain[0].weight.grad, ours[0].weight.grad)
    for name in ("lateral", "lateral_bias", "feedback", "feedback_bias"):
        assert torch.equal(getattr(ours[0], name).grad, torch.zeros_like(getattr(ours[0], name)))


def test_check_2_the_update_is_the_gradient_of_the_energy():
    """Read off a step of 1 without cap from activations that it leaves above 0: a - phi(a - u) = u."""
    layer, x = dense(steps=1, eta=1e-3, cap=1e9), inputs(4, 7)
    (before, _), (after, _) = layer.trajectory(x)
    for row in range(4):
        point = before[row].detach().clone().requires_grad_()
        (u,) = torch.autograd.grad(energy(layer, x[row], point), point)
        moved = (before[row] - after[row]).detach() / 1e-3
        inside = after[row] > 0
        assert inside.any()
        torch.testing.assert_close(moved[inside], u[inside], rtol=0, atol=1e-10)


def silenced(*names, **settings):
    layer = dense(**settings)
    with torch.no_grad():
        for name in names:
            getattr(layer, name).zero_()
    return layer


@pytest.mark.parametrize("steps", [1, 3, 16])
def test_check_3_with_nothing_to_predict_and_nothing_to_rebuild_activations_decay(steps):
    layer = silenced("lateral", "lateral_bias", "feedback", "feedback_bias", steps=steps)
    x = inputs(6, 7)
    expected = (1 - layer.eta) ** steps * torch.relu(x @ layer.weight.t() + layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-14, atol=0)


def test_check_4_without_reconstruction_and_prediction_activations_vanish():
    layer = silenced("lateral", "lateral_bias", steps=200, lam=0.0)
    assert layer(inputs(6, 7)).max() < 1e-20


def energies(layer, x, steps):
    return torch.stack([layer.energies(x, a)["energy"] for a, _ in layer.trajectory(x, steps)])


@pytest.mark.parametrize(("features", "units"), [(7, 5), (30, 80)])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_check_5_energy_never_rises_below_the_safe_step(features, units, scale):
    layer, x = dense(features, units, scale=scale), inputs(12, features)
    layer.eta, layer.cap = 0.99 * 2 / curvature(layer), 1e9
    with torch.no_grad():
        found = energies(layer, x, 60)
    assert (found.diff(dim=0) <= 1e-12 * found[:-1]).all()
    assert (found[60] < found[0]).all()


def test_the_energies_are_those_of_the_definition():
    layer, x = dense(), inputs(6, 7)
    a = torch.rand(6, 5, dtype=torch.float64)
    found = layer.energies(x, a)
    expected = torch.stack([energy(layer, *pair) for pair in zip(x, a, strict=True)])
    torch.testing.assert_close(found["energy"], expected, **EXACT)
    torch.testing.assert_close(found["lateral"] + found["reconstruction"], expected, **EXACT)


def test_check_6_steps_of_no_length_change_nothing():
    layer, x = dense(eta=0.0, steps=9), inputs(6, 7)
    still = layer(x)
    layer.steps = 0
    assert torch.equal(layer(x), still)


def test_check_7_no_unit_predicts_itself():
    layer, x = dense(steps=5), inputs(6, 7)
    before = layer(x)
    with torch.no_grad():
        layer.lateral.fill_diagonal_(1e3)
    after = layer(x)
    assert torch.equal(before, after)
    after.square().sum().backward()
    assert (layer.lateral.grad.diagonal() == 0).all()
    assert (layer.lateral.grad != 0).any()
    assert torch.isfinite(masked(layer.lateral.detach().fill_diagonal_(torch.nan))).all()


def test_check_8_the_order_of_units_does_not_matter():
    layer, head, x = dense(steps=5), nn.Linear(5, 3, dtype=torch.float64), inputs(6, 7)
    other, tail, order = copy.deepcopy(layer), copy.deepcopy(head), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        for name in ("weight", "bias", "lateral_bias"):
            getattr(other, name).copy_(getattr(layer, name)[order])
        other.lateral.copy_(layer.lateral[order][:, order])
        other.feedback.copy_(layer.feedback[:, order])
        tail.weight.copy_(head.weight[:, order])
    torch.testing.assert_close(tail(other(x)), head(layer(x)), **EXACT)


def test_check_9_a_sample_does_not_depend_on_the_others():
    layer, x = dense(steps=5, cap=0.5), inputs(6, 7)
    together = layer(x)
    loud = torch.cat([x[:1], 1e4 * x[1:]])
    torch.testing.assert_close(layer(x[:1]), together[:1], **EXACT)
    torch.testing.assert_close(layer(loud)[:1], together[:1], **EXACT)


def test_without_a_graph_the_bits_are_the_same():
    layer, x = dense(steps=5), inputs(6, 7)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x).detach())
        without = layer(x)
    assert torch.equal(without, layer(x))


def test_the_path_ends_at_the_output_and_begins_at_the_plain_layer():
    layer, x = dense(steps=5), inputs(6, 7)
    states = [a for a, _ in layer.trajectory(x)]
    assert len(states) == 6
    torch.testing.assert_close(states[-1], layer(x), **EXACT)
    for row in (0, 3):
        for ours, theirs in zip(states, path(layer, x[row], 5), strict=True):
            torch.testing.assert_close(ours[row], theirs, **EXACT)
    assert len(list(layer.trajectory(x, 9))) == 10


def test_steps_are_read_at_call_time():
    layer, x = dense(steps=5), inputs(6, 7)
    layer.steps, layer.eta = 2, 0.1
    torch.testing.assert_close(layer(x), output(layer, x), **EXACT)


def test_the_share_of_capped_updates():
    layer, x = dense(steps=3, cap=1e-6), inputs(6, 7)
    layer(x)
    assert layer.capped == 1
    assert [bool(capped.all()) for _, capped in layer.trajectory(x)] == [False, True, True, True]


def test_the_cap_has_no_gradient():
    """Else the gradient would be another: of a layer that is capped in every step, by differences."""
    layer, x = dense(steps=2, cap=0.05), inputs(2, 7)
    step = 1e-6

    def along(direction):
        with torch.no_grad():
            return (layer(x + step * direction) - layer(x - step * direction)).sum() / (2 * step)

    direction = torch.rand_like(x)
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(layer(point).sum(), point)
    assert abs(float((slope * direction).sum() - along(direction))) > 1e-3


def test_any_leading_shape():
    layer, x = dense(steps=3), inputs(6, 7)
    torch.testing.assert_close(layer(x.view(2, 3, 7)), layer(x).view(2, 3, 5), **EXACT)


def test_eval_mode_is_deterministic_and_dropout_comes_last():
    layer, x = dense(steps=3, dropout=0.5), inputs(6, 7)
    torch.testing.assert_close(layer.eval()(x), output(layer, x), **EXACT)
    torch.manual_seed(0)
    expected = torch.nn.functional.dropout(layer(x), 0.5)
    torch.manual_seed(0)
    assert torch.equal(layer.train()(x), expected)


@pytest.mark.parametrize("shape", [(5, 9), (70, 90), (90, 200)])
def test_the_spectral_norm(shape):
    matrix = torch.randn(shape, dtype=torch.float64)
    assert spectral_norm(matrix) == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), rel=1e-6)


def test_the_bound_of_the_curvature_holds():
    """The Hessian of the energy at many points, by autograd."""
    layer = dense(scale=2.0)
    for a in torch.rand(20, 5, dtype=torch.float64):
        hessian = torch.autograd.functional.hessian(lambda z: energy(layer, torch.zeros(7, dtype=z.dtype), z), a)
        assert torch.linalg.eigvalsh(hessian).abs().max() <= curvature(layer)
    lateral = layer.lateral.detach() - torch.diag(layer.lateral.detach().diagonal())
    norms = [float(torch.linalg.matrix_norm(m, 2)) for m in (lateral, layer.feedback.detach())]
    assert curvature(layer) == pytest.approx((1 + norms[0]) ** 2 + layer.lam * norms[1] ** 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_the_precision_of_products_alone(dtype):
    layer, x = dense(40, 30, steps=8).float(), inputs(6, 40).float()
    expected = layer(x)
    with torch.autocast("cpu", dtype):
        found = layer(x)
    assert found.dtype == dtype
    assert (found - expected).abs().max() < 20 * torch.finfo(dtype).eps * expected.abs().max()
    found.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_a_layer_in_bfloat16_has_gradients():
    layer, x = dense(40, 30, steps=8).bfloat16(), inputs(6, 40).bfloat16().requires_grad_()
    layer(x).float().square().sum().backward()
    wide, point = dense(40, 30, steps=8), inputs(6, 40).requires_grad_()
    wide(point).square().sum().backward()
    alike = torch.nn.functional.cosine_similarity(x.grad.double().flatten(), point.grad.flatten(), 0)
    assert alike > 0.99
