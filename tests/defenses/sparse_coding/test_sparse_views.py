"""What is shown of a sparse coding front end, against its definitions."""

import numpy as np
import pytest
import torch
from torch import nn

from netprobe import data
from netprobe.defenses import SparseCodingDefense
from netprobe.defenses.sparse_coding import code_steps, dictionary_atoms, patch_correlations, surrogate_curves
from netprobe.errors import NetprobeError
from netprobe.models import Normalized, digits_cnn

SETTINGS = {"patch": 4, "stride": 2, "atoms": 20, "image_size": 8, "image_channels": 1}


def made(**changed):
    torch.manual_seed(2)
    return SparseCodingDefense(**{**SETTINGS, "top": 6, **changed}).build(digits_cnn()).eval()


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=40)


def test_atoms_with_their_length_brightness_and_use(digits):
    model = made()
    encoder = model.front.encoder
    found = dictionary_atoms(model, digits, progress=False)
    atoms = encoder.dictionary.flatten(1).double()
    np.testing.assert_allclose(found["weight"].values.reshape(20, 16), atoms)
    np.testing.assert_allclose(found["length"], [sum(abs(w) for w in atom.tolist()) for atom in atoms])
    np.testing.assert_allclose(found["brightness"], [float(atom.mean()) * 4 for atom in atoms])
    counts = np.zeros(20)
    for projections in encoder.project(digits.inputs).flatten(0, 2).abs().tolist():
        counts[sorted(range(20), key=lambda number: -projections[number])[:6]] += 1
    tied = int((encoder.patches(digits.inputs) == 0).all(-1).sum())  # empty patches: all their projections are 0
    assert tied < 40
    np.testing.assert_allclose(found["use"] * 9 * 40, counts, atol=tied + 1e-9)
    assert float(found["use"].sum()) == pytest.approx(6)


def test_without_images_there_is_no_use():
    found = dictionary_atoms(made())
    assert "use" not in found and "idle" not in found["quantity"]


def test_what_a_dictionary_came_to(digits):
    model = made()
    found = dictionary_atoms(model, digits, progress=False)
    atoms = model.front.encoder.dictionary.flatten(1).double()
    cosines = [abs(float(a @ b)) for i, a in enumerate(atoms) for b in atoms[:i]]
    idle = [use <= sum(found["use"].values) / 20 / 10 for use in found["use"].values]
    outcome = dict(zip(found["quantity"].values, found["outcome"].values, strict=True))
    assert outcome["coherence"] == pytest.approx(sum(cosines) / 190)
    assert outcome["mean length"] == pytest.approx(float(atoms.abs().sum(1).mean()))
    assert outcome["idle"] == sum(idle) / 20
    with torch.no_grad():
        model.front.encoder.dictionary[:5] = -0.25
    assert float(dictionary_atoms(model)["outcome"].sel(quantity="nearly uniform")) >= 5 / 20


def test_a_report_of_the_training_has_the_atoms_and_a_code(digits):
    model = made()
    views = SparseCodingDefense(**SETTINGS).views({"trained": model}, digits)
    assert views["atoms"].equals(dictionary_atoms(model, digits, progress=False))
    assert views["code"].equals(code_steps(model, digits.inputs[0]))
    assert list(views["code"]["left"].values[:2]) == [20, 6]


@pytest.mark.parametrize("changed", [{}, {"dropout": 0.5}, {"dropout": 0.5, "sign_less": True}, {"quantised": False}])
def test_every_step_is_made_from_the_one_before(changed, digits):
    model, image = made(**changed), digits.inputs[3]
    encoder = model.front.encoder
    found = code_steps(model, image, (1, 2), seed=4)
    projections, top, dropped, coded = found["value"].values
    np.testing.assert_allclose(projections, encoder.project(image[None])[0, 1, 2])
    np.testing.assert_allclose(found["pixel"], image[:, 2:6, 4:8])
    kept = np.argsort(-abs(projections))[:6]
    expected = np.zeros(20)
    expected[kept] = abs(projections[kept]) if changed.get("sign_less") else projections[kept]
    np.testing.assert_allclose(top, expected)
    assert np.isin(dropped, [0.0, *top]).all()
    assert (dropped == top).all() == (not changed.get("dropout"))
    lengths, j = encoder.lengths().double().numpy(), encoder.threshold
    quantised = np.where(abs(dropped) > j * lengths, np.sign(dropped) * lengths, 0.0)
    np.testing.assert_allclose(coded, quantised if encoder.quantised else dropped, rtol=1e-6)


