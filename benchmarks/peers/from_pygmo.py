"""pygmo: sade and de1220 on a population of 20, the size in its own tutorials."""

from __future__ import annotations

from typing import Any

import pygmo

from benchmarks.counting import Counted

__all__ = ["start"]

_POPULATION = 20


class _Counting:
    """A problem whose copies, which pygmo makes freely, count on the one objective."""

    def __init__(self, objective: Counted) -> None:
        self._objective = objective

    def __deepcopy__(self, memo: dict[int, Any]) -> _Counting:
        return self

    def fitness(self, x: Any) -> list[float]:
        return [self._objective(x)]

    def get_bounds(self) -> tuple[Any, Any]:
        return self._objective.low, self._objective.high


def start(objective: Counted, seed: int, argument: str) -> None:
    """As many generations as the budget allows, or until its own tolerances are met."""
    objective.lenient = True
    population = pygmo.population(pygmo.problem(_Counting(objective)), size=_POPULATION, seed=seed)
    generations = max(1, -(-objective.left // _POPULATION))
    pygmo.algorithm(getattr(pygmo, argument)(gen=generations, seed=seed)).evolve(population)
