"""Similarity drawn towards a matrix of the user's own: as towards that of pixels, in the order of the images."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import netprobe as npb
from netprobe import data
from netprobe.cli import main
from netprobe.defenses.regularisers import Similarity, Subject, describe_regulariser
from netprobe.defenses.regularisers.similarity.images import regularisation_images
from netprobe.defenses.regularisers.similarity.pair_stream import PairStream
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import digits_cnn
from netprobe.recipes import Recipe
from netprobe.representations.given import GivenSimilarity
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import SimilarityRange
from netprobe.testing.regularisers import LAWS, RegulariserSubject
from netprobe.testing.training import differing, killed_after
from netprobe.training import fit, loop
from netprobe.training.selecting import select_regulariser

SHORT = Recipe(epochs=1, batch_size=64, lr=0.02, schedule="constant", validation=0.0, channels_last=False)
COUNT, PAIRS = 60, 8


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=120)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return digits_cnn()


@pytest.fixture
def stimuli(tmp_path):
    """Images of another set, as a file."""
    images = data.load("digits", "test", limit=40)
    np.savez(tmp_path / "stimuli.npz", x=images.stored.numpy(), y=images.labels.numpy())
    return str(tmp_path / "stimuli.npz")


def train(model, images, term, recipe=SHORT, **settings):
    return fit("natural", model, images, recipe, regularise=term, progress=False, **settings)


def correlations(images: int, seed: int = 0) -> np.ndarray:
    return np.corrcoef(np.random.default_rng(seed).normal(size=(images, 10)))


def saved(matrix: np.ndarray, folder, name: str = "neural.npy") -> str:
    np.save(folder / name, matrix)
    return str(folder / name)


def pixels(drawn, among: int) -> np.ndarray:
    """What the pixels of the images that are drawn say of all `among` of their set; NaN of the others."""
    n, similarity = len(drawn.places), PixelSimilarity(drawn.images)
    matrix = np.full((among, among), np.nan)
    first, second = (places.flatten() for places in torch.meshgrid(*[torch.arange(n)] * 2, indexing="ij"))
    matrix[drawn.places[first].numpy(), drawn.places[second].numpy()] = similarity.pairs(first, second).numpy()
    return matrix


@pytest.mark.parametrize("own", [True, False], ids=["own", "others"])
def test_places_are_those_of_the_images_in_their_set(own, network, digits, stimuli):
    kept = ~digits.taken(30, seed=5)
    subject = Subject(network, torch.rand(2, 1, 8, 8), 90, 64, digits.select(kept), kept=kept)
    what, whole = ("own", digits) if own else (stimuli, data.load(stimuli))
    drawn = regularisation_images(what, subject, count=25, size=None, split="all", seed=1)
    assert torch.equal(drawn.images.stored, whole.stored[drawn.places]) and drawn.among == len(whole)
    assert len(set(drawn.places.tolist())) == 25 and drawn.places.tolist() != sorted(drawn.places.tolist())
    assert not own or kept[drawn.places].all()


RANGES = {
    "S^Th": {"threshold": 0.5},
    "S^pixel": {"threshold": None},
    "low": {"threshold": 0.4, "kept": "low"},
    "high_positive": {"threshold": 0.7, "kept": "high_positive"},
    "double": {"threshold": 0.4, "kept": "double", "lower": 0.1},
}


@pytest.mark.parametrize("chosen", RANGES)
@pytest.mark.parametrize("own", [True, False], ids=["own", "others"])
def test_the_pixels_matrix_trains_as_the_pixels_do_to_the_last_bit(own, chosen, network, digits, stimuli, tmp_path):
    """Though a part is held out, and not all images are drawn."""
    which = {} if own else {"images": stimuli, "split": "all"}
    term = Similarity(**which, **RANGES[chosen], count=25, pairs=PAIRS)
    recipe, among = SHORT.with_settings(validation=0.25), 120 if own else 40
    kept = ~digits.taken(30, recipe.seed)
    subject = Subject(network, torch.rand(2, 1, 8, 8), 90, 64, digits.select(kept), kept=kept)
    drawn = regularisation_images(term.images, subject, count=25, size=None, split=term.split, seed=0)
    target = dataclasses.replace(term, target=saved(pixels(drawn, among), tmp_path))
    one, other = (train(network, digits, each, recipe) for each in (term, target))
    assert not differing(one.last.state_dict(), other.last.state_dict())
    assert one.history["similarity"].equals(other.history["similarity"])


def test_pairs_that_were_not_measured_are_never_drawn():
    matrix = correlations(30)
    holes = np.triu(np.random.default_rng(1).random((30, 30)) < 0.5, 1)
    matrix[holes | holes.T] = np.nan
    stream = PairStream(GivenSimilarity(matrix), SimilarityRange(None), 0)
    pairs = stream.take(0, 3 * int((~holes).sum()))
    assert pairs.target.isfinite().all() and not holes[pairs.first.numpy(), pairs.second.numpy()].any()
    known = {(i, j) for i in range(30) for j in range(i + 1, 30) if not holes[i, j]}
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == known
    assert pairs.target.tolist() == matrix[pairs.first.numpy(), pairs.second.numpy()].tolist()


def test_few_measured_pairs_are_found():
    matrix = np.full((80, 80), np.nan)
    matrix[[3, 70, 5, 9], [70, 3, 9, 5]] = 0.9, 0.9, -0.7, -0.7
    stream = PairStream(GivenSimilarity(matrix), SimilarityRange(0.8), 0)
    pairs = stream.take(0, 6)
    assert {(3, 70, 1.0), (5, 9, 0.0)} == set(zip(*(part.tolist() for part in pairs[:3]), strict=True))


def test_training_towards_a_matrix_raises_the_correlation_with_it(network, digits, tmp_path):
    """RSA, of the images that are not held out, in the order that all were given in."""
    some, matrix = digits.take(25), correlations(25)
    recipe = SHORT.with_settings(epochs=15, batch_size=20, lr=0.05, validation=0.2)
    kept = ~some.taken(5, recipe.seed)
    references = {"order": matrix[kept][:, kept], "another": matrix[kept][::-1, kept][:, ::-1]}
    term = {"target": saved(matrix, tmp_path), "threshold": None, "pairs": 190, "sites": "relu4", "measure": "mse"}
    found = {}
    for coupling in (0, 10):
        last = train(network, some, Similarity(coupling=coupling, **term), recipe).last
        tree = npb.similarity_matrices({"net": last}, some.select(kept), sites="relu4", progress=False, preflight=False)
        told = npb.rsa(tree, references, among=False, resamples=0, permutations=0, progress=False)["net/rsa/pearson"]
        found[coupling] = {str(name): float(told.sel(other=name).squeeze()) for name in references}
    assert found[0]["order"] < 0.3 and found[10]["order"] > 0.8 and abs(found[10]["another"]) < 0.3, found


def test_images_beside_a_matrix_are_not_augmented(network, stimuli, tmp_path):
    term = Similarity(images=stimuli, split="all", target=saved(correlations(40), tmp_path))
    stored = data.load(stimuli).stored
    subject = Subject(
        network, torch.rand(2, 1, 8, 8), 40, 8, data.load(stimuli), augmented=None, placed=lambda images: images.stored
    )
    images = term.penalty(subject).images
    assert {tuple(image.flatten().tolist()) for image in images} == {tuple(one.flatten().tolist()) for one in stored}
    recipe = SHORT.with_settings(augment="crop-flip")
    assert float(train(network, data.load(stimuli), term, recipe).history["similarity"][0]) > 0


@pytest.mark.parametrize(
    ("matrix", "settings", "message"),
    [
        (np.ones((40, 3)), {}, r"target='.*neural.npy' is \(40, 3\), and must be square"),
        (np.triu(np.ones((40, 40))), {}, "is not symmetric"),
        (correlations(39), {}, r"is of 39 images, and there are 40: .* in the order of npb.data.load\('.*', 'all'\)"),
        (3 * correlations(40), {}, r"must lie in \[-1, 1\]"),
        (correlations(40), {"kept": "high", "threshold": 0.99}, "none of the pairs of 40 images is kept"),
        (np.full((40, 40), np.nan), {}, "none of the pairs of 40 images is kept"),
        (correlations(40).astype(object), {}, "never unpickled"),
        (correlations(40), {"images": "own"}, "is of 40 images, and there are 120: .* before any are held out"),
        (correlations(40), {"target": "absent.npy"}, "there is no file absent.npy"),
        (correlations(40), {"target": "neural.mat"}, r"target='neural.mat': give a .npy file"),
        (correlations(40), {"target": "pixel"}, r"target='pixel': give a .npy file"),
    ],
)
def test_mistakes_are_found_before_training(matrix, settings, message, network, digits, stimuli, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Loop, "__init__", None)
    term = {"images": stimuli, "split": "all", "target": saved(matrix, tmp_path)} | settings
    with pytest.raises(NetprobeError, match=message):
        train(network, digits, Similarity(**term), SHORT.with_settings(validation=0.25), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_array_is_no_setting():
    with pytest.raises(NetprobeError, match="must be 'pixels' or the path of a file, not ndarray"):
        Similarity(target=np.eye(3))
    with pytest.raises(NetprobeError, match="the path of a file, not None"):
        Similarity(target=None)


def test_a_training_goes_on_with_the_same_values_alone(network, digits, tmp_path):
    matrix, settings = correlations(120), {"count": COUNT, "pairs": PAIRS, "threshold": 0.2}
    here, moved = saved(matrix, tmp_path), saved(matrix, tmp_path, "moved.npy")
    changed = matrix.copy()
    changed[3, 4] = changed[4, 3] = 0.0
    other = saved(changed, tmp_path, "other.npy")
    whole = train(network, digits, Similarity(target=here, **settings), epochs=2)
    with killed_after(3):
        train(network, digits, Similarity(target=here, **settings), epochs=2, out=tmp_path / "run", save_every=0.0)
    for wrong in (other, "pixels"):
        with pytest.raises(CheckpointError, match=r"other regularisers: another target\)"):
            train(network, digits, Similarity(target=wrong, **settings), epochs=2, out=tmp_path / "run")
    again = train(network, digits, Similarity(target=moved, **settings), epochs=2, out=tmp_path / "run")
    assert not differing(whole.last.state_dict(), again.last.state_dict())
    (told,) = torch.load(tmp_path / "run" / "best.pt", weights_only=True)["netprobe"]["regularisers"]
    assert told["target"] == moved and len(told["contents"]["target"]) == 64


BEFORE = {
    "regulariser": "similarity",
    **{"coupling": 10.0, "images": "own", "count": 60, "size": None, "split": "train", "pairs": 8, "threshold": 0.8},
    **{"kept": "all", "lower": None, "sites": "stages", "decay": 0.9, "measure": "fisher", "statistics": "both"},
    "seed": 0,
}


def test_a_folder_from_before_there_were_targets_goes_on(network, digits, tmp_path):
    """What it says of itself, and by that the key that must be the same, has no word of them."""
    assert describe_regulariser(Similarity(count=COUNT, pairs=PAIRS)) == BEFORE
    assert describe_regulariser(Similarity(count=COUNT, pairs=PAIRS, target="pixels")) == BEFORE
    train(network, digits, Similarity(count=COUNT, pairs=PAIRS), out=tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["netprobe"]["regularisers"] == [BEFORE]


def test_it_keeps_the_laws_of_regularisers(tmp_path):
    target = saved(correlations(64), tmp_path)
    term = Similarity(target=target, count=40, pairs=8, threshold=None, coupling=0.3)
    subject = RegulariserSubject(term)
    for law in LAWS:
        law(subject)


def test_settings_are_selected_with_images_of_another_set(digits, stimuli, tmp_path):
    target = saved(correlations(40), tmp_path)
    quick = {"epochs": 1, "batch_size": 64, "cycles": (), "milestones": (), "validation": 0.0, "progress": False}
    start = f"similarity:images={stimuli},split=all,pairs=4"
    found = select_regulariser(start, {"target": ["pixels", target]}, "digits_cnn", digits, out=tmp_path / "o", **quick)
    assert len(found.trained) == 3 and found.candidates["target=pixels"].target == "pixels"
    own = "needs all images that are given for training"
    for start, grid in (("similarity", {"target": [target]}), (f"similarity:target={target}", {"coupling": [1.0]})):
        with pytest.raises(NetprobeError, match=own):
            select_regulariser(start, grid, "digits_cnn", digits, **quick)


def test_on_the_command_line(stimuli, tmp_path, monkeypatch):
    monkeypatch.setattr("netprobe.reporting.outcome.write", lambda *results: None)  # figures take seconds
    spec = f"similarity:images={stimuli},split=all,target={saved(correlations(40), tmp_path)},threshold=none,pairs=4"
    command = ["train", spec, "--data", "digits", "--limit", "100", "--model", "digits_cnn", "--preset", "quick"]
    done = CliRunner().invoke(main, [*command, "--epochs", "1", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "history.jsonl").read_text()
    assert json.loads(text.splitlines()[0])["similarity"] > 0
    refused = CliRunner().invoke(main, [*command[:1], spec.replace("neural", "neurel"), *command[2:]])
    assert refused.exit_code == 2 and "there is no file" in refused.output
    for page in (["train", "--help"], ["regularisers"], ["regularisers", "--help"]):
        assert "images=stimuli.npz,split=all,target=neural.npy" in CliRunner().invoke(main, page).output
