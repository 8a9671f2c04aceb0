"""The search box as a unit cube, for searches that think in distances."""

from __future__ import annotations

import numpy as np

from evoprompt.optim.engine.box import Box
from evoprompt.typing import Doubles, Floats

__all__ = ["UnitSpace"]


_OPEN_WIDTH = 5.0  # a coordinate without two bounds: starting points there have the scale 1, a fifth of this


class UnitSpace:
    """Coordinates that may vary, as [0, 1] where both bounds are finite.

    Parameters
    ----------
    box : Box

    Attributes
    ----------
    d : int
        Number of coordinates with low < high.
    low, high : ndarray, shape (d,)
        Bounds in the unit space: 0, 1 or infinite.

    Examples
    --------
    >>> space = UnitSpace(Box([(-2, 2), (3, 3), (0, None)], "float64"))
    >>> space.d, space.unit(np.array([[1.0, 3.0, 10.0]])).tolist()
    (2, [[0.75, 2.0]])
    >>> space.point(np.array([[1.25, -1.0]])).tolist()
    [[1.0, 3.0, 5.0]]
    """

    def __init__(self, box: Box) -> None:
        low, high = box.low.astype(np.float64), box.high.astype(np.float64)
        self._box = box
        self._free = np.flatnonzero(low < high)
        low, high = low[self._free], high[self._free]
        self.closed = bool(np.isfinite(low).all() and np.isfinite(high).all())
        self._boxed = np.isfinite(low) & np.isfinite(high)
        self._offset = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0.0))
        with np.errstate(invalid="ignore"):  # halves, since the widest boxes have no width in floating point
            self._half = np.where(self._boxed, high / 2 - low / 2, _OPEN_WIDTH / 2)
        self._far = np.where(self._boxed, high, self._offset)
        self.low = np.where(np.isfinite(low), 0.0, -np.inf)
        self.high = np.where(self._boxed, 1.0, np.where(np.isfinite(high), 0.0, np.inf))
        self.d = len(self._free)

    def unit(self, x: Floats) -> Doubles:
        """Points of the box (n, box.d) to the unit space (n, d)."""
        halves = x[:, self._free].astype(np.float64) / 2 - self._offset / 2
        return halves / self._half

    def point(self, z: Doubles) -> Floats:
        """Points of the unit space (n, d), folded back at its bounds, to points of the box (n, box.d)."""
        z = self.folded(z)
        x = (
            np.tile(self._box.low, (len(z), 1))
            if self.d < self._box.d
            else np.empty((len(z), self._box.d), self._box.dtype)
        )
        with np.errstate(over="ignore", invalid="ignore"):
            closed = self._offset * (1 - z) + self._far * z
            x[:, self._free] = np.where(self._boxed, closed, self._offset + z * _OPEN_WIDTH).astype(self._box.dtype)
        return np.clip(x, self._box.low, self._box.high)

    def folded(self, z: Doubles) -> Doubles:
        """Reflected at the bounds, as often as needed."""
        if ((z >= self.low) & (z <= self.high)).all():
            return z
        wave = np.mod(z, 2.0)
        folded = np.where(self._boxed, np.minimum(wave, 2.0 - wave), z)
        folded = np.where((self.low == 0) & ~self._boxed, np.abs(folded), folded)
        return np.where((self.high == 0) & ~self._boxed, -np.abs(folded), folded)

    def lengths(self, lengths: Doubles) -> Doubles:
        """Lengths along the box's coordinates (box.d,) in the unit space (d,)."""
        return np.asarray(lengths)[self._free] / 2 / self._half

    def clipped(self, z: Doubles) -> Doubles:
        """The nearest points within the bounds."""
        return np.clip(z, self.low, self.high)
