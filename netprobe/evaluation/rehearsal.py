"""What would stop an evaluation hours from now, found before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from netprobe.data import Data
from netprobe.devices import device_of
from netprobe.errors import NetprobeError, unknown
from netprobe.evaluation.conditions import Condition
from netprobe.guard import full_precision, undisturbed
from netprobe.perturb.backward import declared_passes, surrogates
from netprobe.perturb.base import Perturbation
from netprobe.perturb.frozen import frozen
from netprobe.perturb.gradient import GradientAttack
from netprobe.perturb.objective import Goal, input_gradient, predict
from netprobe.perturb.transfer import Transfer

FEW = 2


def rehearse(models: Mapping[str, nn.Module], data: Data, conditions: Iterable[Condition]) -> None:
    """Show every model two images, with the checks of every perturbation and a gradient for every loss.

    Raises the NetprobeError that would come later, with the names of model and condition.
    """
    few, conditions = data.select(range(min(FEW, len(data)))), list(conditions)
    for each in conditions:
        _check_known(each, models)
    for name, model in models.items():
        (batch,) = few.batches(FEW, device_of(model))
        x = batch.x.to(next((p.dtype for p in model.parameters()), batch.x.dtype))
        with undisturbed(model), full_precision(), frozen(model):
            _check_classes(name, predict(model, x), data)
            for each in conditions:
                _check(f"{name}, {each.name}", each, model, x, batch.y)


def _check_known(condition: Condition, models: Mapping[str, nn.Module]) -> None:
    """Refuse a backward pass that none of the models declares: one of them alone may well lack it."""
    asked = getattr(condition.perturbation, "backward", None)
    known = [name for model in models.values() for name in declared_passes(model)]
    if asked is not None and asked not in known:
        raise unknown(f"backward pass of {condition.name}", asked, known, "The models must declare it.")


def _check_classes(name: str, logits: Tensor, data: Data) -> None:
    if (largest := int(data.labels.max())) >= logits.shape[1]:
        raise NetprobeError(
            f"{name}: labels go up to {largest}, but the model has {logits.shape[1]} classes: load it with "
            f"num_classes={data.num_classes}, or the data that it was trained on"
        )


def _check(where: str, condition: Condition, model: nn.Module, x: Tensor, y: Tensor) -> None:
    perturbation = condition.perturbation
    try:
        if isinstance(perturbation, Perturbation):
            perturbation.check_inputs(x)
        if hasattr(perturbation, "check_images"):
            perturbation.check_images(x)
        if isinstance(perturbation, GradientAttack):
            _check_gradient(perturbation, model, x, y)
        if isinstance(perturbation, Transfer) and isinstance(perturbation.attack, GradientAttack):
            source = perturbation.surrogate.model
            with undisturbed(source), frozen(source):
                _check_gradient(perturbation.attack, source, x.to(device_of(source)), y.to(device_of(source)))
    except NetprobeError as error:
        raise NetprobeError(f"{where}: {error}") from error


def _check_gradient(attack: GradientAttack, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """That there is one, by every backward pass that the attack will follow."""
    for name in attack.passes(model) or (None,):
        with surrogates(model, name):
            input_gradient(model, x, Goal(y, loss=attack.loss))
