"""Singular values of single-precision matrices by the LAPACK that scipy brings.

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


def singular_values(matrices: np.ndarray) -> np.ndarray:
    """Of a batch (batch, rows, columns) of float32 or complex64, finite: (batch, min(rows, columns)) float32,
    descending. The matrices are destroyed if they are contiguous.

    Raises numpy's LinAlgError where the iteration does not converge.
    """
    matrices = np.ascontiguousarray(matrices)
    values = np.empty((len(matrices), min(matrices.shape[1:])), dtype=np.float32)
    solve = _solver(*matrices.shape[1:], matrices.dtype.char)
    a, s = matrices.ctypes.data, values.ctypes.data
    for index in range(len(matrices)):
        if info := solve(a + index * matrices.strides[0], s + index * values.strides[0]):
            raise np.linalg.LinAlgError(f"the singular values did not converge (gesvd returned {info})")
    return values


def _solver(rows: int, columns: int, dtype: str) -> Callable[[int, int], int]:
    """gesvd for one size, from the address of a matrix, which it destroys, to that of its values."""
    m, n = columns, rows  # row-major means transposed to LAPACK, which changes no singular value
    scratch = [np.empty(5 * min(m, n) + BLOCK * (m + n), dtype)]
    if dtype == "F":
        scratch.append(np.empty(5 * min(m, n), np.float32))
    m, n, one, length = (ctypes.c_int(size) for size in (m, n, 1, len(scratch[0])))
    info = ctypes.c_int()
    at, gesvd = ctypes.byref, _gesvd(dtype)

    def solve(a: int, s: int) -> int:
        work, *real = (array.ctypes.data for array in scratch)
        gesvd(b"N", b"N", at(m), at(n), a, at(m), s, 0, at(one), 0, at(one), work, at(length), *real, at(info))
        return info.value

    return solve


@functools.cache
def _gesvd(dtype: str) -> Callable[..., None]:
    """LAPACK's sgesvd ("f") or cgesvd ("F"): two letters, then pointers."""
    name, pointers = {"f": ("sgesvd", 12), "F": ("cgesvd", 13)}[dtype]
    address = get_cython_function_address("scipy.linalg.cython_lapack", name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_char_p] * 2, *[ctypes.c_void_p] * pointers)(address)
