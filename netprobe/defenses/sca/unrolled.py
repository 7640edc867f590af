"""The steps of a self-consistent layer in closed form: their values, their gradient, and no graph kept of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


@dataclass(frozen=True)
class Steps:
    """How activations move: `count` times a <- phi(a - eta k u), u the gradient of the energy.

    lam         weight of the reconstruction in the energy
    cap         m: k = min(1, m / max |u|), for every row by itself, without a gradient
    checkpoint  keep activations alone for the backward pass and make the rest again: for less than a third of the
                memory, one of the products of a step once more
    """

    count: int
    eta: float
    lam: float
    cap: float
    checkpoint: bool = False


@dataclass(frozen=True)
class Pattern:
    """All that a step multiplies and adds: b = a K^T + base, in which K is the lateral map above the feedback.

        feedback as it is    K = [C~; V]          base = [c, v - x]            b = [z, -q]
        its Gram matrix      K = [C~; lam V^T V]  base = [c, lam (v - x) V]    b = [z, -lam q V]

    so that a step is two products with tall matrices instead of four with small ones. C~ is C with a diagonal of
    zeros. The two are equal but for rounding; the Gram matrix is cheaper where d is large beside n (`pattern`).

    matrix (n + e, n), in the precision of the products; base (R, n + e); gram : which of the two.
    """

    matrix: Tensor
    base: Tensor
    gram: bool

    @property
    def units(self) -> int:
        return self.matrix.shape[1]


def masked(lateral: Tensor) -> Tensor:
    """C~: no unit predicts itself."""
    return lateral.masked_fill(torch.eye(len(lateral), dtype=torch.bool, device=lateral.device), 0)


def pattern(
    x: Tensor, lateral: Tensor, lateral_bias: Tensor, feedback: Tensor, feedback_bias: Tensor, steps: Steps
) -> Pattern:
    """What the steps of rows x (R, d) need, made once and not every step.

    A row costs 2 n (n + d) multiplications a step with V (d, n), 3 n^2 with V^T V, which takes n^2 d to make and n d a
    row; in a precision below float32 the latter would lose too many digits.
    """
    rows, (features, units) = len(x), feedback.shape
    saved = rows * steps.count * (2 * features - units)
    gram = feedback.dtype.itemsize >= 4 and saved > features * (units + rows)
    lower, away = feedback, feedback_bias.to(x.dtype) - x
    if gram:
        lower, away = steps.lam * (feedback.t() @ feedback), steps.lam * (away @ feedback)
    base = torch.cat([lateral_bias.to(x.dtype).expand(rows, units), away], 1)
    return Pattern(torch.cat([masked(lateral), lower]), base, gram)


def settle(s: Tensor, pattern: Pattern, steps: Steps) -> tuple[Tensor, Tensor]:
    """phi(s_T) (R, n) from s_0, and the share of updates that the cap shortened, a scalar without a gradient.

    The gradient is that of the unrolled steps, in closed form: between kinks u is H a + ... with a symmetric H, so that
    a step back costs what a step costs. Kept for it, where only inputs need a gradient: two bytes a unit and step;
    where weights do: activations and what the second product was given. Second derivatives are those of a graph that
    is made for them.
    """
    if torch.is_grad_enabled():
        return _Settle.apply(s, pattern.base, pattern.matrix, pattern.gram, steps)
    a, capped = s, s.new_zeros(())
    for a, shortened in activations(s, pattern, steps):  # noqa: B007 - the last is the result
        capped += shortened.sum()
    return a, capped / max(steps.count * len(s), 1)


def activations(s: Tensor, pattern: Pattern, steps: Steps) -> Iterator[tuple[Tensor, Tensor]]:
    """a_0, ..., a_T and, with each, which rows the cap shortened on the way to it (R,); graphs where they are on."""
    a = s.relu()
    yield a, torch.zeros_like(s[:, 0], dtype=torch.bool)
    for _ in range(steps.count):
        a, _, shortened, *_ = _step(a, pattern, steps)
        yield a, shortened


def _step(a: Tensor, pattern: Pattern, steps: Steps) -> tuple[Tensor, ...]:
    """The next a; -eta k (R, 1); which rows were shortened (R,); and what `_update` gives besides u."""
    u, given, active = _update(a, pattern, steps)
    peak = torch.linalg.vector_norm(u.detach(), math.inf, dim=1, keepdim=True)
    stride = (steps.cap / peak).clamp(max=1).mul_(-steps.eta)
    return u.mul_(stride).add_(a).relu_(), stride, peak.squeeze(1) > steps.cap, given, active


def _update(a: Tensor, pattern: Pattern, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
    """u, what the second product was given (-psi'(z) r and, with V, -lam q), and psi'(z)."""
    n = pattern.units
    b = _plus(pattern.base, a, pattern.matrix.t())
    z, rest = b[:, :n], b[:, n:]
    r, active = a - z.relu(), z > 0
    predicted = torch.where(active, -r, 0)
    if pattern.gram:
        return _plus(r + rest, predicted, pattern.matrix[:n]), predicted, active
    given = torch.cat([predicted, steps.lam * rest], 1)
    return _plus(r, given, pattern.matrix), given, active


def _plus(base: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """base + left @ right, the product in the precision of `right`."""
    if left.dtype == right.dtype == base.dtype:
        return torch.addmm(base, left, right)
    return base + left.to(right.dtype) @ right


class _Settle(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, s: Tensor, base: Tensor, matrix: Tensor, gram: bool, steps: Steps
    ) -> tuple[Tensor, Tensor]:
        ctx.gram, ctx.steps = gram, steps
        learning = ctx.needs_input_grad[2]
        found, a, kept = Pattern(matrix, base, gram), s.relu(), []
        capped = s.new_zeros(())
        for _ in range(steps.count):
            after, stride, shortened, given, active = _step(a, found, steps)
            kept += [stride, *_memory(a, given, active, learning, steps)]
            a, capped = after, capped + shortened.sum()
        ctx.save_for_backward(s, base, matrix, a > 0, *kept)
        capped /= max(steps.count * len(s), 1)
        ctx.mark_non_differentiable(capped)
        return a, capped

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # second derivatives are asked for
            return *_of_a_graph(ctx, gradient), None, None
        _, base, matrix, alive, *kept = ctx.saved_tensors
        learning, found = ctx.needs_input_grad[2], Pattern(matrix, base, ctx.gram)
        of_base = torch.zeros_like(base)
        of_matrix = torch.zeros_like(matrix, dtype=base.dtype) if learning else None
        each = len(kept) // ctx.steps.count if ctx.steps.count else 0
        for t in reversed(range(ctx.steps.count)):
            stride, *memory = kept[each * t : each * (t + 1)]
            a, given, active, before = _remembered(memory, found, learning, ctx.steps)
            gradient = gradient * alive
            h = gradient * stride
            of_b, y = _through(h, active, found, ctx.steps)
            if learning:
                _add_outer(of_matrix, of_b, a, matrix.dtype)
                _add_outer(of_matrix[: given.shape[1]], given, h, matrix.dtype)
            of_base += of_b
            gradient, alive = _plus(gradient.add_(y), of_b, matrix), before
        return gradient * alive, of_base, None if of_matrix is None else of_matrix.to(matrix.dtype), None, None


def _memory(a: Tensor, given: Tensor, active: Tensor, learning: bool, steps: Steps) -> tuple[Tensor, ...]:
    """What the way back needs of a step."""
    if not learning:
        return active, a > 0
    return (a,) if steps.checkpoint else (a, given, active)


def _remembered(
    memory: list[Tensor], pattern: Pattern, learning: bool, steps: Steps
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
    """a, what the second product was given, psi'(z), and which units were above 0 before the step."""
    if not learning:
        return None, None, *memory
    a = memory[0]
    given, active = _update(a, pattern, steps)[1:] if steps.checkpoint else memory[1:]
    return a, given, active, a > 0


def _through(h: Tensor, active: Tensor, pattern: Pattern, steps: Steps) -> tuple[Tensor, Tensor]:
    """The gradients with respect to b and, apart from it, to r, from h, that with respect to u."""
    n = pattern.units
    back = h.to(pattern.matrix.dtype) @ pattern.matrix[: n if pattern.gram else None].t()
    back = back.to(h.dtype)
    y = h - torch.where(active, back[:, :n], 0)
    rest = h if pattern.gram else steps.lam * back[:, n:]
    return torch.cat([torch.where(active, -y, 0), rest], 1), y


def _add_outer(total: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype) -> None:
    """total += left^T right, the product in the precision `dtype`."""
    if dtype == total.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t().to(dtype) @ right.to(dtype)


def _of_a_graph(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients by autograd, which can be differentiated in turn."""
    inputs = ctx.saved_tensors[:3]
    asked = [tensor for tensor, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
    s, base, matrix = inputs
    *_, (a, _) = activations(s, Pattern(matrix, base, ctx.gram), ctx.steps)
    found = iter(torch.autograd.grad(a, asked, gradient, create_graph=True, allow_unused=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:3])