def test_steps_are_of_the_seed_and_leave_the_random_state_alone(digits):
    model, image = made(dropout=0.5), digits.inputs[3]
    torch.manual_seed(9)
    one, again = (code_steps(model, image, seed=1)["value"] for _ in range(2))
    after = torch.rand(1)
    torch.manual_seed(9)
    assert torch.equal(after, torch.rand(1))
    assert one.equals(again)
    assert not one.equals(code_steps(model, image, seed=2)["value"])


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 1, "same"), (5, 2, 2), (2, 2, 0), (4, 1, "valid")]
)
def test_correlations_are_those_at_the_same_place(kernel, stride, padding, digits):
    model, image = made(), digits.inputs[3]
    torch.manual_seed(0)
    first = nn.Conv2d(1, 7, kernel, stride, padding)
    classifier = Normalized(nn.Sequential(first, nn.Flatten(), nn.LazyLinear(10)), [0.4], [0.2])
    classifier(image[None])  # gives the lazy layer its shape
    found = patch_correlations(model, classifier, image, (1, 2))
    atoms, patch = model.front.encoder.dictionary.flatten(1).double(), image[:, 2:6, 4:8].flatten().double()
    before = {"same": (kernel - 1) // 2, "valid": 0}.get(padding, padding)
    centre = (2 + 1.5, 4 + 1.5)
    row, column = (int(np.floor((c + before - (kernel - 1) / 2) / stride)) for c in centre)
    weight = first.weight.detach().double()
    weight = weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    def responses(x):
        padded = nn.functional.pad(x.double(), (before,) * 4)
        window = padded[:, row * stride : row * stride + kernel, column * stride : column * stride + kernel]
        return (weight * window).sum((1, 2, 3))

    values = [atoms @ patch, atoms @ (patch - patch.mean()), responses((image - 0.4) / 0.2), responses(image)]
    reach = max(float(each.abs().max()) for each in values)
    for density, peaked, each in zip(found["density"].values, found["peakedness"].values, values, strict=True):
        expected, edges = np.histogram(each, 50, (-reach, reach), density=True)
        width = edges[1] - edges[0]
        # Rounding in float32 may put a value on the other side of an edge.
        assert np.abs(np.cumsum(density - expected)).max() * width * len(each) <= 1.001
        assert density.sum() * width == pytest.approx(1)
        assert peaked == pytest.approx(float(each.abs().mean() / each.abs().max()), rel=1e-4)


def test_no_hook_stays_behind(digits):
    classifier = digits_cnn()
    patch_correlations(made(), classifier, digits.inputs[0])
    assert not any(module._forward_pre_hooks for module in classifier.modules())


def test_the_curves_are_the_formulas():
    curves = surrogate_curves(beta=2.0, eps=0.1)
    r, k = curves["r"].values, 4.0
    assert r[0] == -0.75 and r[-1] == 0.75
    np.testing.assert_allclose(curves["quantised"], np.sign(r - 0.2) / 2 + np.sign(r + 0.2) / 2)
    np.testing.assert_allclose(
        curves["smooth"].sel(sharpness=k), np.tanh(k * (r - 0.2)) / 2 + np.tanh(k * (r + 0.2)) / 2, atol=1e-12
    )
    slope = k / 2 * (np.cosh(k * (r - 0.2)) ** -2 + np.cosh(k * (r + 0.2)) ** -2)
    np.testing.assert_allclose(curves["slope"].sel(sharpness=k), slope)


def test_networks_and_patches_that_there_are_none_of(digits):
    image = digits.inputs[0]
    with pytest.raises(NetprobeError, match="a ConvNet has no sparse coding front end"):
        dictionary_atoms(digits_cnn())
    with pytest.raises(NetprobeError, match=r"there are 3 x 3 patches: .* not \(3, 0\)"):
        code_steps(made(), image, (3, 0))
    with pytest.raises(NetprobeError, match="no first convolution"):
        patch_correlations(made(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), image)
