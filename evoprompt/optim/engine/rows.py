"""Moving rows of large matrices in pieces that fit the processor's cache, without whole copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from evoprompt.typing import Bools, Floats, Indices

__all__ = ["blend", "compact", "copy_rows", "is_run", "pieces", "rows_at", "scratch"]


_PIECE_BYTES = 1 << 18


def pieces(n: int, row_bytes: int) -> Iterator[slice]:
    """Slices of at most 256 kB that cover n rows.

    Examples
    --------
    >>> list(pieces(5, 1 << 17))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = _piece(row_bytes)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _piece(row_bytes: int) -> int:
    return max(1, _PIECE_BYTES // max(row_bytes, 1))


def is_run(index: Indices) -> bool:
    """Whether the indices are successive numbers."""
    n = len(index)
    return n > 0 and int(index[-1]) - int(index[0]) == n - 1 and (n < 3 or bool((index[1:] > index[:-1]).all()))


def rows_at(source: Floats, index: Indices) -> Floats:
    """Rows of ``source``: a view where the indices are successive, otherwise a copy."""
    return source[int(index[0]) : int(index[0]) + len(index)] if is_run(index) else source[index]


def copy_rows(target: Floats, to: Indices, source: Floats, index: Indices) -> None:
    """``target[to] = source[index]``, one piece at a time; no row is named twice in ``to``."""
    for part in pieces(len(to), source.shape[1] * source.itemsize):
        target[to[part]] = source[index[part]]


def scratch(d: int, dtype: np.dtype[Any]) -> Floats:
    """Two matrices of a piece's size, (2, n, d), to be overwritten again and again.

    Allocating and giving back a quarter of a megabyte for each piece makes the C library return memory to the
    system and fetch it again, page by page, which took a third of the time at 1000 coordinates.
    """
    return np.empty((2, _piece(d * dtype.itemsize), d), dtype=dtype)


def blend(target: Floats, source: Floats, where: Bools, scratch: Floats | None = None) -> None:
    """``target[where] = source[where]`` for contiguous arrays of one shape; ``scratch`` has it too, and is overwritten.

    Examples
    --------
    >>> x = np.zeros(3, dtype=np.float32)
    >>> blend(x, np.full(3, 2.5, dtype=np.float32), np.array([True, False, True]))
    >>> x.tolist()
    [2.5, 0.0, 2.5]
    """
    # Flipping the differing bits needs no branches: on random masks several times as fast as a masked copy.
    bits = np.int32 if target.itemsize == 4 else np.int64
    differing = np.bitwise_xor(
        target.view(bits), source.view(bits), out=None if scratch is None else scratch.view(bits)
    )
    np.multiply(differing, where, out=differing)
    np.bitwise_xor(target.view(bits), differing, out=target.view(bits))


def compact(rows: Floats, keep: Indices) -> None:
    """Move the rows ``keep`` (ascending) to the front, in place.

    Examples
    --------
    >>> x = np.arange(5.0)[:, None]
    >>> compact(x, np.array([0, 2, 4]))
    >>> x[:3, 0].tolist()
    [0.0, 2.0, 4.0]
    """
    moved = np.flatnonzero(keep != np.arange(len(keep)))
    copy_rows(rows, moved, rows, keep[moved])
