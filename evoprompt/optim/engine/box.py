"""The search box: reading bounds, drawing points in it, and bringing points back into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.rows import blend
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["REPAIRS", "Box", "Rounding"]


class Box:
    """Lower and upper bounds of d coordinates; either side may be infinite.

    Parameters
    ----------
    bounds : sequence of (low, high), array_like (d, 2) or scipy.optimize.Bounds
        ``None`` for a side means none. A ``Bounds`` object needs at least one array side to say what d is.
    dtype : dtype-like
        float32 or float64. Finite bounds that float32 cannot hold are rounded inwards, so that a point of the
        float32 box is always a point of the box that was given.

    Raises
    ------
    ValueError
        If the shape is wrong, a bound is NaN, or a lower bound exceeds its upper one.

    Examples
    --------
    >>> box = Box([(-1, 1), (0, None)], dtype="float64")
    >>> box.d, box.high.tolist()
    (2, [1.0, inf])
    """

    def __init__(self, bounds: Any, dtype: DTypeLike = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        low, high = _sides(bounds)
        if np.isnan(low).any() or np.isnan(high).any():
            raise ValueError(f"bounds must not be NaN, but coordinate {int(np.argmax(np.isnan(low + high)))} has one")
        wrong = np.flatnonzero((low > high) | (low == np.inf) | (high == -np.inf))
        if wrong.size:
            j = int(wrong[0])
            raise ValueError(
                f"each lower bound must be finite or -inf and not above its upper one; {j} is ({low[j]}, {high[j]})"
            )
        self.low, self.high = _rounded_inwards(low, high, self.dtype)
        self.d = len(low)
        self._one_interval = bool((self.low == self.low[0]).all() and (self.high == self.high[0]).all())
        # The sum of two points can be formed, so that halving it is exact and stays in the box.
        most = np.finfo(self.low.dtype).max / 4
        self._modest = bool((self.low >= -most).all() and (self.high <= most).all())

    def from_unit(self, u: Doubles, centre: Floats | None = None) -> Floats:
        """Map u (..., d) in [0, 1) into the box: the inverse of the distribution that starting points have.

        Uniform between two finite bounds; half-normal of scale 1 from a single finite bound; normal of scale
        1 around ``centre`` (the origin by default) where there is no bound.
        """
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        has_low, has_high = np.isfinite(low), np.isfinite(high)
        if has_low.all() and has_high.all():
            # Two products instead of high - low, which overflows for the widest boxes.
            return np.clip(low * (1 - u) + high * u, low, high).astype(self.dtype)
        from scipy.special import ndtri  # slow to import and seldom needed

        v = np.clip(u, 2.0**-54, 1 - 2.0**-53)
        middle = np.zeros(self.d) if centre is None else np.asarray(centre, dtype=np.float64)
        x = np.where(has_low | has_high, 0.0, middle + ndtri(v))
        x = np.where(has_low & ~has_high, low + ndtri((1 + v) / 2), x)
        x = np.where(~has_low & has_high, high - ndtri((1 + v) / 2), x)
        both = has_low & has_high
        x[..., both] = low[both] * (1 - u[..., both]) + high[both] * u[..., both]
        return np.clip(x, low, high).astype(self.dtype)

    def points(self, x: ArrayLike, name: str) -> Floats:
        """x as rows (m, d) of this box's dtype, clipped to the box by no more than rounding.

        Raises
        ------
        ValueError
            If the shape is not (d,) or (m, d), a value is not finite, or a point is outside the box.
        """
        rows = np.atleast_2d(np.asarray(x, dtype=np.float64))
        if rows.ndim != 2 or rows.shape[1] != self.d:
            raise ValueError(f"{name} must have the shape ({self.d},) or (m, {self.d}), got {np.shape(x)}")
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} must be finite, row {int(np.argmin(np.isfinite(rows).all(axis=1)))} is not")
        clipped = np.clip(rows, self.low, self.high)
        slack = 4 * float(np.finfo(self.low.dtype).eps) * np.maximum(1.0, np.abs(rows))
        outside = ~(np.abs(clipped - rows) <= slack).all(axis=1)
        if outside.any():
            raise ValueError(f"{name} must lie within the bounds, row {int(np.argmax(outside))} does not")
        return np.clip(clipped.astype(self.dtype), self.low, self.high)

    def repair(
        self,
        donors: Floats,
        parents: Floats,
        method: str,
        ids: Indices,
        streams: TrialStreams,
        scratch: Floats | None = None,
    ) -> Floats:
        """Bring donors (n, d) back into the box, in place, coordinate by coordinate, by one of :data:`REPAIRS`.

        Parents (n, d) lie in the box; trial numbers (n,) and streams are for the repair that draws; ``scratch``
        (2, n, d) is overwritten and saves allocations.
        """
        scratch = np.empty((2, *donors.shape), dtype=donors.dtype) if scratch is None else scratch
        clipped = self._clipped(donors, scratch[0])
        outside = clipped != donors  # true for NaN as well
        if not np.count_nonzero(outside):
            return donors
        if method == "midpoint":
            return self._towards_parents(donors, parents, clipped, outside, scratch[1])
        rows, columns = np.nonzero(outside)
        value, parent = donors[rows, columns], parents[rows, columns]
        low, high = self.low[columns], self.high[columns]
        if method == "resample":
            u = np.concatenate(
                [streams.of(int(ids[i]), Purpose.REPAIR).random(int(outside[i].sum())) for i in np.unique(rows)]
            )
        else:
            u = np.zeros(len(rows))
        mended = _MENDED[method](value, parent, low, high, u)
        mended = np.where(np.isfinite(value) & np.isfinite(mended), mended, parent)
        donors[rows, columns] = np.clip(mended, low, high)
        return donors

    def _clipped(self, donors: Floats, out: Floats) -> Floats:
        if self._one_interval:
            return donors.clip(self.low[0], self.high[0], out=out)
        np.maximum(donors, self.low, out=out)  # clip takes four times as long with arrays
        return np.minimum(out, self.high, out=out)

    def _towards_parents(
        self, donors: Floats, parents: Floats, clipped: Floats, outside: Bools, scratch: Floats
    ) -> Floats:
        # Halfway between the violated bound and the parent (Zhang & Sanderson 2009, JADE, section II), on whole rows:
        # in a young population so many coordinates are outside that picking them out costs more than computing all.
        if self._modest:
            clipped += parents
            clipped *= 0.5
        else:
            clipped *= 0.5
            clipped += np.multiply(parents, 0.5, out=scratch)
            np.maximum(clipped, self.low, out=clipped)
            np.minimum(clipped, self.high, out=clipped)
        blend(donors, clipped, outside, scratch)
        # In a modest box only NaN is left to mend, and a minimum shows it in a single pass.
        if np.isnan(donors.min()) if self._modest else not np.isfinite(donors).all():
            blend(donors, parents, ~np.isfinite(donors))
        return donors


class Rounding:
    """Whole-number coordinates: the search moves in a box of its own, and rounding leads from there to the user's.

    The search's box reaches half a unit beyond the outermost integers, so that each integer has an equal share
    of it.

    Parameters
    ----------
    box : Box
        The user's.
    integrality : array_like of bool, shape (d,), optional
        Which coordinates are whole numbers; one value for all is possible. Integers 0 and 1 do as well, as
        for :func:`scipy.optimize.differential_evolution`.

    Attributes
    ----------
    mask : ndarray of bool, shape (d,), or None
        None where no coordinate is a whole number; nothing is rounded then.
    box : Box
        Where the search moves.

    Raises
    ------
    ValueError
        If the shape or a value is wrong, or there is no integer between two bounds.

    Examples
    --------
    >>> rounding = Rounding(Box([(0.2, 3.9), (0, 1)], dtype="float64"), [True, False])
    >>> rounding.box.low.tolist(), rounding(np.array([[3.4999, 0.25]])).tolist()
    ([0.5, 0.0], [[3.0, 0.25]])
    """

    def __init__(self, box: Box, integrality: ArrayLike | None) -> None:
        self.mask: Bools | None = None
        self.box = box
        values = np.asarray(0 if integrality is None else integrality)
        if values.shape not in ((), (1,), (box.d,)) or not np.isin(values, (0, 1)).all():
            raise ValueError(f"integrality must be {box.d} booleans, one per coordinate, got {integrality!r:.200}")
        if not values.any():
            return
        self.mask = mask = np.broadcast_to(values.astype(bool), (box.d,)).copy()
        self._columns = np.flatnonzero(mask)
        low, high = box.low.astype(np.float64), box.high.astype(np.float64)
        low[mask], high[mask] = np.ceil(low[mask]), np.floor(high[mask])
        if (low > high).any():
            j = int(np.argmax(low > high))
            raise ValueError(f"coordinate {j} must be an integer, but there is none from {box.low[j]} to {box.high[j]}")
        self._low, self._high = low[mask].astype(box.dtype), high[mask].astype(box.dtype)
        low[mask] -= 0.5
        high[mask] += 0.5
        self.box = Box(np.column_stack([low, high]), box.dtype)

    def __call__(self, x: Floats) -> Floats:
        """A copy of x (n, d) with the masked coordinates rounded into the user's box; x itself without a mask."""
        if self.mask is None:
            return x
        rounded = x.copy()
        # Adding 0 turns -0 into 0, which is the same number but has other bytes.
        rounded[:, self._columns] = np.clip(np.rint(x[:, self._columns]) + 0.0, self._low, self._high)
        return rounded


