"""State dicts are found, renamed and fitted; nothing that does not fit goes unsaid."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict

import pytest
import torch
from torch import nn

from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import ARCHITECTURES, Normalized, state_dicts
from netprobe.models.state_dicts import AVERAGES, WRAPPERS, find, find_module, fit, same_names, split_normalization


def net(classes: int = 3) -> nn.Sequential:
    layers = {"conv": nn.Conv2d(1, 2, 3), "bn": nn.BatchNorm2d(2), "flat": nn.Flatten(), "fc": nn.Linear(8, classes)}
    return nn.Sequential(OrderedDict(layers))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Weights unlike those of any fresh network."""
    return {name: torch.full_like(value, 3) for name, value in net().state_dict().items()}


def renamed(state: dict, prefix: str) -> dict:
    return {prefix + name: value for name, value in state.items()}


def assert_loaded(model: nn.Module) -> None:
    assert all((value == 3).all() for value in model.state_dict().values())


# ---------------------------------------------------------------- finding


@pytest.mark.parametrize("wrapper", [*WRAPPERS, *AVERAGES])
def test_every_usual_wrapper_is_opened(state, wrapper):
    found = find({"epoch": 3, wrapper: state, "optimizer": {"state": {0: {"momentum": torch.rand(3)}}}})
    assert found.where == wrapper and found.state == state and not found.others and not found.ignored


def test_nested_wrappers_are_opened(state):
    assert find({"model": {"state_dict": state, "config": {"depth": 3}}}).where == "model.state_dict"


def test_bare_dicts_are_taken_and_what_is_no_tensor_is_named(state):
    found = find({**state, "epoch": 5, "args": {"lr": 0.1}, 7: "seven"})
    assert found.where == "" and found.state == state and found.ignored == ("epoch", "args", "7")


def test_a_lone_number_beside_a_wrapper_is_no_state_dict(state):
    found = find({"best_accuracy": torch.tensor(0.93), "ema": state})
    assert found.where == "ema" and found.others == ()


LIKELIEST_FIRST = ["state_dict", "net", "model.state_dict", "", "ema", "module.ema"]


@pytest.mark.parametrize(("likelier", "other"), [*itertools.combinations(LIKELIEST_FIRST, 2)])
def test_the_choice_between_two_is_the_same_in_any_order(state, likelier, other):
    def entries(where):
        *outer, last = where.split(".")
        return (outer or [last])[0], {last: state} if outer else state

    for names in ((likelier, other), (other, likelier)):
        contents = {}
        for name in names:
            contents.update(state if name == "" else dict([entries(name)]))
        found = find(contents)
        assert (found.where, found.others) == (likelier, (other,))


def test_averages_are_taken_only_if_nothing_else_or_by_key(state):
    average = {name: value + 1 for name, value in state.items()}
    contents = {"model_ema": average, "model": state}
    assert find(contents).where == "model" and find(contents).others == ("model_ema",)
    assert find(contents, key="model_ema").state is not state
    assert torch.equal(find(contents, key="model_ema").state["fc.bias"], average["fc.bias"])


def test_a_key_reaches_any_depth_and_a_wrong_one_lists_all(state):
    contents = {"student": {"weights": state}, "teacher": {"weights": state}}
    assert find(contents, key="teacher.weights").where == "teacher.weights"
    with pytest.raises(CheckpointError, match=r"under 'student\.weights', 'teacher\.weights'; choose with key="):
        find(contents)
    with pytest.raises(NetprobeError, match=r"unknown key in w\.pt 'techer\.weights': did you mean 'teacher\.weights'"):
        find(contents, key="techer.weights", file="w.pt")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "an empty dict"),
        ({"epoch": 3, "lr": 0.1}, r"only epoch \(int\), lr \(float\)"),
        ([torch.rand(2)], "holds a list"),
        (torch.rand(2), "holds a Tensor"),
        ({0: torch.rand(2)}, r"only 0 \(Tensor\)"),
    ],
)
def test_what_holds_no_state_dict_is_described(contents, message):
    with pytest.raises(CheckpointError, match=rf"w\.pt has no state dict.*{message}"):
        find(contents, file="w.pt")


def test_modules_stand_for_their_state_dicts(state):
    model = net()
    assert find(model).state.keys() == state.keys()
    assert find({"model": model, "epoch": 1}).where == "model"
    assert find_module(model) is model and find_module({"epoch": 1, "ema": model}) is model
    assert find_module({"mine": model}) is None and find_module({"mine": model}, "mine") is model
    assert find_module({"model": state}) is None and find_module(3) is None


# ---------------------------------------------------------------- normalisation in the file


