"""Learning a dictionary of atoms from patches of images."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.linalg.blas import dger
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.data.dataset import to_float
from netprobe.defenses.sparse_coding.encoder import patches_across
from netprobe.errors import unknown

MODES = ("reproduce", "converged")
BATCH = 5
"""Patches of a step of the published schedule."""
VANISHED = 1e-10
"""Length of an updated atom under which nothing has made use of it."""
SAMPLE, PASSES, CONVERGED_BATCH = 10_000, 10, 256
"""Of the converged mode: patches, passes over them at most, and patches of a step."""


def learn_dictionary(
    data: Data,
    *,
    atoms: int,
    patch: int,
    stride: int,
    penalty: float,
    steps: int,
    mode: str = "reproduce",
    seed: int = 0,
    progress: bool = True,
) -> Tensor:
    """Atoms d_l of unit L2 norm for patches x of `data`, raw, with no mean taken off:

        min over D of the mean over patches of min over alpha of 1/2 ||x - D alpha||^2 + penalty ||alpha||_1

    Patches of `patch` x `patch` pixels lie `stride` apart; those that are learnt from are drawn at random.

    reproduce   what the published dictionaries come from, scikit-learn 0.22's online solver: `steps` steps of 5 new
                patches, which are not nearly enough to converge. With t patches seen so far, roughly, older ones count
                for less: A <- A (1 - 5 / (t + 1)) + alpha alpha^T, B likewise with x alpha^T; one round of block
                coordinate descent on ||B - D A||^2, atoms brought to length 1; atoms that nothing uses are drawn anew.
    converged   scikit-learn's present solver, at most 10 passes over 10,000 patches, until it stops improving.
                `steps` does not count.

    Returns (atoms, C, patch, patch) float32 filters, the same for the same seed. Codes are made by LARS.

    Cost: LARS takes 4 to 10 ms a patch with 500 atoms of 48 values on one core of a 2020s server, so 1000 steps about
    45 seconds, and the converged mode ten minutes at most.

    References
    ----------
    Mairal, Bach, Ponce and Sapiro, JMLR 2010; Bakiskan 2022, equation 4.4.
    """
    if mode not in MODES:
        raise unknown("mode of learning a dictionary", mode, MODES)
    drawn = np.random.default_rng(seed)
    patches = draw_patches(data, steps * BATCH if mode == "reproduce" else SAMPLE, patch, stride, drawn)
    # One thread: these matrices are small, and the order of sums, so the result, does not depend on the machine's load.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # LARS ends early where atoms are nearly parallel
        if mode == "reproduce":
            found = _online(patches, atoms, penalty, drawn, progress)
        else:
            found = _converged(patches, atoms, penalty, seed, progress)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return torch.from_numpy(found).float().view(atoms, data.shape[0], patch, patch)


def draw_patches(data: Data, count: int, patch: int, stride: int, drawn: np.random.Generator) -> np.ndarray:
    """`count` random patches of the grid, float64 (count, C * patch * patch), one channel after the other."""
    down, across = (patches_across(side, patch, stride) for side in data.shape[1:])
    image, top, left = (drawn.integers(most, size=count) for most in (len(data), down, across))
    return np.stack(
        [
            to_float(data.stored[i, :, stride * y : stride * y + patch, stride * x : stride * x + patch]).flatten()
            for i, y, x in zip(image, top, left, strict=True)
        ]
    ).astype(np.float64)


def objective(dictionary: Tensor, patches: np.ndarray, penalty: float) -> float:
    """The mean over patches (P, C n n) of 1/2 ||x - D alpha||^2 + penalty ||alpha||_1 at the best alpha; smaller is
    better.
    """
    atoms = dictionary.flatten(1).double().numpy()
    codes = _codes(patches, atoms, penalty)
    return float((0.5 * (patches - codes @ atoms) ** 2).sum(1).mean() + penalty * np.abs(codes).sum(1).mean())


def _codes(patches: np.ndarray, atoms: np.ndarray, penalty: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return sparse_encode(patches, atoms, algorithm="lasso_lars", alpha=penalty, check_input=False)


def _online(patches: np.ndarray, atoms: int, penalty: float, drawn: np.random.Generator, progress: bool) -> np.ndarray:
    D = np.asfortranarray(drawn.standard_normal((patches.shape[1], atoms)))
    D /= np.linalg.norm(D, axis=0)
    A, B = np.zeros((atoms, atoms)), np.zeros(D.shape)
    steps = tqdm(np.split(patches, len(patches) // BATCH), "dictionary", unit="step", disable=not progress)
    for step, x in enumerate(steps):
        codes = _codes(x, D.T, penalty)
        kept = _kept(step)
        A = kept * A + codes.T @ codes
        B = kept * B + x.T @ codes
        _update(D, A, B, drawn)
    return D.T.copy()


def _kept(step: int) -> float:
    """The weight of what came before, which falls to nearly nothing in the first steps and rises to 1."""
    theta = (step + 1) * BATCH if step < BATCH - 1 else BATCH**2 + step + 1 - BATCH
    return (theta + 1 - BATCH) / (theta + 1)


def _update(D: np.ndarray, A: np.ndarray, B: np.ndarray, drawn: np.random.Generator) -> None:
    """One round over all atoms, in place, as in scikit-learn 0.22: it minimises ||B - D A||^2, where the exact update
    of Mairal et al. would minimise tr(D^T D A) / 2 - tr(D^T B).
    """
    residual = np.asfortranarray(B - D @ A)
    for k, row in enumerate(A):
        atom = residual @ row + D[:, k] * (row @ row)
        length = np.linalg.norm(atom)
        if length < VANISHED:
            atom, A[k] = drawn.standard_normal(len(D)), 0.0
            D[:, k] = atom / np.linalg.norm(atom)
            continue
        before, D[:, k] = D[:, k].copy(), atom / length
        dger(1.0, before - D[:, k], row, a=residual, overwrite_a=True)


def _converged(patches: np.ndarray, atoms: int, penalty: float, seed: int, progress: bool) -> np.ndarray:
    steps = PASSES * -(-len(patches) // CONVERGED_BATCH)
    with tqdm(total=steps, desc="dictionary", unit="step", disable=not progress) as bar:
        solver = MiniBatchDictionaryLearning(
            n_components=atoms,
            alpha=penalty,
            max_iter=PASSES,
            batch_size=CONVERGED_BATCH,
            fit_algorithm="lars",
            random_state=seed,
            callback=lambda _: bar.update(),
        )
        return solver.fit(patches).components_
