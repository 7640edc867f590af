"""What a training step with a regulariser costs: ours against the direct transcription of its equation, in one run.

    python tests/benchmarks/regularisers.py                        # the width and the batch of the paper
    python tests/benchmarks/regularisers.py --batch 200 --hidden 200   # a quick look
    python tests/benchmarks/regularisers.py --device cuda

One hidden layer, L_3-normalised images inside the network (`netprobe.models.shallow`), cross-entropy and one term, its
gradients with respect to all weights. The transcriptions:
    Jacobian, sampled   a forward pass of its own, n random projections, an input gradient each
    Jacobian, closed    the same; ours needs neither
    power law           the batch's covariance, rotated into the eigenvectors, of which the diagonal counts
    eigenvectors        what an epoch begins with: one covariance of all representations at once, float64
Both ways must give the same term, in float64, to 1e-9, where they are not random; the sampled one is compared at the
same random vectors.

Times are CPU seconds with one thread (wall seconds with more, or on a GPU, which is waited for); every round measures
both ways in turn, and a ratio is the median over rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import OrderedDict
from collections.abc import Callable

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from measuring import seconds
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from netprobe.defenses.regularisers import Jacobian, Regulariser, Spectral, Step, Subject
from netprobe.defenses.regularisers.watching import watching
from netprobe.models.shallow import shallow
from netprobe.processes import Processes
from netprobe.sites import listening

Term = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]


def network(hidden: int) -> nn.Sequential:
    """A shallow network that can be cut into parts."""
    return nn.Sequential(OrderedDict(shallow(10, 784, hidden=hidden).named_children()))


def ours(regulariser: Regulariser, model: nn.Module, x: Tensor) -> tuple[Term, nn.Module]:
    """(model, x) -> logits and term as a training step makes them, in one forward pass; and the penalty."""
    penalty = regulariser.penalty(Subject(model, x[:2], 10**6, len(x))).to(x)

    def term(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        with watching(model, penalty.sites, penalty.variables) as watch:
            logits = model(x)
        seen = watch.of(logits) if penalty.sites or penalty.variables else None
        values, variables = (seen.values, seen.variables) if seen else ({}, {})
        generator = torch.Generator(x.device).manual_seed(0)
        return logits, penalty(model, Step(values, variables, generator, lambda part: part))

    return term, penalty


def transcribed_jacobian(layers: int, projections: int) -> Term:
    """C / (n B) sum ||J^T w||^2 of what the first `layers` modules make of x, in a pass of its own."""

    def term(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, x = model(x), model.scale(x.flatten(1)).requires_grad_()
        z = model[2:layers](x)
        generator, total = torch.Generator(x.device).manual_seed(0), 0.0
        for _ in range(projections):
            w = torch.randn(z.shape, generator=generator, device=x.device).to(z)
            w = w / w.norm(dim=1, keepdim=True)
            (gradient,) = torch.autograd.grad((z * w).sum(), x, create_graph=True)
            total = total + gradient.square().sum()
        return logits, total * z.shape[1] / (projections * len(x))

    return term


def transcribed_spectral(directions: Tensor, tau: int = 10) -> Term:
    """lambda_n = [S^T Cov S]_nn."""

    def term(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        a = model[:4](x)
        lam = torch.diagonal(directions.T @ torch.cov(a.T) @ directions)
        rank = torch.arange(1, len(lam) + 1, device=x.device)
        target = lam[tau - 1].detach() * (tau / rank.to(lam))
        excess = (lam / target - 1)[(rank > tau) & (lam > 0)]
        return model[4:](a), (excess.square() + excess.relu()).sum() / len(lam)

    return term


def stepped(term: Term, model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    """One step's gradients."""

    def step() -> object:
        logits, value = term(model, x)
        return torch.autograd.grad(cross_entropy(logits, y) + 1e-3 * value, list(model.parameters()))

    return step


def surveyed(penalty: nn.Module, model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Our eigenvectors of x."""

    def survey(sites: tuple, take: Callable) -> None:
        with torch.no_grad(), listening(model, list(sites), take):
            for part in x.split(1000):
                model(part)

    return lambda: penalty.begin_epoch(model, survey, Processes())


def at_once(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """The transcription's."""

    @torch.no_grad()
    def find() -> object:
        return torch.linalg.eigh(torch.cov(torch.cat([model[:4](part) for part in x.split(1000)]).double().T))

    return find


def agree(name: str, ways: tuple[Term, Term], model: nn.Module, x: Tensor) -> None:
    """Both ways give the same value and gradients."""
    found = [term(model, x)[1] for term in ways]
    gradients = [torch.autograd.grad(value, model.hidden.weight)[0] for value in found]
    for one, other in zip((found[0], gradients[0]), (found[1], gradients[1]), strict=True):
        gap = float((one - other).detach().abs().max() / other.detach().abs().max())
        if gap > 1e-9:
            raise SystemExit(f"{name}: ours and the equation differ by {gap:.2g} of the largest")


def tasks(model: nn.Module, x: Tensor) -> dict[str, tuple[Term, Term]]:
    """What is measured in a training step: ours and the transcription."""
    sampled, _ = ours(Jacobian(site="relu", wrt="scaled", closed=False), model, x)
    closed, _ = ours(Jacobian(site="relu", wrt="scaled"), model, x)
    spectral, penalty = ours(Spectral(site="relu"), model, x)
    penalty.parts[0].directions.copy_(torch.linalg.qr(torch.randn_like(penalty.parts[0].directions))[0])
    jacobian = transcribed_jacobian(4, 3)
    return {
        "Jacobian, sampled": (sampled, jacobian),
        "Jacobian, closed": (closed, jacobian),
        "power law": (spectral, transcribed_spectral(penalty.parts[0].directions)),
    }


def line(name: str, ways: tuple[Callable, Callable], rounds: int, device: str) -> None:
    """Print how long both take."""
    for way in ways:
        seconds(way, device)
    times = np.array([[seconds(way, device) for way in ways] for _ in range(rounds)])
    mine, theirs = 1e3 * np.median(times, axis=0)
    print(f"  {name:20} {mine:10.1f} {theirs:10.1f} {np.median(times[:, 1] / times[:, 0]):6.2f}x", flush=True)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("batch", 1000), ("hidden", 2000), ("images", 10_000), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    small = network(50).double().to(asked.device)
    for name, ways in tasks(small, torch.rand(64, 784).double().to(asked.device)).items():
        if name != "Jacobian, closed":  # which is not random
            agree(name, ways, small, torch.rand(64, 784).double().to(asked.device))
    model = network(asked.hidden).to(asked.device)
    x, y = torch.rand(asked.batch, 784), torch.randint(10, (asked.batch,))
    x, y = x.to(asked.device), y.to(asked.device)
    print(f"D = 784, H = {asked.hidden}, {asked.batch} images a batch, {asked.rounds} rounds, {asked.device}, "
          f"{torch.get_num_threads()} thread(s), torch {torch.__version__}")  # fmt: skip
    print(f"  {'ms a step':20} {'ours':>10} {'equation':>10} {'ratio':>7}")
    for name, ways in tasks(model, x).items():
        line(name, tuple(stepped(term, model, x, y) for term in ways), asked.rounds, asked.device)
    everything = torch.rand(asked.images, 784).to(asked.device)
    _, penalty = ours(Spectral(site="relu"), model, x)
    ways = (surveyed(penalty, model, everything), at_once(model, everything))
    line(f"eigenvectors, {asked.images:,}", ways, asked.rounds, asked.device)


if __name__ == "__main__":
    main()
