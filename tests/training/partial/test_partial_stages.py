"""What training does to the two parts: the sanity checks of the study that hold for any network, however short."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from partial_helpers import digits, small_grid, small_sweep, tiny_net

from netprobe.training import fit
from netprobe.training.partial import list_layers
from netprobe.training.partial.measuring import measure
from netprobe.training.partial.splitting import fresh
from netprobe.training.partial.sweeping import run
from netprobe.training.partial.units import Cell, Whole

LAYERS = list_layers(tiny_net())
STEPS = 2  # batches of 128 of 256 images
COMPUTED = (0, 2, 5)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Four codes and a single layer, computed at both ends and in the middle, the networks of stage 2 kept."""
    folder, codes = tmp_path_factory.mktemp("grid"), "A1N2,N1A2,A2N1,N2A1,N2A1_l"
    made = small_grid(folder, codes, range(6), epochs=1, weight_decay=0.01, keep_models=True)
    run(made, [unit for unit in made.units if isinstance(unit, Whole) or unit.cutoff in COMPUTED])
    return made


def of_stages(grid, unit: Cell) -> tuple:
    """The network of stage 1, that of stage 2, and the split between them."""
    return grid.study.trained(unit.stage1).model, grid.study.trained(unit).model, grid.study.split(unit)


def every_cell(grid) -> list[Cell]:
    return [unit for unit in grid.units if isinstance(unit, Cell) and unit.cutoff in COMPUTED]


def test_frozen_bytes_stay_and_the_rest_is_new(grid):
    """Check 2: with weight decay too, nothing frozen moves by a bit, and no fresh weight resembles stage 1."""
    for unit in every_cell(grid):
        before, after, ready = of_stages(grid, unit)
        assert {layer.name for layer in (*ready.frozen, *ready.retrained)} == set(LAYERS)
        for layer in ready.frozen:
            for one, other in zip(*(m.get_submodule(layer.name).parameters() for m in (before, after)), strict=True):
                assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes(), (unit.label, layer)
        for layer in ready.retrained:
            one, other = (m.get_submodule(layer.name).weight for m in (before, after))
            assert (one - other).abs().max() > 1e-4, (unit.label, layer)


def test_statistics_of_frozen_batch_norms_move_on_and_those_of_retrained_ones_begin_anew(grid):
    """Check 3. The counters tell: stage 1 took as many steps as stage 2."""
    for unit in every_cell(grid):
        before, after, ready = of_stages(grid, unit)
        for name in ("bn1", "bn2"):
            kept = name in {layer.name for layer in ready.frozen}
            one, other = before.get_submodule(name), after.get_submodule(name)
            assert int(other.num_batches_tracked) == STEPS * (2 if kept else 1), unit.label
            assert not torch.equal(one.running_mean, other.running_mean), unit.label


def test_with_everything_frozen_only_statistics_are_estimated_anew(grid):
    """Check 1, the end: the very parameters of stage 1, and about its numbers."""
    for unit in (u for u in every_cell(grid) if u.code.name in ("A1N2", "N1A2") and u.cutoff == len(LAYERS)):
        assert grid.study.result(unit)["trainable_parameters"] == 0
        one, other = grid.study.trained(unit.stage1).model, grid.study.trained(unit).model
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        assert not torch.equal(one.bn1.running_mean, other.bn1.running_mean)


def test_with_nothing_frozen_stage_2_is_plain_training(grid):
    """Check 1, the beginning: A1N2 is natural training, N1A2 adversarial training, whatever stage 1 was."""
    for unit in (u for u in every_cell(grid) if u.code.name in ("A1N2", "N1A2") and u.cutoff == 0):
        recipe = grid.study.recipe.with_settings(seed=unit.stage2_seed)
        start = fresh(tiny_net(), unit.stage2_seed)
        plain = fit(grid.study.trainings[unit.code.stage2], start, digits()[0], recipe, progress=False).model
        found = grid.study.trained(unit).model.state_dict()
        assert all(torch.equal(value, plain.state_dict()[name]) for name, value in found.items())


def test_trainable_parameters_are_those_of_the_retrained_side(grid):
    """Check 8, by hand: conv1 54, bn1 12, conv2 648, bn2 24, linear 130."""
    sizes = [54, 12, 648, 24, 130]
    for unit in every_cell(grid):
        at = unit.cutoff
        wanted = {"early": sum(sizes[at:]), "late": sum(sizes[:at]), "rest": sum(sizes[at : at + 1])}
        assert grid.study.result(unit)["trainable_parameters"] == wanted[unit.code.frozen]
    data = grid.results()
    assert data["trainable_parameters"].sel(code="A1N2").values.tolist() == [868, 814, 802, 154, 130, 0]
    assert data["trainable_parameters"].sel(code="N2A1_l").values.tolist() == [*sizes, 0]
    assert data["layer_parameters"].values.tolist() == sizes
    assert grid.study.result(Whole("natural", 0))["trainable_parameters"] == sum(sizes)


def test_numbers_of_adversarial_layers_and_parameters(grid):
    data = grid.results()
    layers, parameters = data["adversarial_layers"], data["adversarial_parameters"]
    assert layers.sel(code="A1N2").values.tolist() == layers.sel(code="A2N1").values.tolist() == [0, 1, 2, 3, 4, 5]
    assert layers.sel(code="N1A2").values.tolist() == layers.sel(code="N2A1").values.tolist() == [5, 4, 3, 2, 1, 0]
    assert layers.sel(code="N2A1_l").values.tolist()[:5] == [4] * 5
    assert parameters.sel(code="A1N2").values.tolist() == [0, 54, 66, 714, 738, 868]
    assert parameters.sel(code="N2A1_l").values.tolist()[:5] == [814, 856, 220, 844, 738]
    assert data["layer"].values.tolist() == [*LAYERS, "end"]


def test_the_results_are_those_of_the_networks(grid):
    """Every cell of the Dataset holds what its own network does."""
    data = grid.results()
    for unit in every_cell(grid)[::4]:
        numbers = measure(grid.study.trained(unit).model, digits()[1], grid.study.attack, seed=unit.seed)
        own = data.sel(code=unit.code.name, cutoff=unit.cutoff, seed=unit.seed)
        assert float(own["clean_accuracy"]) == numbers["clean_correct"] / 64
        assert float(own["adversarial_loss"]) == numbers["adversarial_loss"]
    assert np.isnan(data["clean_loss"].sel(code="N2A1_l", cutoff=5)).all()
    assert (data["converged"].sel(code="N2A1_l", cutoff=5) == -1).all()


def test_stage_1_is_trained_once_for_all_codes_that_begin_alike(tmp_path):
    small_sweep(tmp_path, "A1N2", ["conv2"], epochs=1)
    (checkpoint,) = tmp_path.glob("training/adversarial-*/last.pt")
    written = checkpoint.stat().st_mtime_ns
    small_sweep(tmp_path, "A1N2,N2A1,A1A2,A2A1,N2A1_l", ["conv2"], epochs=1)
    assert checkpoint.stat().st_mtime_ns == written
    trained = {path.name.rpartition("-")[0] for path in (tmp_path / "training").iterdir()}
    assert trained == {"adversarial-seed0", "natural-seed0"}  # and the networks of stage 2 are gone
