"""A step of training as penalties see it, on a network of one's choice."""

import contextlib

import pytest
import torch

from netprobe.defenses.regularisers import Step, Subject, parse_regulariser
from netprobe.defenses.regularisers.watching import watching


@pytest.fixture
def one_step():
    """`one_step(spec, model, x)`: the penalty's value there, the network in train mode."""

    def value(spec, model, x, generator=None, before=lambda penalty: None, batch_size=None):
        regulariser = parse_regulariser(spec)
        penalty = regulariser.penalty(Subject(model, x, len(x), batch_size or len(x)))
        before(penalty)
        model.train()
        with watching(model, penalty.sites, penalty.variables) as watch:
            logits = model(x)
        seen = watch.of(logits) if penalty.sites or penalty.variables else None
        tensors = (seen.values, seen.variables) if seen else ({}, {})
        step = Step(*tensors, generator, lambda part: part, lambda rows: rows, contextlib.nullcontext)
        return penalty(model, step)

    return value


@pytest.fixture
def surveying():
    """`surveying(model, x)`: what hands a penalty the activations of all of x, in parts."""
    from netprobe.sites import listening

    def of(model, x):
        def survey(sites, take):
            with torch.no_grad(), listening(model.eval(), list(sites), take):
                for part in x.split(7):
                    model(part)

        return survey

    return of
