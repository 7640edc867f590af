"""The power-law term against eigenvalues that are known, and against an explicit covariance."""

import logging

import pytest
import torch
from torch import nn

from netprobe.defenses.regularisers import Spectral, Subject
from netprobe.defenses.regularisers.spectral import PowerLaw
from netprobe.errors import NetprobeError
from netprobe.models.shallow import shallow
from netprobe.processes import Processes


@pytest.fixture
def network():
    torch.manual_seed(0)
    return shallow(3, 20, hidden=12, p=None).double()


@pytest.fixture
def x():
    return torch.rand(64, 20, dtype=torch.float64)


def made(settings, model, x, batch_size=None):
    (part,) = settings.penalty(Subject(model, x, len(x), batch_size or len(x))).parts
    return part.double()


def law(alpha, count=40):
    return 3.0 * torch.arange(1, count + 1, dtype=torch.float64) ** -alpha


def wide_network(count=40):
    return shallow(3, 20, hidden=count, p=None).double()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.62])
def test_an_exact_power_law_costs_nothing_at_any_scale_and_another_exponent_does(alpha, x):
    penalty = made(Spectral(alpha=alpha), wide_network(), x)
    for scale in (1e-3, 1.0, 1e3):
        assert float(penalty.distance(scale * law(alpha))) == pytest.approx(0, abs=1e-15)
    assert penalty.distance(law(alpha + 0.3)) > 1e-3
    assert penalty.distance(law(alpha - 0.3)) > 1e-3


def test_above_the_law_costs_more_than_below_it(x):
    penalty = made(Spectral(), wide_network(), x)
    changed = {sign: law(1.0) for sign in (-1, 1)}
    for sign, spectrum in changed.items():
        spectrum[20] *= 1 + 0.1 * sign
    below, above = (float(penalty.distance(changed[sign])) for sign in (-1, 1))
    assert below == pytest.approx(0.1**2 / 40)
    assert above == pytest.approx((0.1**2 + 0.1) / 40)
    further = law(1.0)
    further[20] *= 0.8
    assert penalty.distance(further) > below


def test_ranks_before_the_anchor_do_not_count_and_dead_units_neither(x):
    penalty = made(Spectral(tau=10), wide_network(), x)
    spectrum = law(1.0)
    spectrum[:9] *= 100
    spectrum[30:] = 0
    assert float(penalty.distance(spectrum)) == pytest.approx(0, abs=1e-15)
    assert float(penalty.distance(torch.zeros(40, dtype=torch.float64))) == 0


def test_an_absolute_target_has_a_scale(x):
    penalty = made(Spectral(target="absolute", tau=0), wide_network(), x)
    assert float(penalty.distance(law(1.0) / 3)) == pytest.approx(0, abs=1e-15)
    assert float(penalty.distance(law(1.0))) == pytest.approx(2**2 + 2)


def test_eigenvectors_are_those_of_the_covariance_over_the_whole_training_set(network, x, surveying):
    penalty = made(Spectral(site="hidden", tau=3), network, x)
    penalty.begin_epoch(network, surveying(network, x), Processes())
    covariance = torch.cov((x @ network.hidden.weight.T.detach()).T)
    rotated = penalty.directions.T @ covariance @ penalty.directions
    expected = torch.linalg.eigvalsh(covariance).flip(0)
    torch.testing.assert_close(rotated, torch.diag(expected))


def test_the_term_is_that_of_an_explicit_covariance_of_the_batch(network, x, surveying, one_step):
    settings = Spectral(site="relu", tau=3, alpha=1.3)
    batch, found = x[:20], []

    def before(penalty):
        penalty.double().begin_epoch(network, surveying(network, x), Processes())
        found.append(penalty.parts[0].directions)

    value = one_step(settings, network, batch, before=before)
    a = (batch @ network.hidden.weight.T).relu().detach().numpy()
    directions = found[0].numpy()
    total, count, n = 0.0, a.shape[1], len(batch)
    centred = a - a.mean(0)
    lam = [sum((row @ directions[:, k]) ** 2 for row in centred) / (n - 1) for k in range(count)]
    for rank in range(3, count + 1):
        target = lam[2] * (3 / rank) ** 1.3
        excess = lam[rank - 1] / target - 1
        total += excess**2 + max(0.0, excess)
    assert float(value.detach()) == pytest.approx(total / count)