@pytest.mark.parametrize(
    ("mean", "std", "prefix"),
    [
        ("normalize.mean", "normalize.std", "net."),
        ("module.normalize.mean", "module.normalize.std", "module.net."),
        ("normalizer.mean", "normalizer.std", "model."),
        ("mean", "std", ""),
        ("module.mu", "module.sigma", "module."),
        ("0.mean", "0.std", "1."),
        ("module.0.mean", "module.0.std", "module.1."),
    ],
)
def test_the_statistics_of_a_wrapper_are_split_off(state, mean, std, prefix):
    saved = {mean: torch.full((1, 1, 1, 1), 0.4), std: torch.full((1, 1, 1, 1), 0.2), **renamed(state, prefix)}
    rest, carried = split_normalization(saved, net())
    assert [v.tolist() for v in carried] == [pytest.approx([0.4]), pytest.approx([0.2])]
    model = net()
    assert fit(model, rest).complete
    assert_loaded(model)


def test_statistics_that_the_model_has_itself_stay(state):
    model = Normalized(net(), 0.5, 0.5)
    saved = model.state_dict()
    assert split_normalization(saved, model) == (saved, None)


@pytest.mark.parametrize("names", [("mean",), ("mean", "sigma"), ("mean", "normalize.std"), ("a.mean", "a.std")])
def test_half_a_pair_stays(state, names):
    saved = {**state, **dict.fromkeys(names, torch.tensor([0.5]))}
    assert split_normalization(saved, net()) == (saved, None)


# ---------------------------------------------------------------- fitting


@pytest.mark.parametrize("theirs", ["", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model.net."])
@pytest.mark.parametrize("mine", ["", "module.", "net.", "model.net."])
def test_prefixes_are_dropped_on_either_side(state, theirs, mine):
    model = wrapped = net()
    for name in reversed([part for part in mine.split(".") if part]):
        wrapped = nn.Sequential(OrderedDict([(name, wrapped)]))
    fitted = fit(wrapped, renamed(state, theirs))
    assert fitted.complete and fitted.matched == len(state)
    assert_loaded(model)


def test_compiled_parts_keep_their_names(state):
    inside = {name.replace("conv.", "conv._orig_mod."): value for name, value in state.items()}
    model = net()
    assert fit(model, inside).complete
    assert_loaded(model)
    compiled = net()
    compiled.conv = torch.compile(compiled.conv)
    assert fit(compiled, state).complete
    assert_loaded(compiled)


def test_a_networks_own_child_called_model_is_no_wrapper(state):
    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = net()
            self.head = nn.Linear(3, 3)

    saved = {name: torch.full_like(value, 3) for name, value in Owner().state_dict().items()}
    model = Owner()
    assert fit(model, renamed(saved, "module.")).complete
    assert_loaded(model)


def test_losses_saved_beside_the_model_are_unexpected_under_their_own_name(state):
    model = net()
    fitted = fit(model, {**renamed(state, "model."), "criterion.weight": torch.rand(3)})
    assert fitted.unexpected == {"criterion.weight": (3,)} and not fitted.missing
    assert_loaded(model)


def test_of_two_that_fit_the_bare_names_win(state):
    others = {name: value + 1 for name, value in renamed(state, "module.").items()}
    model = net()
    assert list(fit(model, {**others, **state}).unexpected) == list(others)
    assert_loaded(model)


def test_batch_counters_may_be_missing(state):
    del state["bn.num_batches_tracked"]
    assert fit(net(), state).complete


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load_into_float32(state, dtype):
    model = net()
    assert fit(model, {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}).complete
    assert_loaded(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_shared_tensors_need_to_be_there_once():
    # safetensors' save_model writes a tensor that has two names under one of them.
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.Linear(2, 2)))
    model.b.weight = model.a.weight
    kept = {name: value for name, value in model.state_dict().items() if name != "b.weight"}
    assert fit(model, kept).complete


def test_lazy_parameters_take_the_shape_of_the_file(state):
    model = nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=nn.LazyLinear(3)))
    assert fit(model, {"fc.weight": state["fc.weight"], "fc.bias": state["fc.bias"]}).complete
    assert model.fc.weight.shape == (3, 8)


def test_modules_may_translate_the_names_of_their_older_versions(state):
    class Translating(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *rest):
            if f"{prefix}kernel" in state_dict:
                state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel")
            super()._load_from_state_dict(state_dict, prefix, *rest)

    model = nn.Sequential(OrderedDict(fc=Translating(8, 3)))
    assert fit(model, {"fc.kernel": state["fc.weight"], "fc.bias": state["fc.bias"]}).complete
    assert_loaded(model)


def test_a_module_that_refuses_its_weights_is_quoted():
    class Refusing(nn.Linear):
        def _load_from_state_dict(self, *_):
            raise ValueError("version 1 or 2, please")

    with pytest.raises(CheckpointError, match=r"version 1 or 2, please"):
        fit(Refusing(2, 2), nn.Linear(2, 2).state_dict())


