"""pymoo: DE with its defaults (population 100, best/1/bin, polynomial mutation)."""

from __future__ import annotations

from typing import Any

from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.core.problem import Problem
from pymoo.optimize import minimize

from benchmarks.counting import Counted

__all__ = ["start"]


class _Counting(Problem):
    def __init__(self, objective: Counted) -> None:
        super().__init__(n_var=objective.d, n_obj=1, xl=objective.low, xu=objective.high)
        self._objective = objective

    def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"] = self._objective.batch(x)[:, None]


def start(objective: Counted, seed: int, argument: str) -> None:
    """``minimize`` to the number of evaluations left."""
    minimize(_Counting(objective), DE(), ("n_evals", objective.left), seed=seed, verbose=False, copy_algorithm=False)
