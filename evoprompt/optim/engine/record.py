"""Who replaced whom: the selections of one generation, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evoprompt.optim.engine.algorithm import Results, Selection
from evoprompt.typing import Bools, Doubles, Indices

__all__ = ["GenerationRecord"]


@dataclass(frozen=True, eq=False)
class GenerationRecord:
    """The selections of one generation, each array (n,), in the order they were made.

    Attributes
    ----------
    generation : int
        Which generation; 0 is the initial population.
    id, slot : ndarray of int64
        Trial numbers and the slots they were made for; -1 for a point told without being asked.
    loss, parent_loss : ndarray of float64
        Losses of the two sides; inf for a failure, the parent's also where the slot held nothing.
    violation : ndarray of float64
        By how much the trial violates constraints; 0 without any.
    replaced : ndarray of bool
        Whether the trial took a member's place.
    parent_id : ndarray of int64
        Trial number of the member that was there; -1 if it was known without being asked, or not evaluated.
    tags : mapping of str to ndarray of float64
        What the algorithm noted for each trial, such as "f" and "cr", its scale factor and crossover rate; NaN
        where it was not made by mutation.
    """

    generation: int
    id: Indices
    slot: Indices
    loss: Doubles
    violation: Doubles
    replaced: Bools
    parent_id: Indices
    parent_loss: Doubles
    tags: dict[str, Doubles]

    @classmethod
    def of(
        cls, generation: int, tags: Sequence[str], selections: Sequence[tuple[Results, Selection]]
    ) -> GenerationRecord:
        """The record of what an algorithm selected, call by call."""
        rows: list[Any] = [(r.id, r.slot, r.loss, r.violation, *selection, r.tags) for r, selection in selections]
        columns = rows[0] if len(rows) == 1 else map(np.concatenate, zip(*rows, strict=True))
        id, slot, loss, violation, replaced, parent_id, parent_loss, values = columns
        named = {name: values[:, k] for k, name in enumerate(tags)}
        return cls(generation, id, slot, loss, violation, replaced, parent_id, parent_loss, named)

    def __len__(self) -> int:
        return len(self.id)
