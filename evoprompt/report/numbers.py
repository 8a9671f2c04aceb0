"""Numbers as a report shows and compares them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evoprompt.surveys.quality import percent


def finite(value: Any) -> float | None:
    """A number that can be counted with; None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def number(value: Any, digits: int = 1) -> str:
    """A number with a true minus sign; a dash where there is none.

    >>> number(-1.25), number(None), number(float("nan"))
    ('−1.2', '–', '–')
    """
    if finite(value) is None:
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def share(value: Any) -> str:
    """A share in per cent; a dash where there is none.

    >>> share(0.004), share(None)
    ('under 1%', '–')
    """
    known = finite(value)
    return "–" if known is None else percent(known)


def interval(bounds: Sequence[Any], digits: int = 1) -> str:
    """A 95% interval; a dash where it could not be measured.

    >>> interval([1.0, 2.5]), interval([None, None])
    ('1.0 to 2.5', '–')
    """
    if any(finite(bound) is None for bound in bounds):
        return "–"
    return f"{number(bounds[0], digits)} to {number(bounds[1], digits)}"


def digits_for(*values: float) -> int:
    """One digit after the point, two where one digit would show different values as equal.

    >>> digits_for(15.31, 15.34), digits_for(15.3, 12.0)
    (2, 1)
    """
    shown = [number(value, 1) for value in values if finite(value) is not None]
    return 1 if len(set(shown)) == len(shown) else 2


def digits_of(measured: Sequence[Mapping[str, Any]]) -> int:
    """Digits that tell several arms' losses apart, and the two ends of each interval.

    >>> digits_of([{"loss": 15.3, "interval": [15.31, 15.34]}])
    2
    """
    ends = (digits_for(*one["interval"]) for one in measured)
    return max(digits_for(*(one["loss"] for one in measured)), *ends)


def relation(ours: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """`lower`, `higher` or `same`: how one loss stands to another; overlapping intervals count as the same.

    >>> relation({"interval": [1, 2]}, {"interval": [3, 4]})
    'lower'
    """
    if ours["interval"][1] < other["interval"][0]:
        return "lower"
    if ours["interval"][0] > other["interval"][1]:
        return "higher"
    return "same"
