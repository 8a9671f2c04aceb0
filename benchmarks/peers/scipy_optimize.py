"""scipy.optimize: differential evolution and dual annealing."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, differential_evolution, dual_annealing, minimize

from benchmarks.counting import Counted

__all__ = ["anneal", "evolve", "evolve_members", "evolve_then_polish"]

_EVOLVING_SHARE = 0.7


class _ShareSpentError(Exception):
    """Ends the evolution when its share of the budget is spent."""


def evolve(objective: Counted, seed: int, argument: str) -> None:
    """``differential_evolution`` without the gradient polish.

    With an argument that is ``popsize``, a multiple of d, and there is no tolerance: scipy's is a share of the mean
    loss, so that adding a constant to the objective changes when it stops, which hurts small populations most.
    """
    box = Bounds(objective.low, objective.high)
    options: dict[str, Any] = {"popsize": int(argument), "tol": 0.0} if argument else {}
    differential_evolution(
        objective, box, maxiter=objective.left, polish=False, rng=np.random.default_rng(seed), **options
    )


def evolve_members(objective: Counted, seed: int, argument: str) -> None:
    """``differential_evolution`` from this many uniform members, for a d whose multiples are too many."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(objective.low, objective.high, (int(argument), objective.d))
    box = Bounds(objective.low, objective.high)
    differential_evolution(objective, box, init=first, maxiter=objective.left, tol=0.0, polish=False, rng=rng)


def evolve_then_polish(objective: Counted, seed: int, argument: str) -> None:
    """``differential_evolution`` on 70 % of what is left, then L-BFGS-B with finite differences from its best."""
    box = Bounds(objective.low, objective.high)
    stop = objective.used + int(_EVOLVING_SHARE * objective.left)
    best: tuple[float, NDArray[np.float64]] = (np.inf, (objective.low + objective.high) / 2)

    def until_share(x: NDArray[np.float64]) -> float:
        nonlocal best
        if objective.used >= stop:
            raise _ShareSpentError
        loss = objective(x)
        if loss < best[0]:
            best = (loss, x.copy())
        return loss

    rng = np.random.default_rng(seed)
    with contextlib.suppress(_ShareSpentError):
        differential_evolution(until_share, box, maxiter=objective.left, polish=False, rng=rng)
    minimize(objective, best[1], method="L-BFGS-B", bounds=box, options={"maxfun": objective.left})


def anneal(objective: Counted, seed: int, argument: str) -> None:
    """``dual_annealing`` with its local search."""
    anything: Any = dual_annealing
    anything(
        objective, Bounds(objective.low, objective.high), maxiter=objective.left, maxfun=objective.left,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
