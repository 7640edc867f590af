"""Training with HaH blocks: the loss and whom it reaches, presets, checkpoints, and what is shown of it."""

import numpy as np
import pytest
import torch
from reference_hah import top_and_rest
from torch import nn
from torch.nn.functional import cross_entropy

import netprobe as npb
from netprobe import data
from netprobe.defenses import HaHDefense, defense_spec, parse_defense
from netprobe.defenses.hah import HaHBlock, StandardBlock, convert, firing, hebbian_responses
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn, vgg16
from netprobe.recipes import preset
from netprobe.store.fingerprint import fingerprint
from netprobe.training import fit
from netprobe.training.initial import defended, initial
from netprobe.training.saved import read_checkpoint

SETTINGS = {"lr": 1e-3, "optimizer": "adam", "weight_decay": 0.0, "schedule": "constant", "progress": False}
ALPHAS = (4.5e-3, 2.5e-3, 1.3e-3, 1e-3, 8e-4, 5e-4)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=120)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hah")
    return fit("hah:blocks=2", "digits_cnn", digits, epochs=3, validation=0.3, out=folder, **SETTINGS)


@pytest.fixture
def batch(digits):
    return digits.inputs[:20].double(), digits.labels[:20]


def built(defense, seed=0):
    torch.manual_seed(seed)
    return defense.build(digits_cnn()).double().train()


def terms(defense, model, batch):
    return defense.loss(model, *batch, generator=None, copy=model)


# --- the loss ---


