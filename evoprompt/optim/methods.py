"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from evoprompt.errors import unknown_name
from evoprompt.optim.capabilities import CAPABILITIES, Capabilities, supported
from evoprompt.optim.de.differential_evolution import as_variant
from evoprompt.optim.de.papers import VARIANTS
from evoprompt.optim.de.variant import Variant
from evoprompt.optim.protocol import Optimizer

__all__ = ["OPTIMIZERS", "capabilities_of", "factory_of", "make_optimizer", "name_of"]

_PLACES = {
    "auto": ("evoprompt.optim.portfolio.portfolio", "Portfolio"),
    "de": ("evoprompt.optim.de.differential_evolution", "DifferentialEvolution"),
    "cma": ("evoprompt.optim.adapters.pycma", "CMA"),
    "nevergrad": ("evoprompt.optim.adapters.nevergrad", "Nevergrad"),
    "scipy": ("evoprompt.optim.adapters.scipy_de", "ScipyDE"),
    "dual_annealing": ("evoprompt.optim.adapters.scipy_annealing", "DualAnnealing"),
    "random": ("evoprompt.optim.adapters.random_search", "RandomSearch"),
}

OPTIMIZERS: tuple[str, ...] = ("auto", "de", *VARIANTS, *(name for name in _PLACES if name not in ("auto", "de")))
"""Names that :func:`make_optimizer` and ``minimize(method=...)`` know; a variant's name is "de" with it."""


def make_optimizer(
    name: str | Variant,
    *,
    bounds: Any,
    budget: int | None,
    seed: int | None,
    popsize: int | None = None,
    dtype: DTypeLike = "float64",
    x0: ArrayLike | None = None,
    **options: Any,
) -> Optimizer:
    """An optimizer by its name.

    Parameters
    ----------
    name : str or Variant
        One of :data:`OPTIMIZERS`, a variant of your own or where it is, "package.module:NAME";
        for example "auto", "de", "shade", "rand/1/bin", "cma", "scipy" or "random".
    bounds : sequence of (low, high), array_like (d, 2) or scipy.optimize.Bounds
    budget, seed, popsize : int or None
    dtype : dtype-like
    x0 : array_like, shape (d,) or (m, d), optional
        As :class:`~evoprompt.optim.AskTell` has them.
    **options
        The optimizer's own, such as ``strategy``, ``variant`` or ``optimizer``.

    Raises
    ------
    ValueError
        If the name or an option is unknown, an argument is out of range, or the optimizer cannot do what an
        option asks for.

    Examples
    --------
    >>> make_optimizer("random", bounds=[(0, 1)] * 3, budget=8, seed=0).ask().x.shape
    (8, 3)
    """
    factory = factory_of(name)
    options = supported(name_of(name), capabilities_of(name), options)
    unknown = sorted(set(options) - set(_option_names(factory)))
    if unknown:
        raise ValueError(
            f"{name_of(name)!r} has no option {', '.join(unknown)}; it has: {', '.join(_option_names(factory))}"
        )
    return factory(bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, x0=x0, **options)


def name_of(method: str | Variant) -> str:
    """What to call a method."""
    return method.name if isinstance(method, Variant) else method


def factory_of(name: str | Variant) -> Callable[..., Optimizer]:
    """What makes the optimizer of this name.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    own = _is_variant(name)
    if not own and name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    module, attribute = _PLACES["de" if own else str(name)]
    factory: Callable[..., Optimizer] = getattr(import_module(module), attribute)
    return partial(factory, variant=name) if own else factory


def capabilities_of(name: str | Variant) -> Capabilities:
    """What the optimizer of this name can do."""
    if _is_variant(name):
        return CAPABILITIES.get(as_variant(name).name, CAPABILITIES["de"])
    factory_of(name)
    return CAPABILITIES[str(name)]


def _is_variant(name: str | Variant) -> bool:
    return isinstance(name, Variant) or (isinstance(name, str) and (":" in name or name in VARIANTS))


def _option_names(factory: Callable[..., Optimizer]) -> list[str]:
    from inspect import signature

    given = {"bounds", "budget", "seed", "popsize", "dtype", "x0", *getattr(factory, "keywords", {})}
    return [name for name in signature(factory).parameters if name not in given]
