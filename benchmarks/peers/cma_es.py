"""CMA-ES by pycma and by cmaes, restarted with a doubled population (IPOP) until the budget ends."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from benchmarks.counting import Counted

__all__ = ["cmaes", "pycma", "pycma_lq"]


def pycma(objective: Counted, seed: int, argument: str) -> None:
    """``CMAEvolutionStrategy`` from a uniform mean and a fifth of the box, bounds by its own transform.

    What it recommends is its ``result.xfavorite``.
    """
    import cma

    rng = np.random.default_rng(seed)
    popsize = None
    for restart in count():
        options: dict[str, Any] = {
            "bounds": [objective.low, objective.high], "seed": seed % 10**8 + restart + 1, "verbose": -9,
            "verb_log": 0, "maxfevals": objective.left,
        }  # fmt: skip
        if popsize is not None:
            options["popsize"] = popsize
        if argument == "diagonal":
            options["CMA_diagonal"] = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mean = rng.uniform(objective.low, objective.high)
            strategy = cma.CMAEvolutionStrategy(mean, _sigma(objective), options)
            objective.begin(partial(_favourite, strategy))
            while not strategy.stop():
                points = strategy.ask()
                strategy.tell(points, [objective(x) for x in points])
        popsize = 2 * strategy.popsize


def pycma_lq(objective: Counted, seed: int, argument: str) -> None:
    """``fmin_lq_surr2``, CMA-ES with a linear-quadratic model of the loss (Hansen 2019), from where pycma begins."""
    import cma

    mean = np.random.default_rng(seed).uniform(objective.low, objective.high)
    options = {
        "bounds": [objective.low, objective.high], "seed": seed % 10**8 + 1, "verbose": -9, "verb_log": 0,
        "verb_disp": 0,
    }  # fmt: skip
    objective.begin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cma.fmin_lq_surr2(objective, mean, _sigma(objective), options)


def cmaes(objective: Counted, seed: int, argument: str) -> None:
    """The class of this name as its README restarts it; what it recommends is its mean.

    In thousands of coordinates no sample is inside the box, and it draws 100 of them before it clips one: there it
    may draw one only, which changes the price and not the distribution.
    """
    import cmaes as library

    rng = np.random.default_rng(seed)
    popsize = None
    for restart in count():
        strategy = getattr(library, argument)(
            mean=rng.uniform(objective.low, objective.high), sigma=_sigma(objective),
            bounds=np.column_stack([objective.low, objective.high]), seed=seed + restart, population_size=popsize,
            n_max_resampling=100 if objective.d <= 640 else 1,
        )  # fmt: skip
        objective.begin(partial(getattr, strategy, "mean"))
        while not strategy.should_stop():
            points = [strategy.ask() for _ in range(strategy.population_size)]
            strategy.tell([(x, objective(x)) for x in points])
        popsize = 2 * strategy.population_size


def _favourite(strategy: Any) -> Any:
    return strategy.result.xfavorite


def _sigma(objective: Counted) -> float:
    return float(np.mean(objective.high - objective.low)) / 5
