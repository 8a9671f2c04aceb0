"""What a search space is: a map from vectors z, which an optimizer moves, to the soft prompts they stand for."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from evoprompt.typing import Doubles, Floats


class Space(Protocol):
    """A map from z (n, d) to soft prompts (n, tokens, hidden)."""

    @property
    def centre(self) -> Floats:
        """The soft prompt of z = 0, (tokens, hidden)."""

    @property
    def d(self) -> int:
        """Number of coordinates of z."""

    @property
    def bounds(self) -> Doubles:
        """Bounds of the coordinates, (d, 2): lower and upper."""

    def decode(self, z: Floats) -> torch.Tensor:
        """z (n, d) -> soft prompts (n, tokens, hidden), float32, rounded alike however many come together."""

    def describe(self) -> dict[str, Any]:
        """Kind and numbers, as JSON takes them."""

    def tensors(self) -> dict[str, Floats]:
        """The arrays that a file of the space holds: with `describe`, all that it takes to build it again."""


def box(limit: float, d: int) -> Doubles:
    """Bounds (d, 2) of +-limit."""
    return np.tile([-limit, limit], (d, 1))


def checked(z: Floats, d: int) -> Floats:
    """z as float32.

    Raises
    ------
    ValueError
        It is not of shape (n, d).
    """
    array = np.asarray(z, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != d:
        raise ValueError(f"z must be (n, {d}), got {array.shape}")
    return array


def combined(weights: Floats, rows: Floats) -> Floats:
    """Sum over k of weights (n, tokens, k) times rows (n or 1, k, hidden): (n, tokens, hidden).

    Term after term and without BLAS: rounding depends neither on n nor on the number of threads.
    """
    total = weights[:, :, 0, None] * rows[:, None, 0]
    for k in range(1, weights.shape[2]):
        total += weights[:, :, k, None] * rows[:, None, k]
    return total
