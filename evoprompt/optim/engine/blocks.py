"""Trials that were handed out together, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["Block"]


@dataclass(eq=False, slots=True)
class Block:
    """Trials handed out together: n successive ids.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
    x : ndarray, shape (n, d)
        As handed out, shared with the caller and read-only.
    pending : ndarray of bool, shape (n,)
        Which have not been told yet; ``left`` counts them.
    loss, violation : ndarray of float64, shape (n,)
        What was told: inf and 0 where failed, NaN where pending.
    rounded_from : ndarray, shape (n, d), optional
        As the algorithm made them, where coordinates were rounded.
    slots : ndarray of int64, shape (n,)
    tags : ndarray of float64, shape (n, k)
    stage : ndarray of int64, shape (n,)
        Which of the algorithm's stages made it.
    awaited : bool
        Whether a generation waits for them.
    """

    ids: Indices
    x: Floats
    rounded_from: Floats | None
    slots: Indices
    tags: Doubles
    stage: Indices
    awaited: bool
    pending: Bools
    loss: Doubles
    violation: Doubles
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = int(np.count_nonzero(self.pending))
        self.ids.flags.writeable = self.x.flags.writeable = False

    @property
    def made(self) -> Floats:
        """As the algorithm made them, (n, d)."""
        return self.x if self.rounded_from is None else self.rounded_from

    def fill(self, offsets: Any, loss: Doubles, violation: Doubles) -> None:
        """Note what was told for some trials; offsets are a slice or indices."""
        self.loss[offsets], self.violation[offsets] = loss, violation
        self.pending[offsets] = False
        self.left -= len(loss)
