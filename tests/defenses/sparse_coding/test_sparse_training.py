"""Training behind the sparse coding front end: settings, stages, what each trains, what is kept."""

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

import netprobe as npb
from netprobe import data
from netprobe.defenses import SparseCodingDefense, parse_defense
from netprobe.defenses import sparse_coding as package
from netprobe.defenses.sparse_coding.passes import NAMED
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn
from netprobe.perturb import ImageGenerator
from netprobe.perturb.backward import declared_passes
from netprobe.perturb.gradient import PGD
from netprobe.recipes import preset
from netprobe.store.scratch import Scratch
from netprobe.training import fit
from netprobe.training.saved import read_checkpoint

TINY = "sparse-coding:patch=4,stride=2,atoms=16,steps=10,penalty=0.1,top=3"
UNSUPERVISED = f"{TINY},dropout=0.3,training=unsupervised,autoencoder_epochs=2"
SETTINGS = {"lr": 0.05, "optimizer": "sgd", "weight_decay": 0.0, "schedule": "constant", "progress": False}
SETTINGS |= {"epochs": 4, "batch_size": 16, "validation": 0.3}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=48)


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """A decoder a hundredth as large as the published one: these tests are about who trains it and when."""
    from netprobe.defenses.sparse_coding import decoder

    defaults = decoder.Decoder.__init__.__kwdefaults__
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(defaults, "widths", (12, 8))
        yield


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    return fit(UNSUPERVISED, "digits_cnn", digits, out=tmp_path_factory.mktemp("sparse"), **SETTINGS)


def images(size, channels=3):
    return data.Data(torch.zeros(2, channels, size, size, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "black")


def test_what_is_left_open_is_told_from_the_size_of_the_images():
    cifar, stochastic = (parse_defense(f"sparse-coding{rest}").completed(images(32)) for rest in ("", ":dropout=0.95"))
    assert (cifar.patch, cifar.stride, cifar.atoms, cifar.steps, cifar.upsampling) == (4, 2, 500, 1000, "strides")
    assert (cifar.top, stochastic.top, cifar.image_size, cifar.image_channels) == (15, 50, 32, 3)
    large, random = (parse_defense(f"sparse-coding{rest}").completed(images(160)) for rest in ("", ":dropout=0.95"))
    assert (large.patch, large.stride, large.atoms, large.steps, large.upsampling) == (8, 4, 1000, 10_000, "bicubic")
    assert (large.top, random.top) == (15, 100)
    assert parse_defense(TINY).completed(images(8, 1)).upsampling == "strides"
    given = "sparse-coding:top=7,atoms=90,patch=8,stride=8,penalty=2,upsampling=bicubic"
    assert parse_defense(given).completed(images(32)).changed_settings() | {"steps": 1000} == {
        **parse_defense(given).changed_settings(),
        **{"image_size": 32, "image_channels": 3, "steps": 1000},
    }


def test_completed_settings_are_complete():
    done = parse_defense("sparse-coding").completed(images(32))
    assert done.completed(images(32)) == done


@pytest.mark.parametrize(
    ("spec", "epochs", "lr", "cycles"),
    [
        ("sparse-coding", 70, 0.02, ()),
        ("sparse-coding:top=5", 70, 0.02, ()),
        ("sparse-coding:top=2", 70, 0.05, ()),
        ("sparse-coding:dropout=0.95", 70, 0.05, ()),
        ("sparse-coding:training=unsupervised", 120, 0.05, (50,)),
    ],
)
def test_the_presets_are_those_of_the_papers(spec, epochs, lr, cycles):
    recipe = preset("paper", parse_defense(spec).completed(images(32)), "resnet32_thin", (3, 32, 32))
    assert (recipe.epochs, recipe.lr, recipe.cycles, recipe.schedule) == (epochs, lr, cycles, "cyclic")
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.batch_size) == ("sgd", 0.9, 5e-4, 64)
    assert preset("paper", parse_defense(spec), "efficientnet", (3, 160, 160)).epochs == epochs + 30


def test_cycles_of_the_rate_follow_the_stages_unless_they_are_given():
    defense = parse_defense("sparse-coding:training=unsupervised")
    about = (defense, "resnet32_thin", (3, 32, 32))
    assert preset("paper", *about, epochs=24).cycles == defense.stages(24)[1:] == (10,)
    assert preset("quick", *about).cycles == (8,)
    assert preset("paper", *about, cycles=(3,)).cycles == (3,)
    assert preset("paper", parse_defense("pgd-at"), *about[1:], epochs=24).cycles == ()


