"""Are the outputs logits, finite, and as many as there are classes?"""

from __future__ import annotations

from torch import Tensor

from netprobe.preflight.context import Context, share
from netprobe.preflight.findings import Finding

ROUNDING = 1e-3  # of a sum over up to thousands of float32 or half-precision numbers


def forward_pass(context: Context) -> Finding | None:
    """The model must map many inputs, and one, to (N, K) finite numbers; else nothing more can be checked."""
    failure = _failure(context, context.x) or _failure(context, context.x[:1])
    if failure:
        return Finding(
            "error",
            "forward pass",
            failure,
            "Give inputs of the size, channels and precision that it was made for; or wrap it so that it "
            "returns (N, K) logits for any N.",
        )
    bad = ~context.logits.isfinite().all(1)
    if not bad.any():
        return None
    return Finding(
        "error",
        "forward pass",
        f"The outputs are NaN or infinite for {share(bad)} of the inputs.",
        "Look for such values in the checkpoint, and for 0 / 0 or log(0) in the forward pass.",
    )


def _failure(context: Context, x: Tensor) -> str | None:
    try:
        _ = context.logits if x is context.x else context.answers(x)
    except Exception as error:  # whatever a stranger's forward pass may raise is the evidence
        first_line = next(iter(str(error).strip().splitlines()), "")
        inputs = f"{str(x.dtype).removeprefix('torch.')} inputs of {'x'.join(map(str, x.shape))}"
        return f"{type(context.model).__name__} fails on {inputs}: {type(error).__name__}: {first_line}"
    return None


def class_count(context: Context) -> Finding | None:
    """As many outputs as classes; without class names, at least as many as labels need."""
    outputs = context.logits.shape[1]
    needed = 0 if context.all_labels is None else int(context.all_labels.max()) + 1
    classes = max(needed, outputs) if context.classes is None else len(context.classes)
    if classes > outputs:
        return Finding(
            "error",
            "classes",
            f"The model has {outputs} outputs for {classes} classes: some labels can never be predicted.",
            f"Load a model with num_classes={classes}, or the data set that it was trained on.",
        )
    if classes < outputs:
        return Finding(
            "warning",
            "classes",
            f"The model has {outputs} outputs, the data have {classes} classes.",
            "Unless the first classes of both are the same, accuracies are meaningless: keep the outputs for "
            "these classes only, or number the labels as the model does.",
        )
    return None


def probabilities(context: Context) -> Finding | None:
    """Outputs that went through a softmax; attacks and Grad-CAM need what came before."""
    outputs = context.logits
    bounded = outputs.min() >= 0 and outputs.max() <= 1 + ROUNDING
    if bounded and _all_close(outputs.sum(1), 1.0):
        return Finding(
            "error",
            "probabilities",
            f"All {len(outputs)} rows of outputs lie in [0, 1] and sum to 1: probabilities, not logits.",
            "Remove the final softmax: cross-entropy applies its own, and a second one takes away the "
            "gradient that attacks follow, so the model looks more robust than it is.",
        )
    if _all_close(outputs.logsumexp(1), 0.0):
        return Finding(
            "note",
            "probabilities",
            f"exp(outputs) sums to 1 in all {len(outputs)} rows: log-probabilities.",
            "Harmless for accuracy, cross-entropy and margins. Grad-CAM then explains the log-probability: "
            "remove the final log_softmax to have it explain the logit.",
        )
    return None


def _all_close(values: Tensor, target: float) -> bool:
    return bool(((values - target).abs() < ROUNDING).all())
