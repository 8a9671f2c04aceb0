"""Results put together and taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.engine.algorithm import GUEST, Results

__all__ = ["concatenated", "distinct_slots", "in_order"]


def concatenated(parts: Sequence[Results]) -> Results:
    """Several results as one; a single one is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    columns: Any = zip(*parts, strict=True)
    return Results(*(np.concatenate(column) for column in columns))


def in_order(results: Results) -> Results:
    """Results in the order of their slots; without a copy if they are."""
    if (results.slot[1:] >= results.slot[:-1]).all():
        return results
    order = np.argsort(results.slot, kind="stable")
    return _rows(results, order)


def distinct_slots(results: Results) -> Iterator[Results]:
    """The results in rounds, each without two results for one slot; guests are in the first.

    Examples
    --------
    >>> zeros = np.zeros(4)
    >>> results = Results(np.arange(4), np.array([2, 0, 2, -1]), zeros[:, None], zeros, zeros, zeros[:, None])
    >>> [part.id.tolist() for part in distinct_slots(results)]
    [[0, 1, 3], [2]]
    """
    if len(results.slot) == 1:
        yield results
        return
    slots = np.where(results.slot == GUEST, -1 - np.arange(len(results.slot)), results.slot)
    if len(slots) < 2 or len(np.unique(slots)) == len(slots):
        yield results
        return
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.append(starts, len(ordered)))
    occurrence = np.empty(len(slots), dtype=np.int64)
    occurrence[order] = np.arange(len(slots)) - np.repeat(starts, lengths)
    for number in range(int(occurrence.max()) + 1):
        yield _rows(results, occurrence == number)


def _rows(results: Results, index: NDArray[Any]) -> Results:
    columns: Any = results
    return Results(*(column[index] for column in columns))
