"""nevergrad: any registered optimizer."""

from __future__ import annotations

import warnings

import nevergrad as ng

from benchmarks.counting import Counted

__all__ = ["start"]


def start(objective: Counted, seed: int, argument: str) -> None:
    """Minimise over an Array with the box as its bounds."""
    array = ng.p.Array(shape=(objective.d,), lower=objective.low, upper=objective.high)
    array.random_state.seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = ng.optimizers.registry[argument](array, budget=objective.left, num_workers=1)
        if objective.noisy:
            objective.begin(lambda: optimizer.provide_recommendation().value)
        optimizer.minimize(objective)
