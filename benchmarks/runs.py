"""One run of one method: its whole budget, restarts included."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.counting import BudgetSpent, Counted
from benchmarks.peers import Method

__all__ = ["spend"]


def spend(method: Method, objective: Counted, seed: Callable[[int], int]) -> tuple[str, int, float]:
    """Run a method, and again whenever it stops by itself, until the budget is spent.

    Parameters
    ----------
    method : Method
    objective : Counted
        Ends the run.
    seed : callable
        The seed of each start, from its number.

    Returns
    -------
    status : str
        "ok", or "failed: " and why, or "restart refused: " and why if a first start went well.
    starts : int
    seconds : float
        CPU time, the objective's included.
    """
    began = time.process_time()
    status, starts = "ok", 0
    while objective.left > 0 and status == "ok":
        objective.begin()
        before = objective.used
        try:
            method.start(objective, seed(starts))
        except BudgetSpent:
            pass
        except Exception as error:
            if objective.left > 0:
                kind = "restart refused" if starts else "failed"
                status = f"{kind}: {type(error).__name__}: {str(error)[:120]}"
        starts += 1
        if objective.used == before and status == "ok":
            status = "restart refused: it made no evaluation"
    return status, starts, (objective.ended or time.process_time()) - began
