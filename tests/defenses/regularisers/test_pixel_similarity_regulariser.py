"""The pixel-similarity regulariser: pairs, targets and the term, against slow references; and what training does."""

import contextlib
import copy
import math

import pytest
import torch
from torch import nn

from netprobe import data
from netprobe.data import Data
from netprobe.defenses.regularisers import Similarity, Step, Subject
from netprobe.defenses.regularisers.similarity.pair_stream import FEW, PairStream
from netprobe.defenses.regularisers.similarity.penalty import distance
from netprobe.defenses.regularisers.similarity.shuffled import shuffled
from netprobe.defenses.regularisers.similarity.stages import stages
from netprobe.errors import NetprobeError
from netprobe.models import ARCHITECTURES, digits_cnn
from netprobe.recipes import Recipe
from netprobe.representations.pairs import pair_count
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import SimilarityRange
from netprobe.sites import find_sites
from netprobe.testing.training import differing, killed_after
from netprobe.training import fit, loop

SHORT = Recipe(epochs=2, batch_size=64, lr=0.02, schedule="constant", validation=0.0, channels_last=False)
SPEC = "similarity:count=60,pairs=8,threshold=0.5"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=200)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return digits_cnn()


def train(model, images, spec, defense="natural", **settings):
    return fit(defense, model, images, SHORT, regularise=spec, progress=False, **settings)


def same(one: nn.Module, other: nn.Module) -> bool:
    return not differing(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 1000, 4097])
def test_shuffled_places_are_a_permutation_and_need_not_be_asked_for_together(n):
    every = shuffled(torch.arange(n), n, key=3)
    assert sorted(every.tolist()) == list(range(n))
    assert torch.equal(shuffled(torch.arange(n)[::2], n, key=3), every[::2])
    if n >= 1000:
        other = shuffled(torch.arange(n), n, key=4)
        assert (every == other).sum() < 10  # one place agrees on average
        assert abs(float(torch.corrcoef(torch.stack([every, torch.arange(n)]).double())[0, 1])) < 0.15


def test_a_shuffle_of_more_places_than_fit_into_memory_spreads_evenly():
    n = pair_count(50_000)
    sent = shuffled(torch.arange(20_000), n, key=0)
    counts = torch.histc(sent.double(), 20, 0, n)
    assert len(set(sent.tolist())) == 20_000 and ((counts - 1000).abs() < 5 * 1000**0.5).all()


RANGES = [
    SimilarityRange(0.5),
    SimilarityRange(None),
    SimilarityRange(0.4, "low"),
    SimilarityRange(0.4, "high"),
    SimilarityRange(0.85, "high_positive"),
    SimilarityRange(0.4, "positive"),
    SimilarityRange(0.4, "negative"),
    SimilarityRange(0.4, "double", 0.1),
]


@pytest.mark.parametrize("chosen", RANGES, ids=lambda chosen: chosen.kept)
def test_every_pass_holds_each_kept_pair_once_with_its_target(chosen, digits):
    similarity = PixelSimilarity(digits.take(40))
    stream, matrix = PairStream(similarity, chosen, seed=1), similarity.matrix()
    wanted = {
        (i, j): float(chosen.targets(matrix[i, j]))
        for i in range(40)
        for j in range(i + 1, 40)
        if chosen.keeps(matrix[i, j])
    }
    assert (stream.count == len(wanted)) == (len(wanted) / 780 < FEW or len(wanted) == 780)
    orders, cursor = [], 0
    for _ in range(2):
        got = stream.take(cursor, len(wanted))
        pairs = list(zip(got.first.tolist(), got.second.tolist(), strict=True))
        assert set(pairs) == set(wanted) and len(pairs) == len(wanted)
        assert got.target.tolist() == pytest.approx([wanted[pair] for pair in pairs], abs=1e-12)
        orders.append(pairs)
        cursor = math.ceil(got.cursor / stream.count) * stream.count  # where the next pass begins
    assert orders[0] != orders[1]


@pytest.mark.parametrize("chosen", RANGES, ids=lambda chosen: chosen.kept)
def test_a_stream_goes_on_from_its_cursor(chosen, digits):
    stream = PairStream(PixelSimilarity(digits.take(40)), chosen, seed=1)
    whole, first = stream.take(5, 12), stream.take(5, 5)
    second = stream.take(first.cursor, 7)
    assert second.cursor == whole.cursor
    for name in ("first", "second", "target"):
        assert torch.equal(torch.cat([getattr(first, name), getattr(second, name)]), getattr(whole, name))


def test_no_pair_at_all_is_an_error(digits):
    with pytest.raises(NetprobeError, match="none of the pairs of 5 images is kept"):
        PairStream(PixelSimilarity(digits.take(5)), SimilarityRange(0.999, "high"), 0)


