"""Who replaced whom: the selections of one generation, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GenerationRecord", "Selection"]


class Selection(NamedTuple):
    """One trial against the member it was made to replace."""

    id: int
    slot: int
    loss: float
    replaced: bool
    parent_id: int
    parent_loss: float
    f: float
    cr: float

    @property
    def gain(self) -> float:
        """By how much the trial is better; NaN where the comparison says nothing (a failed or missing side)."""
        both = np.isfinite(self.loss) and np.isfinite(self.parent_loss)
        return self.parent_loss - self.loss if both else np.nan


@dataclass(frozen=True, eq=False)
class GenerationRecord:
    """The selections of one generation, each array (n,), in the order they were made.

    Attributes
    ----------
    generation : int
        Which generation; 0 is the initial population.
    id, slot : ndarray of int64
        Trial numbers (-1: a point told without being asked) and the population slots they competed for.
    loss, parent_loss : ndarray of float64
        Losses of the two sides; the parent's is inf where the slot held nothing or a failure.
    replaced : ndarray of bool
        Whether the trial took the slot.
    parent_id : ndarray of int64
        Trial number of the member that was there; -1 if it was known without being asked, or not evaluated.
    f, cr : ndarray of float64
        Scale factor and crossover rate of the trial; NaN where it was not made by mutation.
    """

    generation: int
    id: NDArray[np.int64]
    slot: NDArray[np.int64]
    loss: NDArray[np.float64]
    replaced: NDArray[np.bool_]
    parent_id: NDArray[np.int64]
    parent_loss: NDArray[np.float64]
    f: NDArray[np.float64]
    cr: NDArray[np.float64]

    @classmethod
    def of(cls, generation: int, selections: list[Selection]) -> GenerationRecord:
        columns = list(zip(*selections, strict=True)) or [()] * len(Selection._fields)
        dtypes = (np.int64, np.int64, np.float64, np.bool_, np.int64, np.float64, np.float64, np.float64)
        return cls(generation, *(np.array(column, dtype=t) for column, t in zip(columns, dtypes, strict=True)))

    def selections(self) -> list[Selection]:
        """The rows again."""
        columns = [getattr(self, name).tolist() for name in Selection._fields]
        return [Selection(*row) for row in zip(*columns, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GenerationRecord:
        return cls(**{field.name: state[field.name] for field in fields(cls)})