def test_the_losses_of_the_stages(digits):
    defense = parse_defense(TINY.replace("dropout=0.3,", "") + ",training=unsupervised").completed(digits)
    torch.manual_seed(0)
    model = defense.build(digits_cnn()).train()
    (batch,) = digits.batches(len(digits))
    defense.begin_epoch(model, 0, 12)
    found = defense.loss(model, batch.x, batch.y, generator=None, copy=model)
    torch.testing.assert_close(found["loss"], mse_loss(model.front(batch.x), batch.x))
    defense.begin_epoch(model, 5, 12)
    found = defense.loss(model, batch.x, batch.y, generator=None, copy=model)
    torch.testing.assert_close(found["loss"], cross_entropy(model.classifier(model.front(batch.x)), batch.y))


@pytest.mark.parametrize(("epoch", "trains"), [(0, "front.decoder"), (4, "front.decoder"), (5, "classifier")])
def test_each_stage_asks_for_the_gradients_of_its_own_part(epoch, trains, digits):
    defense = parse_defense(f"{TINY},training=unsupervised").completed(digits)
    model = defense.build(digits_cnn())
    defense.begin_epoch(model, epoch, 12)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith(trains), name


def weights(network, part):
    return {name: tensor for name, tensor in network.state_dict().items() if name.startswith(part)}


def same(one, other, part):
    theirs = weights(other, part)
    return all(torch.equal(tensor, theirs[name]) for name, tensor in weights(one, part).items())


def test_unsupervised_the_first_stage_trains_the_decoder_alone_and_the_second_the_classifier_alone(trained, digits):
    from netprobe.training.initial import initial

    first, last = trained.stages[0], trained.last
    begun = initial("digits_cnn", digits, 0)
    assert all(torch.equal(tensor, first.classifier.state_dict()[name]) for name, tensor in begun.state_dict().items())
    assert not same(first, last, "classifier.linear")
    assert same(first, last, "front.")
    fresh = trained.defense.build(digits_cnn())
    assert not same(fresh, first, "front.decoder")
    assert trained.history.attrs["best_epoch"] in (3, 4)


def test_supervised_both_are_trained_together_and_the_dictionary_is_not(digits):
    seen = []

    class Watching(SparseCodingDefense):
        def begin_epoch(self, model, epoch, epochs):
            super().begin_epoch(model, epoch, epochs)
            seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    defense = Watching(**parse_defense(TINY).changed_settings())
    fit(defense, "digits_cnn", digits, **SETTINGS | {"epochs": 2})
    begun, ended = seen[0], seen[-1]
    changed = {name for name in begun if not torch.equal(begun[name], ended[name])}
    assert "front.encoder.dictionary" not in changed
    assert {name for name in begun if "weight" in name} <= changed


def test_the_dictionary_is_learnt_from_the_training_images_and_the_seed(trained, digits):
    assert "front.encoder.dictionary" in dict(trained.model.named_buffers())
    about = {name: getattr(trained.defense, name) for name in ("atoms", "patch", "stride", "penalty", "steps")}
    model = trained.defense.build(digits_cnn())
    trained.defense.prepare(model, digits, 5, progress=False, scratch=Scratch())
    expected = package.learn_dictionary(digits, **about, seed=5, progress=False)
    assert torch.equal(model.front.encoder.dictionary, expected)
    torch.testing.assert_close(trained.model.front.encoder.dictionary.flatten(1).norm(dim=1), torch.ones(16))


@pytest.mark.parametrize("epochs_before", [1, 2, 3])
def test_it_goes_on_from_any_epoch_to_the_same_bytes(
    trained, digits, tmp_path, epochs_before, stopped_after, monkeypatch
):
    with stopped_after(epochs_before):
        fit(UNSUPERVISED, "digits_cnn", digits, out=tmp_path, **SETTINGS)
    monkeypatch.setattr(SparseCodingDefense, "prepare", None)  # is not learnt again
    again = fit(UNSUPERVISED, "digits_cnn", digits, out=tmp_path, **SETTINGS)
    assert same(trained.last, again.last, "")
    assert same(trained.stages[0], again.stages[0], "")


@pytest.mark.parametrize("file", ["best.pt", "last.pt", "stage-1.pt"])
def test_a_checkpoint_loads_by_its_path_alone(trained, digits, file):
    model = npb.load(trained.folder / file)
    state = read_checkpoint(trained.folder / file)["state_dict"]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    encoder = model.front.encoder
    assert (encoder.top, encoder.dropout, encoder.atoms, model.front.realisations) == (3, 0.3, 16, 10)
    if file == "best.pt":
        torch.manual_seed(0)
        expected = trained.model(digits.inputs).detach()
        torch.manual_seed(0)
        torch.testing.assert_close(model(digits.inputs).detach(), expected)  # another layout of memory


