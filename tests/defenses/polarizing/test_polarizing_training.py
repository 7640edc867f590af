"""Training with the polarizing front end: its stages, what each trains, what is kept."""

import dataclasses

import numpy as np
import pytest
import torch

import netprobe as npb
from netprobe import data
from netprobe.defenses import parse_defense
from netprobe.defenses.polarizing import Bumps, PixelQuantisation, PolarizingDefense, polarization
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn
from netprobe.recipes import preset
from netprobe.store.fingerprint import fingerprint
from netprobe.training import fit
from netprobe.training.saved import read_checkpoint

SETTINGS = {"lr": 2e-3, "optimizer": "adam", "weight_decay": 0.0, "schedule": "constant", "progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=60)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("polarizing")
    return fit("polarizing:filters=4,size=3", "digits_cnn", digits, epochs=6, validation=0.3, out=folder, **SETTINGS)


def test_stages_and_weights_of_the_bumps_are_those_of_the_paper():
    defense = PolarizingDefense(threshold=0.3)
    assert defense.stages(60) == (0, 20, 40)
    ramp = [defense.bumps(epoch, 60) for epoch in range(60)]
    assert [bump.weight for bump in ramp[:40]] == pytest.approx([epoch % 20 / 20 for epoch in range(40)])
    assert {(bump.centres, bump.width) for bump in ramp[:20]} == {((0.0,), 0.35)}
    assert {(bump.centres, bump.width) for bump in ramp[20:40]} == {((-0.3, 0.3), 0.15)}
    assert ramp[40:] == [None] * 20


def test_the_preset_is_that_of_the_paper():
    recipe = preset("paper", parse_defense("polarizing"), "lenet", (1, 28, 28))
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.lr) == (60, 64, "adam", 1e-3)
    assert (recipe.schedule, recipe.milestones, recipe.augment) == ("step", (50,), "none")


@pytest.mark.parametrize(("name", "threshold", "eps"), [("mnist", 0.5, 0.3), ("fashion-mnist", 0.3, 0.1)])
@pytest.mark.parametrize("defense", [PolarizingDefense(), PixelQuantisation()])
def test_thresholds_and_budgets_follow_the_data(defense, name, threshold, eps, digits):
    images = dataclasses.replace(digits, name=name)
    found = defense.completed(images)
    assert (found.threshold, found.eps) == (threshold, eps)
    assert type(defense)(threshold=0.4).completed(images).threshold == 0.4


def test_the_loss_is_cross_entropy_and_the_mean_bump(digits):
    defense = PolarizingDefense(filters=4, size=3).completed(digits)
    model = defense.build(digits_cnn(in_channels=4)).train()
    (batch,) = digits.batches(len(digits), "cpu")
    defense.begin_epoch(model, 5, 30)
    found = defense.loss(model, batch.x, batch.y, generator=None, copy=model)
    z = model.front.polarized(batch.x)
    bump = torch.exp(-(z**2) / (2 * 0.35**2)).mean()
    entropy = torch.nn.functional.cross_entropy(model.classifier(z), batch.y)
    torch.testing.assert_close(found["loss"], entropy + 0.5 * bump)
    torch.testing.assert_close(found["bump"], bump)
    found["loss"].backward()
    assert model.front.filters.weight.grad.any()


def test_in_the_last_stage_the_filters_stand_still_and_the_classifier_sees_levels(digits):
    defense = PolarizingDefense(filters=4, size=3).completed(digits)
    model = defense.build(digits_cnn(in_channels=4)).train()
    defense.begin_epoch(model, 20, 30)
    assert not model.front.filters.weight.requires_grad
    seen = []
    model.classifier.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    (batch,) = digits.batches(len(digits), "cpu")
    found = defense.loss(model, batch.x, batch.y, generator=None, copy=model)
    assert set(found) == {"loss", "logits"}
    assert set(seen[0].unique().tolist()) <= {-1, 0, 1}


def test_filters_end_as_stage_2_left_them_and_the_classifier_goes_on(trained):
    assert len(trained.stages) == 2
    first, second = (stage.front.filters.weight for stage in trained.stages)
    assert not torch.equal(first, second)
    assert torch.equal(second, trained.last.front.filters.weight)
    assert not torch.equal(trained.stages[1].classifier.linear.weight, trained.last.classifier.linear.weight)


