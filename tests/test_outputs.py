"""Logits are found in every usual wrapping, and nothing else is taken for logits."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch

from netprobe.errors import NetprobeError
from netprobe.outputs import logits_of, widened

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
AUXILIARY = torch.zeros(2, 7)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, AUXILIARY),
        [None, LOGITS],
        {"features": AUXILIARY, "logits": LOGITS},
        OrderedDict(loss=torch.tensor(0.0), logits=LOGITS),
        SimpleNamespace(logits=LOGITS),
        namedtuple("Inception", "aux logits")(AUXILIARY, LOGITS),
    ],
    ids=["tensor", "tuple", "list", "mapping", "ordered", "attribute", "namedtuple"],
)
def test_logits_are_unwrapped(output):
    assert logits_of(output, images=2) is LOGITS


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"scores": LOGITS}, "dict with the keys 'scores'"),
        ((), "tuple of nothing"),
        ("text", "a str"),
        (SimpleNamespace(logits=None), "SimpleNamespace"),
        (LOGITS[0], r"float32 tensor of shape \(3,\)"),
        (LOGITS[:, :1], r"shape \(2, 1\)"),
        (LOGITS[:, :, None], r"shape \(2, 3, 1\)"),
        (LOGITS.long(), "int64 tensor"),
        (LOGITS[:1], "1 rows of logits for 2 images"),
    ],
)
def test_anything_else_is_an_error_that_says_what_came(output, message):
    with pytest.raises(NetprobeError, match=message):
        logits_of(output, images=2)


def test_widened_keeps_values_and_gradient():
    x = LOGITS.clone().requires_grad_()
    wide = widened(x)
    wide.sum().backward()
    assert wide.dtype == torch.float64 and torch.equal(wide.float(), LOGITS)
    assert torch.equal(x.grad, torch.ones_like(LOGITS))
