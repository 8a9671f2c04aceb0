"""Optimizers with a population of 100, as ``benchmarks.overhead`` drives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CASES", "Case", "Done", "FreeObjective", "run_case"]


class Done(Exception):  # noqa: N818
    """Raised by the objective when enough has been measured."""


class FreeObjective(Protocol):
    """An objective in the box low..high that ends the run by raising :class:`Done`."""

    d: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __call__(self, x: Any) -> float: ...
    def batch(self, x: Any) -> NDArray[np.float64]: ...


Run = Callable[[FreeObjective, int, int], None]


@dataclass(frozen=True)
class Case:
    """One optimizer.

    Attributes
    ----------
    name : str
    modules : tuple of str
        Imported before memory is counted; the first one's package has to be installed.
    run : callable
        Of the objective, the population size and a number of evaluations that is never reached.
    dtype : str
        What its population is made of.
    infeasible : mapping of int to str
        Dimensions that cannot be run, and why.
    """

    name: str
    modules: tuple[str, ...]
    run: Run
    dtype: str = "float64"
    infeasible: Mapping[int, str] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        """Whether its package is not installed."""
        return find_spec(self.modules[0].split(".")[0]) is None

    def load(self) -> None:
        """Import what it needs."""
        for module in self.modules:
            import_module(module)


def run_case(case: Case, objective: FreeObjective, popsize: int, most: int) -> None:
    """Run until the objective raises."""
    case.run(objective, popsize, most)


def _ours(name: str) -> Run:
    def run(objective: FreeObjective, popsize: int, most: int) -> None:
        from evoprompt.optim import make_optimizer

        optimizer = make_optimizer(
            name, bounds=np.column_stack([objective.low, objective.high]), budget=most, seed=1, popsize=popsize,
            dtype="float32",
        )  # fmt: skip
        while True:
            trials = optimizer.ask()
            optimizer.tell(trials, objective.batch(trials.x))

    return run


def _scipy(vectorized: bool) -> Run:
    def run(objective: FreeObjective, popsize: int, most: int) -> None:
        from scipy.optimize import Bounds, differential_evolution

        rng = np.random.default_rng(1)
        first = rng.uniform(objective.low, objective.high, (popsize, objective.d))
        call: Any = (lambda x: objective.batch(x.T)) if vectorized else objective
        updating = "deferred" if vectorized else "immediate"
        evolve: Any = differential_evolution
        evolve(
            call, Bounds(objective.low, objective.high), init=first, maxiter=most, tol=0, atol=-1, polish=False,
            rng=rng, updating=updating, vectorized=vectorized,
        )  # fmt: skip

    return run


def _nevergrad(name: str) -> Run:
    def run(objective: FreeObjective, popsize: int, most: int) -> None:
        import nevergrad as ng

        array = ng.p.Array(shape=(objective.d,), lower=objective.low, upper=objective.high)
        array.random_state.seed(1)
        family = ng.families.DifferentialEvolution
        crossover = {"DE": 0.5, "TwoPointsDE": "twopoints"}[name]
        optimizer = family(popsize=popsize, crossover=crossover)(array, budget=most, num_workers=1)
        optimizer.minimize(objective)

    return run


def _minion(name: str) -> Run:
    def run(objective: FreeObjective, popsize: int, most: int) -> None:
        import minionpy

        box = list(zip(objective.low.tolist(), objective.high.tolist(), strict=True))
        options = {"population_size": popsize}
        minionpy.Minimizer(
            lambda points, _=None: objective.batch(points).tolist(), box, algo=name, maxevals=most, seed=1,
            options=options,
        ).optimize()  # fmt: skip

    return run


def _pygmo(name: str) -> Run:
    def run(objective: FreeObjective, popsize: int, most: int) -> None:
        import pygmo

        class Problem:
            def __deepcopy__(self, memo: dict[int, Any]) -> Problem:
                return self

            def fitness(self, x: Any) -> list[float]:
                return [objective(x)]

            def get_bounds(self) -> tuple[Any, Any]:
                return objective.low, objective.high

        population = pygmo.population(pygmo.problem(Problem()), size=popsize, seed=1)
        algorithm = getattr(pygmo, name)(gen=most // popsize, ftol=0.0, xtol=0.0, seed=1)
        pygmo.algorithm(algorithm).evolve(population)

    return run


def _pymoo(objective: FreeObjective, popsize: int, most: int) -> None:
    from pymoo.algorithms.soo.nonconvex.de import DE
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    class Counting(Problem):
        def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = objective.batch(x)[:, None]

    problem = Counting(n_var=objective.d, n_obj=1, xl=objective.low, xu=objective.high)
    minimize(problem, DE(pop_size=popsize), ("n_evals", most), seed=1, verbose=False)


def _evosax(objective: FreeObjective, popsize: int, most: int) -> None:
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import DifferentialEvolution

    algorithm = DifferentialEvolution(population_size=popsize, solution=jnp.zeros(objective.d))
    ask, tell, params = jax.jit(algorithm.ask), jax.jit(algorithm.tell), algorithm.default_params
    key = jax.random.key(1)
    first = jax.random.uniform(key, (popsize, objective.d), minval=-5.0, maxval=5.0)
    state = algorithm.init(key, first, jnp.asarray(objective.batch(first), jnp.float32), params)
    while True:
        key, ask_key, tell_key = jax.random.split(key, 3)
        points, state = ask(ask_key, state, params)
        losses = jnp.asarray(objective.batch(np.asarray(points)), jnp.float32)
        state, _ = tell(tell_key, points, losses, state, params)


def _pycma(bounded: bool) -> Run:
    def run(objective: FreeObjective, popsize: int, most: int) -> None:
        import cma

        options = {
            "popsize": popsize, "CMA_diagonal": True, "seed": 1, "verbose": -9, "verb_log": 0,
            "bounds": [objective.low, objective.high] if bounded else [None, None],
        }  # fmt: skip
        strategy = cma.CMAEvolutionStrategy(np.zeros(objective.d), 2.0, options)
        while True:
            points = strategy.ask()
            strategy.tell(points, objective.batch(points).tolist())

    return run


def _cmaes(bounded: bool) -> Run:
    def run(objective: FreeObjective, popsize: int, most: int) -> None:
        from cmaes import SepCMA

        bounds = np.column_stack([objective.low, objective.high]) if bounded else None
        strategy = SepCMA(mean=np.zeros(objective.d), sigma=2.0, bounds=bounds, seed=1, population_size=popsize)
        while True:
            points = [strategy.ask() for _ in range(popsize)]
            strategy.tell([(x, objective(x)) for x in points])

    return run


_EVERY = [
    *(
        Case(f"evoprompt:{name}", ("evoprompt.optim",), _ours(name), "float32")
        for name in ("auto", "rand/1/bin", "jade", "shade", "lshade", "jso")
    ),
    Case("scipy DE vectorised", ("scipy.optimize",), _scipy(True)),
    Case("scipy DE immediate", ("scipy.optimize",), _scipy(False)),
    Case("nevergrad DE", ("nevergrad",), _nevergrad("DE")),
    Case("nevergrad TwoPointsDE", ("nevergrad",), _nevergrad("TwoPointsDE")),
    Case("minion DE", ("minionpy",), _minion("DE")),
    Case("minion LSHADE", ("minionpy",), _minion("LSHADE")),
    Case("pycma diagonal", ("cma",), _pycma(True)),
    Case("pycma diagonal unbounded", ("cma",), _pycma(False)),
    Case("cmaes sep", ("cmaes",), _cmaes(True)),
    Case("cmaes sep unbounded", ("cmaes",), _cmaes(False)),
    Case("pymoo DE", ("pymoo.algorithms.soo.nonconvex.de",), _pymoo),
    Case("pygmo de", ("pygmo",), _pygmo("de")),
    Case("pygmo sade", ("pygmo",), _pygmo("sade")),
    Case("evosax DE", ("evosax.algorithms",), _evosax, "float32"),
]
CASES: dict[str, Case] = {case.name: case for case in _EVERY}
"""Cases by name, ours first."""
