"""Is the model in the state in which it can be measured?"""

from __future__ import annotations

from collections import Counter

from netprobe.preflight.context import Context
from netprobe.preflight.findings import Finding

MODE_MATTERS = ("BatchNorm", "InstanceNorm", "Dropout", "DropPath", "StochasticDepth", "RReLU")
SHOWN = 4


def train_mode(context: Context) -> Finding | None:
    """Modules that refuse eval mode, or that the caller left in train mode where it makes a difference."""
    modules = dict(context.model.named_modules())
    refusing = [name for name, module in modules.items() if module.training]
    if refusing:
        return Finding(
            "error",
            "train mode",
            f"Still in train mode after model.eval(): {_listed(refusing, modules)}.",
            "Pass the argument of train(mode) on to every module, or eval() cannot reach them.",
        )
    left = [n for n in context.train_mode if any(word in type(modules[n]).__name__ for word in MODE_MATTERS)]
    if not left:
        return None
    return Finding(
        "warning",
        "train mode",
        f"In train mode: {_listed(left, modules)}.",
        "netprobe measures in eval mode and puts the mode back, so its numbers will differ from any that you "
        "measure without model.eval().",
    )


def _listed(names: list[str], modules: dict) -> str:
    """Such as "5 BatchNorm2d, 1 Dropout ('bn1', 'bn2', 'bn3', 'bn4' and 2 more)"."""
    kinds = Counter(type(modules[name]).__name__ for name in names)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    shown = ", ".join(repr(name) if name else "the model itself" for name in names[:SHOWN])
    return f"{counted} ({shown}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''})"


def precision(context: Context) -> Finding | None:
    """Weights must be float32, as the inputs are; lower precision drowns small perturbations in rounding."""
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in context.held if tensor.is_floating_point()}
    if types <= {"float32"}:
        return None
    return Finding(
        "warning",
        "precision",
        f"Parameters and buffers are {' and '.join(sorted(types))}; inputs are float32.",
        "Measure model.float(): in bfloat16, rounding alone is as large as the effect of a small eps.",
    )


def devices(context: Context) -> Finding | None:
    """All weights on one device."""
    found = sorted({str(tensor.device) for tensor in context.held})
    if len(found) <= 1:
        return None
    return Finding(
        "warning",
        "devices",
        f"Parameters and buffers are on {' and '.join(found)}.",
        f"Move the whole model to one device, unless it moves tensors itself; inputs go to {context.device}.",
    )
