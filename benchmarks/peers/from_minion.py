"""minionpy: any of its algorithms."""

from __future__ import annotations

from typing import Any

import minionpy

from benchmarks.counting import Counted

__all__ = ["start"]


def start(objective: Counted, seed: int, argument: str) -> None:
    """``Minimizer(algo=argument)``; an evaluation or two past the budget is answered by inf."""
    objective.lenient = True

    def losses(points: list[list[float]], _: Any = None) -> list[float]:
        return objective.batch(points).tolist()

    box = list(zip(objective.low.tolist(), objective.high.tolist(), strict=True))
    minionpy.Minimizer(losses, box, algo=argument, maxevals=objective.left, seed=seed).optimize()