def test_the_distance_is_the_published_one():
    s, t = torch.tensor([0.0, 0.0, 0.3, 1.5], dtype=torch.float64), torch.tensor([0.0, 1.0, -0.2, 1.0]).double()
    found = distance(s, t, "fisher").tolist()
    assert found[:2] == pytest.approx([0, 148.99], abs=0.01)
    assert found[2] == pytest.approx(4 * (math.atanh(0.3) - math.atanh(-0.2)) ** 2, rel=1e-4)
    assert found[3] == 0  # rounding may bring a cosine above 1
    assert distance(-s, -t, "fisher").tolist() == pytest.approx(found, abs=1e-9)
    assert distance(s, t, "mse").tolist() == pytest.approx([0, 1, 0.25, 0.25])


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_stages_of_a_residual_network_are_its_stem_and_its_layers(name):
    sites = find_sites(ARCHITECTURES[name](width=4, stem=7, in_channels=1), torch.rand(1, 1, 32, 32))
    assert [site.name for site in stages(sites)] == ["relu", "layer1", "layer2", "layer3", "layer4"]


def test_stages_end_where_maps_shrink():
    net = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    assert [site.name for site in stages(find_sites(net, torch.rand(1, 1, 8, 8)))] == ["1", "2", "5"]
    with pytest.raises(NetprobeError, match="name the sites"):
        stages(find_sites(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.rand(1, 1, 8, 8)))


class Small(nn.Module):
    """A network whose every step a reference can repeat."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.deep = nn.Conv2d(3, 2, 3)
        self.linear = nn.Linear(2 * 4 * 4, 10)

    def forward(self, x):
        return self.linear(self.deep(self.relu(self.norm(self.conv(x)))).flatten(1))


def slow(model, images, pairs, means, raw, decay=0.9):
    """Two passes of the trunk, channel means moved, cosines pair by pair; and the means as moved."""
    features = []
    for places in (pairs.first, pairs.second):
        stem = torch.relu(model.norm(model.conv(images[places])))
        features.append([stem, model.deep(stem)])
    moved, at = [], []
    for k, (a, b) in enumerate(zip(*features, strict=True)):
        mean = decay * means[k] + (1 - decay) * torch.cat([a, b]).detach().mean((0, 2, 3))
        moved.append(mean)
        at.append([])
        for one, other in zip(a, b, strict=True):
            u, v = (one - mean[:, None, None]).flatten(), (other - mean[:, None, None]).flatten()
            at[-1].append(u @ v / (u.norm() * v.norm()))
    s = sum(w * torch.stack(found) for w, found in zip(raw.softmax(0), at, strict=True))
    f = lambda v: torch.log((1 + v + 1e-5) / (1 - v + 1e-5))  # noqa: E731
    return (f(s) - f(pairs.target.float())).square().mean(), moved


def test_term_gradients_means_and_statistics_are_those_of_the_slow_way(digits):
    torch.manual_seed(1)
    model = Small()
    reference, images = copy.deepcopy(model).train(), digits.take(30)
    settings = Similarity(count=30, pairs=6, threshold=0.4, sites="relu+deep")
    subject = Subject(model, torch.rand(2, 1, 8, 8), 30, 8, images)
    penalty = settings.penalty(subject)
    with torch.no_grad():
        penalty.raw_weights.copy_(torch.tensor([0.3, -0.2]))
    raw, means = penalty.raw_weights.detach().clone().requires_grad_(), [torch.zeros(3), torch.zeros(2)]
    step = Step({}, {}, None, lambda part: part, lambda rows: rows, contextlib.nullcontext)
    cursor = 0
    model.train()
    for _ in range(3):
        pairs = penalty.stream.take(cursor, 6)
        cursor = pairs.cursor
        value = penalty(model, step)
        wanted, means = slow(reference, penalty.images, pairs, means, raw)
        assert float(value.detach()) == pytest.approx(
            float(wanted.detach()), rel=1e-5
        )  # single precision, summed in another order
        own = torch.autograd.grad(value, [model.conv.weight, model.deep.bias, penalty.raw_weights])
        theirs = torch.autograd.grad(wanted, [reference.conv.weight, reference.deep.bias, raw])
        for one, other in zip(own, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(penalty.mean_1, means[1])
    torch.testing.assert_close(model.norm.running_var, reference.norm.running_var)
    assert penalty.cursor == cursor and penalty.weights.sum().item() == pytest.approx(1)


def test_history_tells_what_the_pairs_and_the_weights_were(network, digits):
    history = train(network, digits, f"{SPEC},coupling=1").history
    names = [f"relu{k}" for k in (1, 2, 4, 5)]
    weights = [float(history[f"similarity_weight_{name}"][-1]) for name in names]
    assert sum(weights) == pytest.approx(1, abs=1e-6) and max(weights) - min(weights) > 1e-3
    assert all(-1 <= float(history[f"similarity_at_{name}"][0]) <= 1 for name in names)
    assert -1 <= float(history["similarity_correlation"][-1]) <= 1
    assert history["similarity_weight_relu1"].attrs["units"] == "1"
    assert "similarity_correlation" not in train(network, digits, f"{SPEC},kept=low", epochs=1).history


def test_without_coupling_no_bit_changes(network, digits):
    plain, recorded = train(network, digits, ()), train(network, digits, f"{SPEC},coupling=0")
    assert same(plain.last, recorded.last)  # running statistics of batch norm too
    assert (recorded.history["similarity"] > 0).all()


def test_a_strong_coupling_makes_similarities_alike_and_costs_accuracy(network, digits):
    settings = {"epochs": 8, "lr": 0.05}
    # 32 updates are few: more pairs a step than published, and targets of every size, make each tell of the targets
    spec = "similarity:count=200,pairs=64,threshold=none,coupling="
    free, bound = (train(network, digits, spec + coupling, **settings).history for coupling in ("0", "10"))
    assert float(bound["similarity_correlation"][-1]) > 0.3
    assert float(bound["similarity"][-1]) < 0.5 * float(free["similarity"][-1])
    assert float(bound["accuracy"][-1]) < float(free["accuracy"][-1]) - 0.2


def test_running_statistics_may_be_left_to_the_task(network, digits):
    """Frozen weights: what is left is what the passes do to batch norm."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    plain, task, both = (
        train(network, digits, spec, epochs=1).last
        for spec in ((), f"{SPEC},statistics=task", f"{SPEC},statistics=both")
    )
    assert same(plain, task) and not same(plain, both)


