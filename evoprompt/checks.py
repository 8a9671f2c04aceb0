"""Checks of numbers that a user gives: one line that says what is allowed and what was got."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from evoprompt.errors import UserError

__all__ = ["is_number", "is_whole", "one_of", "real_number", "whole_number"]


def is_whole(value: object) -> bool:
    """Whether a value is an integer, numpy's included, and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, numpy's included, no bool and not NaN."""
    return (is_whole(value) or isinstance(value, float | np.floating)) and not math.isnan(float(value))  # type: ignore[arg-type]


def whole_number(name: str, value: Any, least: int, most: int | None = None, *, what: str = "an integer") -> int:
    """A value as an int.

    Raises
    ------
    UserError
        If it is no integer from ``least`` to ``most``; a ``ValueError``.

    Examples
    --------
    >>> whole_number("popsize", 0, 4, what="a number of candidates")
    Traceback (most recent call last):
    evoprompt.errors.UserError: popsize must be a number of candidates >= 4, got 0
    """
    if not is_whole(value) or value < least or (most is not None and value > most):
        allowed = f">= {least}" if most is None else f"from {least} to {most}"
        raise UserError(f"{name} must be {what} {allowed}, got {value!r}")
    return int(value)


def real_number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: bool = False,
    what: str = "a number",
) -> float:
    """A value as a finite float.

    Raises
    ------
    UserError
        If it is no number from ``least``, or with ``above`` only greater than it, to ``most``; a ``ValueError``.

    Examples
    --------
    >>> real_number("seconds", 0, 0, above=True, what="a time limit")
    Traceback (most recent call last):
    evoprompt.errors.UserError: seconds must be a time limit > 0, got 0
    >>> real_number("tol", 2, 0, 1)
    Traceback (most recent call last):
    evoprompt.errors.UserError: tol must be a number from 0 to 1, got 2
    >>> real_number("top_p", 0, 0, 1, above=True)
    Traceback (most recent call last):
    evoprompt.errors.UserError: top_p must be a number > 0 and <= 1, got 0
    """
    fits = is_number(value) and math.isfinite(value) and (value > least if above else value >= least) and value <= most
    if not fits:
        low = "" if least == -math.inf else f" {'>' if above else '>='} {least:g}"
        within = f"{low} and <= {most:g}" if above else f" from {least:g} to {most:g}"
        allowed = low if most == math.inf else within
        raise UserError(f"{name} must be {what}{allowed}, got {value!r}")
    return float(value)


def one_of(name: str, value: Any, known: Iterable[Any]) -> None:
    """Check that a value is one of those known.

    Raises
    ------
    UserError
        If it is not; a ``ValueError``.

    Examples
    --------
    >>> one_of("updating", "now", ("deferred", "immediate"))
    Traceback (most recent call last):
    evoprompt.errors.UserError: updating must be one of 'deferred', 'immediate', got 'now'
    """
    known = tuple(known)
    if not any(value is one or (type(value) is type(one) and value == one) for one in known):
        raise UserError(f"{name} must be one of {', '.join(repr(one) for one in known)}, got {value!r}")
