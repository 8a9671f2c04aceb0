"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from evoprompt.optim.protocol import Optimizer

__all__ = ["OPTIMIZERS", "make_optimizer"]

_PLACES = {
    "de": ("evoprompt.optim.de", "DifferentialEvolution"),
    "cma": ("evoprompt.optim.adapters.pycma", "CMA"),
    "nevergrad": ("evoprompt.optim.adapters.nevergrad", "Nevergrad"),
    "scipy": ("evoprompt.optim.adapters.scipy_de", "ScipyDE"),
    "random": ("evoprompt.optim.adapters.random_search", "RandomSearch"),
}

OPTIMIZERS: tuple[str, ...] = tuple(_PLACES)
"""Names that :func:`make_optimizer` and ``minimize(method=...)`` know."""


def make_optimizer(
    name: str,
    *,
    bounds: Any,
    budget: int | None,
    seed: int | None,
    popsize: int | None = None,
    dtype: DTypeLike = "float32",
    x0: ArrayLike | None = None,
    **options: Any,
) -> Optimizer:
    """An optimizer by its name.

    Parameters
    ----------
    name : str
        One of :data:`OPTIMIZERS`: "de", "cma", "nevergrad", "scipy" or "random".
    bounds : sequence of (low, high), array_like (d, 2) or scipy.optimize.Bounds
    budget : int or None
        Most evaluations that are ever handed out.
    seed : int or None
    popsize : int, optional
        Number of candidates in the natural batch.
    dtype : dtype-like
        float32 or float64.
    x0 : array_like, shape (d,) or (m, d), optional
        Points evaluated first.
    **options
        The optimizer's own, such as ``strategy``, ``variant`` or ``optimizer``.

    Raises
    ------
    ValueError
        If the name or an option is unknown, or an argument is out of range.

    Examples
    --------
    >>> make_optimizer("random", bounds=[(0, 1)] * 3, budget=8, seed=0).ask().x.shape
    (8, 3)
    """
    if name not in _PLACES:
        close = get_close_matches(str(name), OPTIMIZERS, n=3, cutoff=0.4)
        hint = f"closest: {', '.join(close)}; " if close else ""
        raise ValueError(f"unknown optimizer {name!r}; {hint}known: {', '.join(OPTIMIZERS)}")
    module, attribute = _PLACES[name]
    factory: Callable[..., Optimizer] = getattr(import_module(module), attribute)
    unknown = sorted(set(options) - set(_option_names(factory)))
    if unknown:
        raise ValueError(f"{name!r} has no option {', '.join(unknown)}; it has: {', '.join(_option_names(factory))}")
    return factory(bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, x0=x0, **options)


def _option_names(factory: Callable[..., Optimizer]) -> list[str]:
    from inspect import signature

    given = {"bounds", "budget", "seed", "popsize", "dtype", "x0"}
    return [name for name in signature(factory).parameters if name not in given]
