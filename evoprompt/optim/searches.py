"""Searches by the name of their variant."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.de.loop import make_evolution
from evoprompt.optim.de.variant import VARIANTS
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.algorithm import Search

__all__ = ["make_search"]

_ALWAYS = ("streams", "budget", "popsize", "x0", "noise", "constrained")


def make_search(variant: str, box: Box, *, integrality: NDArray[np.bool_] | None, **arguments: Any) -> Search:
    """What decides where trials go.

    Raises
    ------
    ValueError
        If the variant is unknown or does not have an option that was given.
    """
    given = {name: value for name, value in arguments.items() if value is not None or name in _ALWAYS}
    if variant == "auto":
        from evoprompt.optim.portfolio.staged import AutoSearch

        has = signature(AutoSearch).parameters
        if unknown := [name for name in given if name not in has]:
            raise ValueError(f"variant 'auto' sets {', '.join(unknown)} itself; name a variant to choose")
        search: Search = AutoSearch(box, integrality=integrality, **given)
        return search
    if variant not in VARIANTS:
        known = ", ".join(repr(name) for name in ("auto", *VARIANTS))
        raise ValueError(f"variant must be one of {known}, got {variant!r}")
    return make_evolution(VARIANTS[variant], box, **given)
