"""Limits below which answers to a survey are not believed, shared by a run and its report."""

from __future__ import annotations

LABEL_MASS_LIMIT = 0.5  # share of a model's next words that are option labels; below it a distribution says little
INVALID_LIMIT = 0.1  # share of free-text answers that chose no option or several


def percent(share: float) -> str:
    """A share as a reader sees it: what is small but there is not called nothing.

    >>> percent(0.274), percent(0.004), percent(0.0)
    ('27%', 'under 1%', '0%')
    """
    return "under 1%" if 0 < share < 0.01 else f"{share:.0%}"