def test_gradients_reach_the_weights_through_the_representation_alone(x):
    penalty = made(Spectral(tau=2), wide_network(6), x)
    penalty.directions.copy_(torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0])

    class Everything:
        @staticmethod
        def total(part):
            return part

    def distance(rows):  # the anchor is detached, which finite differences would not see
        lam = penalty.variances(rows, Everything)
        excess = lam[2:] / (anchored * (2 / torch.arange(3, 7, dtype=torch.float64))) - 1
        return (excess.square() + excess.relu()).sum() / 6

    rows = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    value = penalty.distance(penalty.variances(rows, Everything))
    anchored = penalty.variances(rows.detach(), Everything)[1]
    torch.testing.assert_close(value, distance(rows))
    (gradient,) = torch.autograd.grad(value, rows)
    for at in ((0, 0), (4, 3), (8, 5)):
        moved = torch.zeros(9, 6, dtype=torch.float64)
        moved[at] = 1e-6
        slope = (distance(rows.detach() + moved) - distance(rows.detach() - moved)) / 2e-6
        torch.testing.assert_close(slope, gradient[at], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows, shape", [("unit", (8, 4 * 36)), ("pooled", (8, 4)), ("channel", (8 * 36, 4))])
def test_what_the_variables_are(rows, shape):
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    x = torch.rand(8, 1, 6, 6)
    settings = Spectral(site="0", tau=2, rows=rows)
    (part,) = settings.penalty(Subject(model, x, 200, 200)).parts
    maps = model[0](x)
    found = part.rows_of(maps)
    assert found.shape == shape
    if rows == "pooled":
        torch.testing.assert_close(found, maps.mean((2, 3)))
    if rows == "channel":
        torch.testing.assert_close(found, maps.permute(0, 2, 3, 1).reshape(-1, 4))


def test_variances_along_fixed_directions_are_unbiased(x):
    penalty = PowerLaw(made(Spectral(tau=2), wide_network(6), x).sites[0], Spectral(tau=2)).double()
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, 7, dtype=torch.float64)
    rows = torch.randn(4000, 5, 6, dtype=torch.float64, generator=generator) * scale + 3

    class Everything:
        @staticmethod
        def total(part):
            return part

    mean = torch.stack([penalty.variances(batch, Everything) for batch in rows]).mean(0)
    torch.testing.assert_close(mean, scale**2, rtol=4 * (2 / 4 / 4000) ** 0.5, atol=0)  # 4 standard errors


@pytest.mark.parametrize(
    "settings, images, message",
    [
        ({"tau": 12}, 64, "12 variables, and the first rank that counts is 13"),
        ({"site": "hiddn"}, 64, "did you mean 'hidden"),
        ({"tau": 2}, 12, "12 training images say nothing of the smallest"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, images, message, network, x):
    with pytest.raises(NetprobeError, match=message):
        Spectral(**settings).penalty(Subject(network, x, images, 64))


def test_an_anchor_needs_a_rank_and_a_covariance_a_limit(x):
    with pytest.raises(NetprobeError, match="tau=0 is no rank"):
        Spectral(tau=0)
    with pytest.raises(NetprobeError, match="9,000 variables, more than the 8,192"):
        Spectral().penalty(Subject(shallow(3, 20, hidden=9000, p=None), x.float(), 10**5, 10**5))


def test_small_batches_are_warned_of(network, x, caplog):
    with caplog.at_level(logging.WARNING):
        Spectral(tau=2).penalty(Subject(network, x, 64, 15))
        assert not caplog.records  # 15 rows are 1.25 for each of 12
        Spectral(tau=2).penalty(Subject(network, x, 64, 14))
    assert "a batch_size of 15 or more is advised" in caplog.text