def test_a_training_that_is_killed_goes_on_with_the_next_pairs(network, digits, tmp_path):
    spec = f"{SPEC},kept=positive"
    whole = train(network, digits, spec, out=tmp_path / "whole")
    with killed_after(6):  # of 8 steps, within the second epoch
        train(network, digits, spec, out=tmp_path / "parts", save_every=0.0)
    again = train(network, digits, spec, out=tmp_path / "parts")
    assert same(whole.last, again.last)
    for name in ("loss", "similarity", "similarity_correlation", "similarity_weight_relu1"):
        assert whole.history[name].equals(again.history[name])


def other_images(channels, side):
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (20, channels, side, side), dtype=torch.uint8, generator=generator)
    return Data(stored, torch.arange(20) % 2, ("a", "b"), "others")


def test_images_of_another_set_may_have_another_size_and_other_channels(network, digits, monkeypatch):
    from netprobe.defenses.regularisers.similarity import images

    class Opened:
        labels = other_images(3, 12).labels.numpy()

        def at(self, index):
            return other_images(3, 12).select(index)

    asked = []
    monkeypatch.setattr(images, "open_source", lambda *given: asked.append(given) or Opened())
    history = train(network, digits, "similarity:images=others,size=12,split=all,count=50", epochs=1).history
    assert asked == [("others", "all", None, {"size": 12})] and float(history["similarity"][0]) > 0


@pytest.mark.parametrize(
    ("model", "spec", "message"),
    [
        ("digits_cnn", "similarity:sites=linear", "no maps"),
        ("mlp", "similarity", "name the sites"),
        ("digits_cnn", "similarity:size=12", "is for images of other sets"),
        ("digits_cnn", "similarity:images=nothing-there", "unknown data set 'nothing-there'"),
        ("digits_cnn", "similarity:kept=lo", "did you mean 'low'"),
        ("digits_cnn", "similarity:kept=double", "takes lower"),
        ("digits_cnn", "similarity:count=1", "2 or more"),
    ],
)
def test_mistakes_are_found_before_training(model, spec, message, digits, monkeypatch):
    monkeypatch.setattr(loop.Loop, "__init__", None)
    with pytest.raises(NetprobeError, match=message):
        train(model, digits, spec)


def test_a_regulariser_in_the_place_of_a_defense_joins_natural_training(network, digits):
    one, other = fit(SPEC, network, digits, SHORT, progress=False), train(network, digits, SPEC)
    assert same(one.last, other.last) and one.regularisers == other.regularisers
    recipe = fit(SPEC, "digits_cnn", digits, epochs=1, cycles=(), progress=False).recipe
    assert (recipe.batch_size, recipe.weight_decay, recipe.criterion, recipe.gamma) == (64, 0.0, "loss", 0.3)
    with pytest.raises(NetprobeError, match="unknown defense or regulariser 'similarty': did you mean 'similarity'"):
        fit("similarty", network, digits, SHORT, progress=False)