@pytest.mark.parametrize("variant", ["paper_repro", "text"])
def test_the_loss_and_its_gradient_are_those_of_the_equations(variant, batch):
    defense = HaHDefense(blocks=3, variant=variant)
    model, x, y = built(defense), *batch
    found = terms(defense, model, batch)
    ours = torch.autograd.grad(found["loss"], list(model.parameters()))
    inputs = []
    hooks = [
        module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        for module in model.modules()
        if isinstance(module, HaHBlock)
    ]
    clean = cross_entropy(model(x), y)
    for hook in hooks:
        hook.remove()
    blocks = [module for module in model.modules() if isinstance(module, HaHBlock)]
    total = clean
    for alpha, block, entered in zip(ALPHAS, blocks, inputs, strict=False):
        top, rest = top_and_rest(torch.relu(block.conv(entered.detach())), -(-block.conv.out_channels // 10))
        total = total - alpha * (top - {"paper_repro": 1.0, "text": 0.1}[variant] * rest)
    theirs = torch.autograd.grad(total, list(model.parameters()))
    torch.testing.assert_close(found["loss"], total)
    torch.testing.assert_close(found["clean_loss"], clean)
    torch.testing.assert_close(found["hebbian"], clean - total)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_the_loss_of_a_block_reaches_its_own_filters_alone(batch):
    defense = HaHDefense(blocks=4)
    model, x = built(defense), batch[0].requires_grad_()
    blocks = [module for module in model.modules() if isinstance(module, HaHBlock)]
    with hebbian_responses(model) as responses:
        model(x)
    for number, response in enumerate(responses):
        loss = response.top - response.rest
        wanted = [x, *model.parameters()]
        slopes = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        reached = [tensor for tensor, slope in zip(wanted, slopes, strict=True) if slope is not None and slope.any()]
        assert [tensor is blocks[number].conv.weight for tensor in reached] == [True]


def test_that_of_the_network_that_cheats_reaches_all_filters_up_to_its_own(batch):
    defense = parse_defense("hah:blocks=4,reach=all")
    model, x = built(defense), batch[0]
    filters = [module.conv.weight for module in model.modules() if isinstance(module, HaHBlock)]
    with hebbian_responses(model, defense.reach) as responses:
        model(x)
    for number, response in enumerate(responses, 1):
        slopes = torch.autograd.grad(response.top - response.rest, filters, retain_graph=True, allow_unused=True)
        assert [slope is not None and bool(slope.any()) for slope in slopes] == [n < number for n in range(4)]


def test_its_loss_and_gradient_are_those_of_plain_autograd(batch):
    model, x, y = built(HaHDefense(blocks=3)), *batch
    found = terms(HaHDefense(blocks=3, reach="all"), model, batch)
    ours = torch.autograd.grad(found["loss"], list(model.parameters()))
    rectified = []
    hooks = [
        module.register_forward_hook(lambda block, args, _: rectified.append(torch.relu(block.conv(args[0]))))
        for module in model.modules()
        if isinstance(module, HaHBlock)
    ]
    total = cross_entropy(model(x), y)
    for hook in hooks:
        hook.remove()
    for alpha, response in zip(ALPHAS, rectified, strict=False):
        top, rest = top_and_rest(response, -(-response.shape[1] // 10))
        total = total - alpha * (top - rest)
    theirs = torch.autograd.grad(total, list(model.parameters()))
    torch.testing.assert_close(found["loss"], total)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_without_the_loss_only_cross_entropy_is_trained(batch):
    defense = HaHDefense(blocks=2, scale=0)
    model = built(defense)
    found = terms(defense, model, batch)
    assert found["hebbian"] == 0
    assert found["gap_1"] > 0
    ours = torch.autograd.grad(found["loss"], list(model.parameters()))
    theirs = torch.autograd.grad(cross_entropy(model(batch[0]), batch[1]), list(model.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_gaps_and_terms_appear_by_block(batch):
    defense = HaHDefense(blocks=3)
    found = terms(defense, built(defense), batch)
    assert set(found) == {"loss", "logits", "clean_loss", "hebbian", "gap_1", "gap_2", "gap_3"}
    assert set(defense.recorded) >= set(found) - {"loss", "logits"}
    assert not any(found[f"gap_{n}"].requires_grad for n in (1, 2, 3))


# --- settings ---


def test_variants_are_those_of_code_and_text():
    code, text = HaHDefense(), HaHDefense(variant="text")
    assert (code.penalty, code.surround, text.penalty, text.surround) == (1.0, 3, 0.1, 1)
    assert (HaHDefense(variant="text", pool=3).surround, HaHDefense(demotion=0.5).penalty) == (3, 0.5)


@pytest.mark.parametrize("blocks", range(9))
def test_weights_of_any_number_of_blocks(blocks):
    assert HaHDefense(blocks=blocks).weights == (ALPHAS + (5e-4,) * 3)[:blocks]
    assert HaHDefense(blocks=blocks, scale=2).weights == tuple(2 * a for a in (ALPHAS + (5e-4,) * 3)[:blocks])


def test_weights_of_ones_own():
    defense = parse_defense("hah:blocks=2,alphas=0.1:0.05")
    assert defense == HaHDefense(blocks=2, alphas=(0.1, 0.05))
    assert defense.weights == (0.1, 0.05)
    assert parse_defense(defense_spec(defense)) == defense
    assert parse_defense("hah:blocks=1,alphas=0.1").weights == (0.1,)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hah:blocks=-1", "blocks must be a whole number, 0 or more"),
        ("hah:blocks=2,alphas=0.1", "1 alphas for 2 blocks"),
        ("hah:blocks=2,alphas=0.1:x", "alphas must be a number"),
        ("hah:blocks=1,alphas=-1", "alphas must be a number in"),
        ("hah:variant=paper", "did you mean 'paper_repro'"),
        ("hah:pool=2", "pool=2 has no middle"),
        ("hah:keep=0", "keep=0 leaves nothing"),
        ("hah:keep=1.5", "keep must be a number in"),
        ("hah:top=1", "top must be a number between"),
        ("hah:sigma=2", "sigma must be a number in"),
        ("hah:rule=all", "valid choices"),
        ("hah:norm=layer", "valid choices"),
        ("hah:standard=none", "valid choices"),
        ("hah:reach=none", "valid choices: own, all|valid choices: all, own"),
        ("hah:lamda=1", "unknown setting of hah 'lamda'"),
    ],
)
def test_bad_settings_are_errors(spec, message):
    with pytest.raises(NetprobeError, match=message):
        parse_defense(spec)


def test_more_blocks_than_the_network_has_are_an_error_before_training(digits):
    with pytest.raises(NetprobeError, match="ConvNet has 5 groups"):
        fit("hah", "digits_cnn", digits, epochs=1, **SETTINGS)


def test_the_preset_is_that_of_the_paper():
    recipe = preset("paper", HaHDefense(), "vgg16", (3, 32, 32))
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.lr) == (100, 128, "adam", 1e-3)
    assert (recipe.schedule, recipe.milestones, recipe.gamma) == ("step", (60, 80), 0.1)
    assert (recipe.weight_decay, recipe.augment, recipe.padding) == (0, "crop-flip", 4)
    grey = preset("paper", HaHDefense(), "mnist_cnn", (1, 28, 28))
    assert (grey.optimizer, grey.augment) == ("adam", "none")


# --- the networks ---


def test_ablations_change_one_thing_each():
    def parts(**settings):
        block = HaHDefense(blocks=1, **settings).build(digits_cnn()).conv1
        return type(block.norm).__name__, block.threshold.rule

    assert parts() == ("DivisiveNorm", "keep")
    assert parts(norm="batch") == ("BatchNorm2d", "keep")
    assert parts(rule="none") == ("DivisiveNorm", "none")
    assert parts(scale=0) == ("DivisiveNorm", "keep")


def test_no_blocks_are_the_baseline_from_the_same_seed(digits):
    defense = HaHDefense(blocks=0)
    network = initial("digits_cnn", digits, 3)
    ours, baseline = defended(network, defense, 3), convert(network, 0, standard="normalised")
    assert all(torch.equal(t, baseline.state_dict()[name]) for name, t in ours.state_dict().items())
    assert sum(isinstance(module, StandardBlock) for module in ours.modules()) == 5
    found = defense.loss(ours, digits.inputs, digits.labels, generator=None, copy=ours)
    torch.testing.assert_close(found["loss"], cross_entropy(baseline(digits.inputs), digits.labels))


def test_initial_filters_are_those_of_the_seed_whatever_the_settings(digits):
    def filters(seed, **settings):
        network = defended(initial("digits_cnn", digits, seed), HaHDefense(**settings), seed)
        return [t for name, t in network.state_dict().items() if name.endswith("conv.weight")]

    plain = [m.weight for m in initial("digits_cnn", digits, 5).modules() if isinstance(m, nn.Conv2d)]
    for settings in ({"blocks": 0}, {"blocks": 2}, {"blocks": 5, "norm": "batch"}):
        assert all(torch.equal(a, b) for a, b in zip(filters(5, **settings), plain, strict=True))
    assert not torch.equal(filters(6, blocks=2)[0], plain[0])


def test_training_leaves_gaps_in_the_history(trained):
    history = trained.history
    assert {"clean_loss", "hebbian", "gap_1", "gap_2"} <= set(history)
    expected = history["clean_loss"] - history["hebbian"]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)  # sums of float32
    assert (history["gap_1"] > 0).all()
    assert history["gap_2"].attrs["long_name"] == "top-K gap of block 2"


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gap_of_every_block_grows_when_the_loss_is_on(digits, seed):
    """With weights large enough to see it in a few steps."""
    defense = HaHDefense(blocks=3, alphas=(0.3, 0.3, 0.3))
    found = fit(defense, "digits_cnn", digits, epochs=8, batch_size=20, seed=seed, validation=0, **SETTINGS).history
    for block in (1, 2, 3):
        gap = found[f"gap_{block}"].values
        assert gap[-1] > 1.1 * gap[0]
        assert np.corrcoef(np.arange(8), gap)[0, 1] > 0.8


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_it_goes_on_to_the_same_bytes(trained, digits, tmp_path, epochs_before, stopped_after):
    arguments = ("hah:blocks=2", "digits_cnn", digits)
    with stopped_after(epochs_before):
        fit(*arguments, epochs=3, validation=0.3, out=tmp_path, **SETTINGS)
    again = fit(*arguments, epochs=3, validation=0.3, out=tmp_path, **SETTINGS)
    for name, tensor in trained.last.state_dict().items():
        assert torch.equal(tensor, again.last.state_dict()[name]), name


@pytest.mark.parametrize("file", ["best.pt", "last.pt"])
def test_a_checkpoint_loads_by_its_path_alone(trained, digits, file):
    model = npb.load(trained.folder / file)
    state = read_checkpoint(trained.folder / file)["state_dict"]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert fingerprint(model) == fingerprint(trained.model if file == "best.pt" else trained.last)
    assert (model.conv1.norm.pool, model.conv1.threshold.keep) == (3, 0.2)


def test_a_checkpoint_with_other_settings_keeps_them(digits, tmp_path):
    fit("hah:blocks=1,variant=text,keep=0.5,alphas=0.1", "digits_cnn", digits, epochs=1, out=tmp_path, **SETTINGS)
    model = npb.load(tmp_path / "best.pt")
    assert (model.conv1.norm.pool, model.conv1.threshold.keep) == (1, 0.5)
    assert isinstance(model.conv2, StandardBlock)


@pytest.mark.parametrize("settings", ["blocks=2,standard=own", "blocks=2,norm=batch", "blocks=2,rule=mean", "blocks=0"])
def test_every_kind_of_network_trains(settings, digits):
    found = fit(f"hah:{settings}", "digits_cnn", digits, epochs=1, **SETTINGS)
    assert np.isfinite(found.history["loss"].values).all()


def test_it_overfits_eight_images(digits):
    found = fit(
        "hah:blocks=2", "digits_cnn", digits.select(range(8)), epochs=40, batch_size=8, validation=0, **SETTINGS
    )
    assert found.history["accuracy"][-1] == 1


def test_it_trains_in_reduced_precision(digits):
    exact = fit("hah:blocks=2", "digits_cnn", digits, epochs=2, validation=0, **SETTINGS)
    found = fit("hah:blocks=2", "digits_cnn", digits, epochs=2, validation=0, precision="bfloat16", **SETTINGS)
    for name in ("loss", "gap_1", "gap_2"):
        np.testing.assert_allclose(found.history[name], exact.history[name], rtol=0.05)  # 8 bits, of every layer


# --- what is shown ---


def test_firing_counts_positive_channels_among_the_strongest(digits):
    torch.manual_seed(0)
    model = convert(digits_cnn(), 2).eval()
    found = firing(model, digits, progress=False)
    assert found["site"].values.tolist() == ["conv1.conv", "conv2.conv"]
    y = torch.relu(model.conv1.conv(digits.inputs))
    order = y.argsort(dim=1, descending=True)[:, :2]
    fires = torch.zeros_like(y).scatter(1, order, 1.0) * (y > 0)
    np.testing.assert_allclose(found["frequency"].sel(site="conv1.conv"), fires.mean((0, 2, 3)), atol=1e-6)
    assert float(found["frequency"].sel(site="conv1.conv").sum()) <= 2
    assert float(found["even"][0]) == 2 / 16
    low, high = found["frequency_interval"].sel(site="conv1.conv").values.T
    assert (low <= found["frequency"][0]).all()
    assert (found["frequency"][0] <= high).all()


def test_a_channel_that_always_fires_is_flagged(digits):
    torch.manual_seed(0)
    model = convert(digits_cnn(), 2).eval()
    with torch.no_grad():
        model.conv1.conv.weight[5] = 1.0  # bright images excite it most, everywhere
    bright = data.load((digits.inputs * 0.1 + 0.9, digits.labels))
    found = firing(model, bright, progress=False)
    assert found["always"].values.tolist() == [1, 0]
    assert float(found["frequency"].sel(site="conv1.conv", channel=5)) > 0.95


def test_firing_of_any_network_at_any_site(digits):
    torch.manual_seed(0)
    model = digits_cnn().train()
    found = firing(model, digits, "linear,relu1", top=0.3, progress=False)
    assert found["site"].values.tolist() == ["relu1", "linear"]
    assert found["frequency"].sel(site="linear").notnull().sum() == 10
    assert model.training
    with pytest.raises(NetprobeError, match="top=0"):
        firing(model, digits, top=0)
    with pytest.raises(NetprobeError, match="unknown site pattern"):
        firing(model, digits, "nothing")


def test_a_report_shows_how_often_channels_fire(trained, digits):
    tree = trained.results("net", digits)
    assert tree["net/firing"]["site"].values.tolist() == ["conv1.conv", "conv2.conv"]
    page = npb.report(tree, trained.folder / "report.html").read_text()
    assert "How often channels fire" in page
    assert HaHDefense(blocks=0).views({"trained": trained.model}, digits) == {}


def test_figures_of_sparsity_and_noise_can_be_made(digits):
    """One pattern for all networks: what HaH blocks put out, and the ReLUs of others; what convolutions get."""
    torch.manual_seed(0)
    models = {
        "hah": convert(digits_cnn(), 2, standard="normalised"),
        "baseline": convert(digits_cnn(), 0, standard="normalised"),
    }
    noise = {"noise": npb.GaussianNoise(0.1)}
    sparse = npb.probe(models, digits, noise, "hoyer", "activation", preflight=False, progress=False)
    names = [f"conv{n}.threshold" for n in (1, 2)] + [f"conv{n}.relu" for n in (3, 4, 5)]
    assert sparse["hah/hoyer"]["site"].values.tolist() == names
    assert sparse["baseline/hoyer"]["site"].values.tolist() == [f"conv{n}.relu" for n in (1, 2, 3, 4, 5)]
    first = [sparse[f"{name}/hoyer"]["hoyer"].sel(condition="clean").values[0] for name in models]
    assert first[0] < first[1]
    noisy = npb.probe(models, digits, noise, "snr", "conv:in", preflight=False, progress=False)
    assert noisy["hah/snr"]["site"].values.tolist() == [f"conv{n}.conv:in" for n in (1, 2, 3, 4, 5)]
    assert np.isfinite(noisy["hah/snr"]["snr_db"].values).all()


def test_grad_cam_of_the_first_block(trained, digits):
    found = npb.grad_cam(trained.model, digits, layer="conv1", limit=4)
    assert found["map"].notnull().all()


def test_a_vgg_of_the_paper_takes_a_step():
    torch.manual_seed(0)
    defense = HaHDefense()
    model = defense.build(vgg16()).train()
    found = defense.loss(model, torch.rand(2, 3, 32, 32), torch.tensor([1, 2]), generator=None, copy=model)
    found["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
