"""Gram matrices, and singular values and eigenvalues in single precision, by the BLAS and LAPACK that scipy brings.

That is OpenBLAS where scipy came as a wheel, which from about 100 rows takes 0.6 to 0.9 of the time of torch's MKL on
AMD processors. scipy's own wrapper holds Python's global lock, so that two threads would work in turn; a call through
ctypes lets go of it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import numpy as np
from numba.extending import get_cython_function_address

BLOCK = 64
"""Columns that LAPACK updates at a time; more workspace than it asks for does no harm."""

Solver = Callable[[int, int], int]
"""From the address of a matrix, which is destroyed, and that of its values to LAPACK's `info`."""


def singular_values(matrices: np.ndarray) -> np.ndarray:
    """Of a batch (batch, rows, columns) of float32 or complex64, finite: (batch, min(rows, columns)) float32,
    descending. The matrices are destroyed if they are contiguous.

    Raises numpy's LinAlgError where the iteration does not converge.
    """
    return _each(_gesvd(*matrices.shape[1:], matrices.dtype.char), matrices)


def eigenvalues(matrices: np.ndarray) -> np.ndarray:
    """Of a batch (batch, side, side) of Hermitian float32 or complex64, finite: (batch, side) float32, ascending.

    Reads the lower triangles; otherwise as `singular_values`.
    """
    return _each(_heev(matrices.shape[1], matrices.dtype.char), matrices)


def grams(matrices: np.ndarray) -> np.ndarray:
    """Every matrix of a batch (batch, rows, columns), float or complex, times its adjoint, or its adjoint times itself
    if that is smaller: (batch, side, side), of which only the lower triangles are filled, for half of the work.
    """
    matrices = np.ascontiguousarray(matrices)
    batch, rows, columns = matrices.shape
    found = np.empty((batch, min(rows, columns), min(rows, columns)), matrices.dtype)
    multiply = _herk(rows, columns, matrices.dtype.char)
    for index in range(batch):
        multiply(matrices.ctypes.data + index * matrices.strides[0], found.ctypes.data + index * found.strides[0])
    return found


def _herk(rows: int, columns: int, dtype: str) -> Callable[[int, int], None]:
    """From the address of a matrix of one size to that of its Gram matrix."""
    name, scalar, adjoint = HERK[dtype]
    n, k, stride = (ctypes.c_int(size) for size in (min(rows, columns), max(rows, columns), columns))
    one, zero, at, herk = scalar(1), scalar(0), ctypes.byref, _routine(name, 8, "blas")
    order = adjoint if rows <= columns else b"N"  # of the transpose, which is what BLAS sees

    def multiply(a: int, c: int) -> None:
        herk(b"U", order, at(n), at(k), at(one), a, at(stride), at(zero), c, at(n))  # U: the rows-first lower triangle

    return multiply


HERK = {
    "f": ("ssyrk", ctypes.c_float, b"T"),
    "d": ("dsyrk", ctypes.c_double, b"T"),
    "F": ("cherk", ctypes.c_float, b"C"),
    "D": ("zherk", ctypes.c_double, b"C"),
}
"""By type: the routine, that of its factors, and the letter of the adjoint."""


def _each(solve: Solver, matrices: np.ndarray) -> np.ndarray:
    """Matrix by matrix."""
    matrices = np.ascontiguousarray(matrices)
    values = np.empty((len(matrices), min(matrices.shape[1:])), dtype=np.float32)
    a, s = matrices.ctypes.data, values.ctypes.data
    for index in range(len(matrices)):
        if info := solve(a + index * matrices.strides[0], s + index * values.strides[0]):
            raise np.linalg.LinAlgError(f"the values of matrix {index} did not converge (LAPACK returned {info})")
    return values


def _gesvd(rows: int, columns: int, dtype: str) -> Solver:
    """Singular values of matrices of one size."""
    m, n = columns, rows  # row-major means transposed to LAPACK, which changes no singular value
    scratch = _scratch(dtype, 5 * min(m, n) + BLOCK * (m + n), 5 * min(m, n))
    m, n, one, length, info = (ctypes.c_int(size) for size in (m, n, 1, len(scratch[0]), 0))
    at, gesvd = ctypes.byref, _routine({"f": "sgesvd", "F": "cgesvd"}[dtype], 11 + len(scratch))

    def solve(a: int, s: int) -> int:
        work, *real = (array.ctypes.data for array in scratch)
        gesvd(b"N", b"N", at(m), at(n), a, at(m), s, 0, at(one), 0, at(one), work, at(length), *real, at(info))
        return info.value

    return solve


def _heev(side: int, dtype: str) -> Solver:
    """Eigenvalues of Hermitian matrices of one size."""
    scratch = _scratch(dtype, (BLOCK + 2) * side, 3 * side)
    n, length, info = (ctypes.c_int(size) for size in (side, len(scratch[0]), 0))
    at, heev = ctypes.byref, _routine({"f": "ssyev", "F": "cheev"}[dtype], 6 + len(scratch))

    def solve(a: int, s: int) -> int:
        work, *real = (array.ctypes.data for array in scratch)
        heev(b"N", b"U", at(n), a, at(n), s, work, at(length), *real, at(info))  # U: the rows-first lower triangle
        return info.value

    return solve


def _scratch(dtype: str, length: int, real: int) -> list[np.ndarray]:
    """Workspace, and for complex matrices the real one that LAPACK wants besides."""
    return [np.empty(length, dtype), *([np.empty(real, np.float32)] if dtype == "F" else [])]


@functools.cache
def _routine(name: str, pointers: int, library: str = "lapack") -> Callable[..., None]:
    """One of those that take two letters, then pointers."""
    address = get_cython_function_address(f"scipy.linalg.cython_{library}", name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_char_p] * 2, *[ctypes.c_void_p] * pointers)(address)