def test_the_result_is_of_the_last_stage(trained):
    assert trained.history.attrs["best_epoch"] in (5, 6)
    assert torch.equal(trained.model.front.filters.weight, trained.last.front.filters.weight)
    assert trained.history["bump"].notnull().values.tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("epochs_before", [2, 4, 5])
def test_it_goes_on_from_any_epoch_to_the_same_bytes(trained, digits, tmp_path, epochs_before, stopped_after):
    arguments = ("polarizing:filters=4,size=3", "digits_cnn", digits)
    with stopped_after(epochs_before):
        fit(*arguments, epochs=6, validation=0.3, out=tmp_path, **SETTINGS)
    again = fit(*arguments, epochs=6, validation=0.3, out=tmp_path, **SETTINGS)
    for name, tensor in trained.last.state_dict().items():
        assert torch.equal(tensor, again.last.state_dict()[name]), name
    for ours, theirs in zip(trained.stages, again.stages, strict=True):
        assert torch.equal(ours.front.filters.weight, theirs.front.filters.weight)


def test_without_a_folder_it_is_the_same(trained, digits):
    again = fit("polarizing:filters=4,size=3", "digits_cnn", digits, epochs=6, validation=0.3, **SETTINGS)
    assert torch.equal(again.last.classifier.linear.weight, trained.last.classifier.linear.weight)
    assert torch.equal(again.stages[0].front.filters.weight, trained.stages[0].front.filters.weight)


@pytest.mark.parametrize("file", ["best.pt", "last.pt", "stage-1.pt", "stage-2.pt"])
def test_a_checkpoint_loads_by_its_path_alone(trained, digits, file):
    model = npb.load(trained.folder / file)
    state = read_checkpoint(trained.folder / file)["state_dict"]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert model.front.threshold == 0.5
    assert set(model.front(digits.inputs).unique().tolist()) <= {-1, 0, 1}


def test_quantised_pixels_train_and_load(digits, tmp_path):
    trained = fit("pixel-quantisation", "digits_cnn", digits, epochs=2, validation=0.3, out=tmp_path, **SETTINGS)
    assert npb.load(tmp_path / "best.pt").front.threshold == 0.5
    assert trained.stages == ()


def test_a_wrong_number_of_channels_is_an_error(digits):
    with pytest.raises(
        NetprobeError, match="takes 1 channels, but the front end gives 25: build it with in_channels=25"
    ):
        fit("polarizing", digits_cnn(), digits, epochs=3, **SETTINGS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("threshold=0", "threshold must be a number between 0 and 1"),
        ("threshold=1", "threshold must be a number between 0 and 1"),
        ("eps=2", r"eps must be a number in \[0, 1\]"),
        ("sharpness=0", "sharpness must be a number between 0 and inf"),
        ("gap_width=0", "gap_width must be a number between 0 and inf"),
        ("size=4", "odd size"),
    ],
)
def test_bad_settings_are_errors_before_training(setting, message, digits):
    with pytest.raises(NetprobeError, match=message):
        fit(f"polarizing:{setting}", "digits_cnn", digits, epochs=3, **SETTINGS)


def test_fewer_epochs_than_stages_are_an_error(digits):
    with pytest.raises(NetprobeError, match="three stages, which 2 epochs cannot hold"):
        fit("polarizing", "digits_cnn", digits, epochs=2, **SETTINGS)


def test_sound_is_refused():
    waves = data.Data(torch.zeros(4, 100), torch.arange(4), ("a", "b", "c", "d"), "waves")
    with pytest.raises(NetprobeError, match="images in \\[0, 1\\], not for a waveform"):
        PolarizingDefense().completed(waves)


def test_what_was_trained_is_what_is_loaded(trained):
    """Nothing of training is left in the network: archives of evaluations know it again."""
    loaded = npb.load(trained.folder / "best.pt")
    assert fingerprint(trained.model) == fingerprint(loaded)
    for network in (trained.model, trained.last, *trained.stages):
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_an_average_of_weights_goes_through_the_stages_too(digits):
    found = fit("polarizing:filters=4,size=3", "digits_cnn", digits, epochs=6, ema=0.9, validation=0.3, **SETTINGS)
    levels = found.last.train().front(digits.inputs)
    assert set(levels.unique().tolist()) <= {-1, 0, 1}
    assert found.history.attrs["best_epoch"] in (5, 6)


