"""The BBOB problems of ``cocoex``, with what it does not say: their least value, and noisy ones without noise."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from evoprompt.typing import Doubles

__all__ = ["GROUPS", "SUITES", "Problem", "load"]


SUITES = {"bbob": "bbob", "noisy": "bbob-noisy", "largescale": "bbob-largescale"}

_NOISELESS = {
    "separable f1-5": range(1, 6),
    "moderate f6-9": range(6, 10),
    "ill-conditioned f10-14": range(10, 15),
    "multimodal f15-19": range(15, 20),
    "weak structure f20-24": range(20, 25),
}
GROUPS = {
    "bbob": _NOISELESS,
    "largescale": _NOISELESS,
    "noisy": {
        "moderate noise f101-106": range(101, 107),
        "severe noise f107-121": range(107, 122),
        "severe, multimodal f122-130": range(122, 131),
    },
}
"""Functions by the suite's own groups."""


@dataclass(frozen=True)
class Problem:
    """One function, instance and dimension, in the box [-5, 5].

    Attributes
    ----------
    f_opt : float
        The least value; NaN on the noisy suite, which is judged by ``true_error``.
    loss : callable
        A point (d,) to its value, with noise on the noisy suite.
    true_error : callable
        A point (d,) to its value without noise, less the least value.
    """

    suite: str
    function: int
    instance: int
    d: int
    f_opt: float
    loss: Callable[[Any], float]
    true_error: Callable[[Doubles], float]

    @property
    def low(self) -> Doubles:
        """(d,)"""
        return np.full(self.d, -5.0)

    @property
    def high(self) -> Doubles:
        """(d,)"""
        return np.full(self.d, 5.0)


def load(suite: str, function: int, instance: int, d: int, *, stream: int = 0) -> Problem:
    """One problem, fresh.

    Parameters
    ----------
    suite : {"bbob", "noisy", "largescale"}
    function : int
        1 to 24, or 101 to 130 on the noisy suite.
    instance, d : int
    stream : int
        Where the noise starts, in evaluations: cocoex draws all noise from one stream per process and starts it
        again with each suite, so runs with independent noise begin at different places of it.
    """
    if suite != "noisy":
        problem = _cocoex(suite, function, instance, d)
        f_opt = _least_value(suite, function, instance, d)
        return Problem(suite, function, instance, d, f_opt, problem, lambda x: float(problem(x)) - f_opt)
    sibling = _cocoex(suite, _cauchy_sibling(function), instance, d)
    x_opt = _best_parameter(sibling)
    at_opt = _mode(sibling, x_opt)
    problem = _cocoex(suite, function, instance, d)
    for _ in range(stream):
        problem(x_opt)
    return Problem(suite, function, instance, d, np.nan, problem, lambda x: _mode(sibling, x) - at_opt)


def _cauchy_sibling(function: int) -> int:
    """The same function under Cauchy noise, which most evaluations escape: f103 for f101, f102 and f103."""
    return function - (function - 101) % 3 + 2


def _mode(problem: Callable[[Any], float], x: Doubles) -> float:
    """The value that two evaluations agree on: under Cauchy noise, with probability 0.8 or 0.95, all but a constant."""
    seen = set()
    for _ in range(1000):
        value = float(problem(x))
        if value in seen:
            return value
        seen.add(value)
    raise RuntimeError("1000 evaluations of a function under Cauchy noise gave 1000 different values")


@lru_cache(maxsize=4096)
def _least_value(suite: str, function: int, instance: int, d: int) -> float:
    problem = _cocoex(suite, function, instance, d)
    return float(problem(_best_parameter(problem)))


def _best_parameter(problem: Any) -> Doubles:
    """Where the optimum is; cocoex tells it to a file in the working directory only."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        problem._best_parameter("print")
        return np.loadtxt("._bbob_problem_best_parameter.txt")


class _Kept:
    """A problem together with its suite, which owns the problem's memory."""

    def __init__(self, suite: Any, index: int) -> None:
        self._suite = suite
        self._problem = suite[index]

    def __call__(self, x: Any) -> float:
        return float(self._problem(x))

    def _best_parameter(self, what: str) -> None:
        self._problem._best_parameter(what)


def _cocoex(suite: str, function: int, instance: int, d: int) -> Any:
    import cocoex

    number = function - 100 if suite == "noisy" else function
    chosen = f"dimensions: {d} function_indices: {number} instance_indices: {instance}"
    try:
        made = cocoex.Suite(SUITES[suite], "", chosen)
    except cocoex.exceptions.NoSuchSuiteException:
        raise ValueError(f"{SUITES[suite]} has no problem f{function}, instance {instance}, {d}-D") from None
    return _Kept(made, 0)