def test_every_name_that_does_not_fit_is_listed_with_the_nearest(state):
    state["konv.weight"] = state.pop("conv.weight")
    state["bn.extra"] = torch.rand(5)
    state["fc.weight"] = torch.rand(4, 8)
    model = net()
    fitted = fit(model, state)
    assert fitted.missing == {"conv.weight": (2, 1, 3, 3)}
    assert fitted.unexpected == {"konv.weight": (2, 1, 3, 3), "bn.extra": (5,)}
    assert fitted.misshapen == {"fc.weight": ((3, 8), (4, 8))}
    assert fitted.matched == len(state) - 3 and not fitted.complete and fitted.classes is None
    assert fitted.listing().splitlines() == [
        "missing (the model has them, the checkpoint does not):",
        "  conv.weight (2, 1, 3, 3)   nearest: konv.weight",
        "unexpected (the checkpoint has them, the model does not):",
        "  konv.weight (2, 1, 3, 3)   nearest: conv.weight",
        "  bn.extra (5,)",
        "misshapen:",
        "  fc.weight: (3, 8) in the model, (4, 8) in the checkpoint",
    ]
    # What did fit is in the model all the same.
    assert (model.bn.weight == 3).all() and (model.fc.bias == 3).all() and not (model.fc.weight == 3).any()


def test_the_nearest_name_keeps_the_place_and_the_shape():
    shape, other = (4, 4), (5, 5)
    places = [f"layer{i}.{j}.{part}.0.weight" for i in (1, 2, 3) for j in (0, 1) for part in ("downsample", "conv1")]
    saved = {name: torch.zeros(shape if "downsample" in name else other) for name in places}
    model = nn.Module()
    for stage in (1, 2, 3):
        block = nn.Module()
        block.shortcut = nn.Sequential(nn.Linear(4, 4, bias=False))
        model.add_module(f"layer{stage}", nn.Sequential(block))
    lines = fit(model, saved).listing().splitlines()
    for stage in (1, 2, 3):
        line = next(line for line in lines if line.startswith(f"  layer{stage}.0.shortcut.0.weight"))
        assert line.split("nearest: ")[1].startswith(f"layer{stage}.0.downsample.0.weight")


def test_listing_stays_quick_for_large_networks():
    # Comparing every name with every other letter by letter took 15 seconds here.
    own = ARCHITECTURES["resnet56"]()
    foreign = {f"backbone.stages.{i}.{j}.norm.weight": torch.zeros(16) for i in range(20) for j in range(20)}
    fitted = fit(own, foreign)
    start = time.process_time()
    assert len(fitted.listing().splitlines()) == len(fitted.missing) + len(foreign) + 2
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("change", "classes"),
    [
        ({"fc.weight": (7, 8), "fc.bias": (7,)}, 7),
        ({"fc.weight": (7, 9), "fc.bias": (7,)}, None),
        ({"fc.weight": (7, 9)}, None),
        ({"fc.weight": (7, 8), "fc.bias": (6,)}, None),
        ({"fc.weight": (7, 8), "fc.bias": ()}, None),
        ({"fc.weight": (7, 8), "conv.weight": (7, 1, 3, 3)}, None),
        ({"fc.weight": (7, 8), "other": (7,)}, None),
        ({}, None),
    ],
)
def test_the_number_of_classes_is_read_off_where_it_is_clear(state, change, classes):
    assert fit(net(), {**state, **{name: torch.zeros(shape) for name, shape in change.items()}}).classes == classes


def test_same_names_ignores_prefixes_counters_and_shapes(state):
    del state["bn.num_batches_tracked"]
    assert same_names(net(classes=9), renamed(state, "module."))
    front = {"normalize.mean": torch.rand(1), "normalize.std": torch.rand(1)}
    assert same_names(net(), {**front, **renamed(state, "net.")})
    assert not same_names(net(), {**state, "more": torch.rand(2)})
    assert not same_names(net(), {}) and not same_names(nn.Flatten(), {})


STRANGE = state_dicts.Found(
    {name: torch.zeros(1) for name in ("frontend.conv.weight", "net.fc.weight", "net.fc2.bias")}, "", (), ()
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"frontend.conv": "front.filters"}, ["front.filters.weight", "net.fc.weight", "net.fc2.bias"]),
        ({"net": "classifier"}, ["frontend.conv.weight", "classifier.fc.weight", "classifier.fc2.bias"]),
        ({"net.fc": "linear"}, ["frontend.conv.weight", "linear.weight", "net.fc2.bias"]),
        ({"net": "", "net.fc2": "last"}, ["frontend.conv.weight", "fc.weight", "last.bias"]),
        ({"": "model"}, ["model.frontend.conv.weight", "model.net.fc.weight", "model.net.fc2.bias"]),
        ({"frontend.conv.weight": "w"}, ["w", "net.fc.weight", "net.fc2.bias"]),
    ],
)
def test_names_are_replaced_by_what_they_begin_with(names, expected):
    assert list(state_dicts.renamed(STRANGE, names).state) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"front": "f"}, r"unknown name in weights.pt 'front': did you mean 'frontend'"),
        ({"net.fc.weight": "same", "net.fc2.bias": "same"}, "several tensors of weights.pt the one name 'same'"),
    ],
)
def test_names_that_cannot_be_replaced_are_errors(names, message):
    with pytest.raises(NetprobeError, match=message):
        state_dicts.renamed(STRANGE, names, "weights.pt")