def test_it_learns_and_attacks_by_every_backward_pass_fool_it_where_plain_gradients_cannot():
    digits = data.load("digits", "train", limit=200)
    spec = "sparse-coding:patch=4,stride=2,atoms=40,steps=30,penalty=0.1,top=6"
    how = SETTINGS | {"epochs": 15, "lr": 3e-3, "optimizer": "adam", "validation": 0.0}
    model = fit(spec, "digits_cnn", digits, **how).model
    (batch,) = digits.take(60).batches(60)
    clean = accuracy(model, batch.x, batch.y)
    assert clean > 0.75

    def robust(backward):
        attack = PGD(0.25, steps=10, random_start=False, backward=backward)
        return accuracy(model, attack(model, batch.x, batch.y, generator=ImageGenerator(0, range(60))), batch.y)

    found = {name: robust(name) for name in (*NAMED, "front-end")}
    assert max(found.values()) < clean - 0.1, found
    together = PGD(0.25, steps=10).fool(model, batch.x, batch.y, generator=ImageGenerator(0, range(60)))
    assert 1 - together.fooled.float().mean() <= min(found.values()) + 0.1
    assert set(together.broken_by.unique().tolist()) <= set(range(-1, len(declared_passes(model))))
    far = PGD(128 / 255, steps=10).fool(model, batch.x, batch.y, generator=ImageGenerator(0, range(60)))
    assert 1 - far.fooled.float().mean() <= 0.05  # about 1 % of CIFAR-10 in the paper
    point = batch.x.clone().requires_grad_()
    model(point).sum().backward()
    assert not point.grad.any()


def accuracy(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sparse-coding:beta=1", "beta=1 lets a perturbation of eps change the sign"),
        ("sparse-coding:beta=0.5", "choose beta above 1"),
        ("sparse-coding:top=21,atoms=20", "top=21 of 20 atoms cannot be kept"),
        ("sparse-coding:dropout=1", "leaves nothing of an image"),
        ("sparse-coding:dropout=1.5", r"must be a number in \[0, 1\]"),
        ("sparse-coding:stride=3,patch=4,image_size=32", "do not tile images of 32"),
        ("sparse-coding:training=self", "valid choices: supervised, unsupervised"),
        ("sparse-coding:dictionary=random", "valid choices: reproduce, converged"),
        ("sparse-coding:upsampling=none", "strides"),
        ("sparse-coding:tops=3", "did you mean 'top'"),
        ("sparse-coding:reach=0.5", "must be a number in"),
    ],
)
def test_bad_settings_are_errors_when_they_are_given(spec, message):
    with pytest.raises(NetprobeError, match=message):
        parse_defense(spec)


def test_beta_counts_only_where_something_is_quantised():
    assert parse_defense("sparse-coding:beta=0,quantised=false").beta == 0


@pytest.mark.parametrize(
    ("spec", "size", "message"),
    [
        ("sparse-coding", 64, "patch is not known for images of 64 pixels, only for 32 and 160: give patch, stride"),
        ("sparse-coding:patch=4,stride=3", 32, "do not tile images of 32"),
        ("sparse-coding:top=501", 32, "top=501 of 500 atoms"),
        ("sparse-coding:patch=40", 32, "do not fit into images of 32"),
    ],
)
def test_settings_that_do_not_go_with_the_images_are_errors_before_any_work(spec, size, message):
    with pytest.raises(NetprobeError, match=message):
        parse_defense(spec).completed(images(size))


def test_only_square_images_can_be_coded():
    wide = data.Data(torch.zeros(2, 3, 32, 64, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "wide")
    with pytest.raises(NetprobeError, match=r"for square images, not inputs of shape \(3, 32, 64\)"):
        parse_defense("sparse-coding").completed(wide)


def test_an_autoencoder_that_leaves_no_epochs_is_an_error():
    with pytest.raises(NetprobeError, match="50 epochs for the autoencoder leave none of 50"):
        parse_defense("sparse-coding:training=unsupervised,autoencoder_epochs=50").stages(50)
    with pytest.raises(NetprobeError, match="1 epochs for the autoencoder leave none of 1"):
        parse_defense("sparse-coding:training=unsupervised").stages(1)
