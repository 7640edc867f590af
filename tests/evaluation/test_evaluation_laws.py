"""What an evaluation says is what a slow loop over images says, whatever the chunks, the order and the neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from evaluating_helpers import PERTURBATIONS, QUIET, small, two_models
from tiny import ConvNet, images, lookup, seeded, shifted

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.evaluation import corruptions, evaluate, loss_landscape
from netprobe.perturb import PGD, ImageGenerator
from netprobe.uncertainty import wilson

MODEL = {"one": two_models()["one"]}
ROUNDING = 1e-5  # of logits of order 1 when a convolution sums in another order


@pytest.fixture(scope="module")
def tree():
    return small()


@pytest.mark.parametrize("settings", [{"chunk": 20}, {"chunk": 1}, {"batch_size": 3}, {"chunk": 7, "batch_size": 2}])
def test_chunks_and_batches_do_not_matter(tree, settings):
    other = small(**settings)
    for model in ("one", "other"):
        one, two = tree[model]["evaluation"], other[model]["evaluation"]
        np.testing.assert_array_equal(one["correct"], two["correct"])
        np.testing.assert_allclose(one["margin"], two["margin"], atol=ROUNDING)
        np.testing.assert_allclose(one["size_l2"], two["size_l2"], atol=ROUNDING)


def test_seeds_matter_where_something_is_drawn(tree):
    other = small(seed=1)["one/evaluation/margin"]
    same = (other == tree["one/evaluation/margin"]).all("image")
    assert same.sel(condition=["clean", "fgsm"]).all() and not same.sel(condition=["pgd", "noise"]).any()


def test_the_same_call_gives_the_same_bytes(tmp_path):
    one, two = (
        npb.save_results(small(doubts=True, probe_images=8).drop_nodes("timing"), tmp_path / name) for name in "ab"
    )
    assert one.read_bytes() == two.read_bytes()


def test_every_number_of_an_image_by_a_slow_loop():
    data, model = images(6), MODEL["one"]
    changed = shifted(data)
    data_set = evaluate(MODEL, data, {"moved": lookup(changed)}, **QUIET)["one/evaluation"].to_dataset()
    for i in range(6):
        row, x, y = data_set.sel(condition="moved", image=i), changed[i], int(data.labels[i])
        with torch.no_grad():
            logits = model.eval()(x[None])[0].double()
        others = [float(z) for k, z in enumerate(logits) if k != y]
        delta = (x.double() - data.inputs[i].double()).flatten()
        assert row["prediction"] == logits.argmax() and row["correct"] == (logits.argmax() == y)
        assert row["margin"] == pytest.approx(float(logits[y]) - max(others), abs=ROUNDING)
        assert row["loss"] == pytest.approx(float(F.cross_entropy(logits[None], torch.tensor([y]))), abs=ROUNDING)
        assert row["size_linf"] == pytest.approx(float(delta.abs().max()))
        assert row["size_l2"] == pytest.approx(float((delta**2).sum() ** 0.5))
        assert row["size_l1"] == pytest.approx(float(delta.abs().sum()))
        assert row["size_l0"] == int((delta != 0).sum())
        assert row["lowest"] == pytest.approx(float(x.min())) and row["highest"] == pytest.approx(float(x.max()))


def test_clean_gradients_by_autograd():
    data, model = images(5), MODEL["one"].eval()
    data_set = evaluate(MODEL, data, None, **QUIET)["one/evaluation"]
    x = data.inputs.requires_grad_()
    F.cross_entropy(model(x).double(), data.labels, reduction="sum").backward()
    np.testing.assert_allclose(data_set["gradient_norm"], x.grad.flatten(1).norm(dim=1), rtol=1e-4)
    assert data_set["zero_gradients"] == 0


def test_an_attack_is_that_of_the_perturbation_itself():
    """A single restart of PGD on images that it cannot fool early is what calling it gives."""
    data, model = images(8), MODEL["one"]
    attack = PGD(0.003, steps=3)
    found = evaluate(MODEL, data, {"pgd": attack}, **QUIET)["one/evaluation"].sel(condition="pgd")
    from netprobe.perturb.randomness import stream_seed

    generator = ImageGenerator(stream_seed(0, "pgd"), range(8))
    x = attack(model.eval(), data.inputs, data.labels, generator=generator)
    delta = (x - data.inputs).flatten(1).norm(dim=1).numpy()
    stands = found["correct"].values == 1
    assert stands.any()
    np.testing.assert_allclose(found["size_l2"].values[stands], delta[stands], rtol=1e-4)


def test_accuracy_and_its_interval(tree):
    data = tree["one/evaluation"]
    for name in data["condition"].values:
        right = data["correct"].sel(condition=name).values
        assert data["accuracy"].sel(condition=name) == right.mean()
        assert tuple(data["accuracy_interval"].sel(condition=name).values) == wilson(right.sum(), 20)


def test_worst_case_by_hand():
    """Four images, two attacks and noise; the model's answer is the brightness of the image."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.full((4,), -1.0), torch.full((4,), 1.0)]))
    model = torch.nn.Sequential(model, Shift())
    x = torch.full((4, 1, 2, 2), 0.6)
    x[3] = 0.4
    data = npb.data.load((x, torch.tensor([1, 1, 1, 1])))  # the last is wrong when clean

    def moved(*values):
        changed = x.clone()
        for i, value in enumerate(values):
            changed[i] = value
        return Named(lookup(changed))

    tree = evaluate(
        {"m": model},
        data,
        {"far": moved(0.1, 0.6, 0.6, 0.4), "near": moved(0.6, 0.45, 0.6, 0.4), "noise": npb.GaussianNoise(0.0)},
        **QUIET,
    )
    worst = tree["m/worst_case"]
    assert worst["budget"].values.tolist() == ["L∞ 0.2"]
    assert worst["broken_by"].values.tolist() == [["", "near", "", "clean"]]  # "far" left the ball
    assert worst["worst_correct"].values.tolist() == [[1, 0, 1, 0]]
    assert worst["worst_accuracy"] == 0.5
    assert tree["m/evaluation/correct"].sel(condition="far").values.tolist() == [0, 1, 1, 0]