def test_patience_and_plateau_count_from_the_last_stage_on(digits):
    """Before it held-out images are shown levels that the classifier has not seen."""
    settings = SETTINGS | {"schedule": "plateau", "plateau_patience": 0, "gamma": 0.1, "lr": 1e-4}
    found = fit("polarizing:filters=4,size=3", "digits_cnn", digits, epochs=9, validation=0.3, **settings)
    assert found.history["lr"].values[:7].tolist() == pytest.approx([1e-4] * 7)
    patient = fit("polarizing:filters=4,size=3", "digits_cnn", digits, epochs=9, validation=0.3, patience=1, **SETTINGS)
    assert patient.history.sizes["epoch"] >= 7


@pytest.mark.parametrize("precision", ["bfloat16"])
def test_it_trains_in_reduced_precision(digits, precision):
    found = fit("polarizing:filters=4,size=3", "digits_cnn", digits, epochs=3, precision=precision, **SETTINGS)
    assert np.isfinite(found.history["loss"].values).all()


def test_half_precision_loses_nothing_of_the_bumps():
    """Derivatives are about 1 / their number: in float16 they would be no more than noise."""
    z = torch.rand(2048, 25, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = z.double().requires_grad_()
    Bumps(1.0, (0.0,), 0.35)(exact).backward()
    half = z.half().requires_grad_()
    scale = 2.0**20  # as a gradient scaler has it
    (Bumps(1.0, (0.0,), 0.35)(half) * scale).backward()
    torch.testing.assert_close(half.grad.double() / scale, exact.grad, rtol=5e-3, atol=1e-9)


@pytest.mark.parametrize("defense", ["polarizing", "pixel-quantisation"])
def test_a_report_shows_what_the_front_end_gives(defense, digits):
    found = fit(defense, "digits_cnn", digits, epochs=3, **SETTINGS)
    tree = found.results("net", digits)
    stages = ["stage 1", "stage 2", "trained"] if defense == "polarizing" else ["trained"]
    assert tree["net/polarization"]["stage"].values.tolist() == stages
    assert ("weight" in tree["net/polarization"]) == (defense == "polarizing")


def test_settings_read_back():
    assert parse_defense("polarizing:threshold=0.3,filters=9") == PolarizingDefense(threshold=0.3, filters=9)


def test_the_histogram_counts_every_output(trained, digits):
    models = {"1": trained.stages[0], "2": trained.stages[1], "end": trained.model}
    found = polarization(models, digits, eps=0.2, progress=False)
    for name, model in models.items():
        z = model.front.polarized(digits.inputs).detach().double().numpy()
        expected, _ = np.histogram(z, 100, (-1, 1), density=True)
        here = found.sel(stage=name)
        np.testing.assert_allclose(here["density"], expected, atol=0.05)  # rounding of z at the borders of bins
        assert float(here["density"].sum() * 0.02) == pytest.approx(1)
        assert float(here["danger"]) == pytest.approx(np.mean(abs(abs(z) - 0.5) < 0.2), abs=1e-4)
        assert float(here["centre"]) == pytest.approx(np.mean(abs(z) < 0.1), abs=1e-4)
        assert float(here["extreme"]) == pytest.approx(np.mean(abs(z) > 0.8), abs=1e-4)
        low, high = here["danger_interval"].values
        assert low < float(here["danger"]) < high
        w = model.front.filters.weight.detach().flatten(1)
        expected = (w.abs().sum(1) / w.norm(dim=1)) ** 2
        np.testing.assert_allclose(here["flatness"], expected, rtol=1e-5)


def test_models_without_a_front_end_have_no_polarization(digits):
    with pytest.raises(NetprobeError, match="plain is a ConvNet without a polarizing front end"):
        polarization({"plain": digits_cnn()}, digits)
    with pytest.raises(NetprobeError, match="eps=-1 must not be below 0"):
        polarization({}, digits, eps=-1)
