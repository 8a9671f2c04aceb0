"""evosax on the CPU: DE with a population of 40 in float32; it knows no bounds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from evosax import algorithms

from benchmarks.counting import Counted

__all__ = ["start"]

_POPULATION = 40


@lru_cache(maxsize=8)
def _compiled(name: str, d: int) -> tuple[Any, Any, Any]:
    algorithm = getattr(algorithms, name)(population_size=_POPULATION, solution=jnp.zeros(d))
    return algorithm, jax.jit(algorithm.ask), jax.jit(algorithm.tell)


def start(objective: Counted, seed: int, argument: str) -> None:
    """A uniform first population, then generations until the budget ends; points outside the box never count."""
    algorithm, ask, tell = _compiled(argument, objective.d)
    key = jax.random.key(seed)
    first = np.random.default_rng(seed).uniform(objective.low, objective.high, (_POPULATION, objective.d))
    params = algorithm.default_params
    losses = objective.batch(first)
    state = algorithm.init(key, jnp.asarray(first, jnp.float32), jnp.asarray(losses, jnp.float32), params)
    while True:
        key, ask_key, tell_key = jax.random.split(key, 3)
        points, state = ask(ask_key, state, params)
        losses = objective.batch(np.asarray(points, np.float64))
        state, _ = tell(tell_key, points, jnp.asarray(losses, jnp.float32), state, params)