class Shift(torch.nn.Module):
    """Sets the border between dark and bright at 0.5 of 4 pixels."""

    def forward(self, z):
        return z + torch.tensor([4.0, 0.0])


class Named:
    """A callable that claims to stay within 0.2 in Linf."""

    eps, norm, family = 0.2, "linf", "claimed"

    def __init__(self, inner) -> None:
        self.inner = inner

    def __call__(self, model, x, y, *, generator):
        return self.inner(model, x, y, generator=generator)


class Nearest(Named):
    """A callable that looks for the nearest error."""

    strength, norm = "norm", "l2"
    eps = None


def test_minimum_norms_count_what_was_right_and_broken(tree):
    data = images(8)
    changed = shifted(data, 0.5)
    model = MODEL["one"].eval()
    found = evaluate(MODEL, data, {"nearest": Nearest(lookup(changed))}, **QUIET)["one/minimum_norm"]
    with torch.no_grad():
        right, fooled = (model(v).argmax(1) == data.labels for v in (data.inputs, changed))
    broken = (right & ~fooled).numpy()
    norms = (changed - data.inputs).flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(found["min_norm"].values[0], np.where(broken, norms, np.nan), rtol=1e-6)
    assert found["success"].item() == pytest.approx(broken.sum() / right.sum().item(), nan_ok=True)
    assert found["eps"].isnull().all()


def test_comparison_is_paired(tree):
    one, other = (tree[name]["evaluation"]["correct"].values for name in ("one", "other"))
    found = tree["comparison"]
    assert found["pair"].values.tolist() == ["other minus one"]
    np.testing.assert_allclose(found["difference"].values[0], other.mean(1) - one.mean(1))
    np.testing.assert_array_equal(found["only_model"].values[0], ((other == 1) & (one == 0)).sum(1))


