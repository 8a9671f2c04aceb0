"""Constraints in scipy's forms, turned into one number: by how much a point violates them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from evoprompt.typing import Doubles, Floats

__all__ = ["EQUALITY_TOLERANCE", "Constraints"]

EQUALITY_TOLERANCE = 1e-4
"""An equation is met when its two sides differ by at most this (J. J. Liang et al., "Problem definitions and
evaluation criteria for the CEC 2006 special session on constrained real-parameter optimization")."""


class Constraints:
    """All constraints of a problem together.

    Parameters
    ----------
    constraints : NonlinearConstraint, LinearConstraint, dict, or a sequence of them
        As :func:`scipy.optimize.minimize` takes them; a dict has "type" ("ineq": fun(x) >= 0, or "eq":
        fun(x) = 0), "fun" and perhaps "args".
    vectorized : bool
        Functions take x of shape (n, d) and return (n,) or (n, k); otherwise (d,), and a number or (k,).

    Attributes
    ----------
    last_error : str or None
        What a constraint's function raised last.

    Raises
    ------
    ValueError
        If something else is given, or a lower limit exceeds its upper one.

    Examples
    --------
    >>> on_the_left = Constraints({"type": "ineq", "fun": lambda x: 1 - x[0]})
    >>> on_the_left.violations(np.array([[0.5, 0.0], [3.0, 0.0]])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, constraints: Any, *, vectorized: bool = False) -> None:
        several = isinstance(constraints, Iterable) and not isinstance(constraints, Mapping)
        self._parts = [_Part(constraint, vectorized) for constraint in (constraints if several else [constraints])]
        self.last_error: str | None = None

    def __len__(self) -> int:
        return len(self._parts)

    def violations(self, x: Floats) -> Doubles:
        """Sums of what each limit is exceeded by, for points (n, d): (n,); NaN where a function failed."""
        total = np.zeros(len(x))
        for part in self._parts:
            total += part.violations(x)
            self.last_error, part.last_error = part.last_error or self.last_error, None
        return total


class _Part:
    """One constraint: low <= fun(x) <= high, or low <= matrix x <= high."""

    fun: Callable[[Floats], Any]

    def __init__(self, constraint: Any, vectorized: bool) -> None:
        self.vectorized = vectorized
        self.matrix: Doubles | None = None
        self.last_error: str | None = None
        if isinstance(constraint, Mapping):
            self._read_dict(constraint)
        elif hasattr(constraint, "fun") and hasattr(constraint, "lb"):
            self.fun, self.low, self.high = constraint.fun, constraint.lb, constraint.ub
        elif hasattr(constraint, "A") and hasattr(constraint, "lb"):
            matrix = constraint.A.toarray() if hasattr(constraint.A, "toarray") else constraint.A
            self.matrix = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
            self.low, self.high = constraint.lb, constraint.ub
        else:
            raise ValueError(
                f"constraints must be NonlinearConstraint, LinearConstraint or dicts, got {constraint!r:.200}"
            )
        self.low, self.high = (np.asarray(side, dtype=np.float64) for side in (self.low, self.high))
        if (self.low > self.high).any():
            raise ValueError(f"a constraint's lb must not exceed its ub, got {constraint!r:.200}")
        slack = np.where(self.low == self.high, EQUALITY_TOLERANCE, 0.0)
        self.low, self.high = self.low - slack, self.high + slack

    def _read_dict(self, constraint: Mapping[str, Any]) -> None:
        kind, fun, args = constraint.get("type"), constraint.get("fun"), tuple(constraint.get("args", ()))
        if kind not in ("ineq", "eq") or not callable(fun):
            raise ValueError(
                f'a constraint dict needs "type" ("ineq" or "eq") and "fun", got {dict(constraint)!r:.200}'
            )
        self.fun = lambda x: fun(x, *args)
        self.low, self.high = 0.0, 0.0 if kind == "eq" else np.inf

    def violations(self, x: Floats) -> Doubles:
        """By how much points (n, d) violate it, (n,); NaN where the function failed."""
        if self.matrix is not None:
            return self._excess(x @ self.matrix.T)
        if self.vectorized and (values := self._call(x)) is not None:
            if len(values) != len(x):
                raise ValueError(
                    f"a vectorized constraint must return {len(x)} rows, one per point, got {values.shape}"
                )
            return self._excess(values.reshape(len(x), -1))
        each = (self._call(row[None] if self.vectorized else row) for row in x)
        return np.array([np.nan if values is None else self._excess(values.reshape(1, -1))[0] for values in each])

    def _call(self, x: Floats) -> Doubles | None:
        try:
            return np.atleast_1d(np.asarray(self.fun(x.copy()), dtype=np.float64))
        except Exception as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return None

    def _excess(self, values: Doubles) -> Doubles:
        """By how much values (n, k) lie outside the limits, summed: (n,)."""
        with np.errstate(invalid="ignore"):
            beyond = np.where(
                values > self.high, values - self.high, np.where(values < self.low, self.low - values, 0.0)
            )
        return np.where(np.isnan(values), np.nan, beyond).sum(axis=1)