def _reflect(value: Floats, parent: Floats, low: Floats, high: Floats, u: Doubles) -> Floats:
    width = np.maximum(high - low, np.finfo(low.dtype).tiny)
    with np.errstate(invalid="ignore"):
        offset = np.mod(value - low, 2 * width)
        folded = low + np.minimum(offset, 2 * width - offset)
    both = np.isfinite(width)
    return np.where(both, folded, np.where(value < low, 2 * low - value, 2 * high - value))


def _resample(value: Floats, parent: Floats, low: Floats, high: Floats, u: Doubles) -> Floats:
    # Uniform in the box; with one bound only, uniform between it and the parent.
    start = np.where(np.isfinite(low), low, parent)
    stop = np.where(np.isfinite(high), high, parent)
    drawn: Floats = (start * (1 - u) + stop * u).astype(value.dtype)
    return drawn


_MENDED: dict[str, Callable[[Floats, Floats, Floats, Floats, Doubles], Floats]] = {
    "reflect": _reflect,
    "resample": _resample,
    "clip": lambda value, *_: value,  # as all are in the end
}

REPAIRS = ("midpoint", *_MENDED)
"""What may be done with coordinates outside the box."""


def _sides(bounds: Any) -> tuple[Doubles, Doubles]:
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):  # scipy.optimize.Bounds, whose import is slow
        low, high = np.broadcast_arrays(np.atleast_1d(bounds.lb), np.atleast_1d(bounds.ub))
        return low.astype(np.float64), high.astype(np.float64)
    if not isinstance(bounds, np.ndarray):
        try:
            bounds = [(-np.inf if low is None else low, np.inf if high is None else high) for low, high in bounds]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"bounds must be pairs (low, high), an array (d, 2) or Bounds, got {bounds!r:.200}"
            ) from error
    pairs = np.asarray(bounds, dtype=np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"bounds must have the shape (d, 2) with d >= 1, got {pairs.shape}")
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def _rounded_inwards(low: Doubles, high: Doubles, dtype: np.dtype[Any]) -> tuple[Floats, Floats]:
    with np.errstate(over="ignore"):
        inner_low, inner_high = low.astype(dtype), high.astype(dtype)
    up, down = dtype.type(np.inf), dtype.type(-np.inf)
    inner_low = np.where(inner_low < low, np.nextafter(inner_low, up), inner_low)
    inner_high = np.where(inner_high > high, np.nextafter(inner_high, down), inner_high)
    # An interval thinner than the dtype's spacing becomes its nearest single value.
    thin = inner_low > inner_high
    middle = (low[thin] / 2 + high[thin] / 2).astype(dtype)
    inner_low[thin], inner_high[thin] = middle, middle
    return inner_low, inner_high