def test_corruption_table_is_the_evaluation_rearranged():
    chosen = corruptions([1, 5], ["fog", "gaussian_noise"])
    tree = evaluate(MODEL, images(12, (3, 16, 16)), chosen, **QUIET)
    table, accuracy = tree["one/corruptions"], tree["one/evaluation/accuracy"]
    for name in ("fog", "gaussian_noise"):
        for severity in (1, 5):
            cell = table["accuracy"].sel(corruption=name, severity=severity)
            assert cell == accuracy.sel(condition=f"{name}@{severity}")
    np.testing.assert_allclose(table["error"], 1 - table["accuracy"].mean("severity"))
    assert table["mean_error"] == pytest.approx(float(table["error"].mean()))
    wrong = 1 - tree["one/evaluation/correct"].sel(condition=["fog@1", "fog@5"]).mean("condition")
    np.testing.assert_allclose(table["error_image"].sel(corruption="fog"), wrong)


def test_a_model_is_left_as_found():
    model = seeded(ConvNet).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    evaluate({"m": model}, images(6), PERTURBATIONS, **(QUIET | {"doubts": True, "probe_images": 4}))
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_results_come_back_from_disk(tree, tmp_path):
    path = npb.save_results(tree, tmp_path / "results.nc")
    xr.testing.assert_identical(npb.open_results(path), tree)
    assert "evaluation" in tree["one"]._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"perturbations": "pgt:eps=1"}, "did you mean 'pgd'"),
        ({"chunks": 3}, "did you mean 'chunk'"),
        ({"chunk": 0}, "give at least 1"),
        ({"gradients": "half"}, "unknown gradients"),
        ({"shard": "2/2"}, "write i/n"),
        ({"models": {"doubts": MODEL["one"]}}, "cannot name a model"),
        ({"perturbations": {"fog": "fog:severity=1"}, "data": images(4, (2, 6, 6))}, "fog.*C = 1 or 3 channels"),
        ({"data": images(6, classes=5)}, "labels go up to 4, but the model has 4 classes"),
        ({"perturbations": {"dlr": "pgd:eps=0.1,loss=dlr"}, "models": {"two": None}}, "two, dlr: .*compares 3 classes"),
    ],
)
def test_mistakes_are_errors_before_the_work(arguments, said):
    if arguments.get("models") == {"two": None}:
        arguments = arguments | {"models": {"two": seeded(ConvNet, classes=2)}, "data": images(4, classes=2)}
    if "data" in arguments and arguments["data"].shape[0] == 2:
        arguments = arguments | {"models": {"m": seeded(ConvNet, channels=2)}}
    with pytest.raises(NetprobeError, match=said):
        small(**arguments)


def test_landscape_by_hand():
    data, model = images(3), MODEL["one"].eval()
    found = loss_landscape(model, data, images=2, reach=0.1, points=3)
    assert found["image"].values.tolist() == [0, 2] and found["loss"].shape == (2, 3, 3)
    x = data.inputs[2:].requires_grad_()
    loss = F.cross_entropy(model(x).double(), data.labels[2:])
    loss.backward()
    with torch.no_grad():
        up = F.cross_entropy(model((x + 0.1 * x.grad.sign()).clamp(0, 1)).double(), data.labels[2:])
    assert found["loss"].values[1, 1, 1] == pytest.approx(loss.item(), abs=ROUNDING)
    assert found["loss"].values[1, 2, 1] == pytest.approx(up.item(), abs=ROUNDING)
    assert found["rise"].values[1] == pytest.approx(up.item() - loss.item(), abs=ROUNDING)
    with pytest.raises(NetprobeError, match="an odd number"):
        loss_landscape(model, data, points=4)
