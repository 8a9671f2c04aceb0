"""``minimize``: a function in, a ``scipy.optimize.OptimizeResult`` out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.optimize import OptimizeResult

from evoprompt.optim.protocol import Evaluation, Evaluator, Optimizer, Trials
from evoprompt.optim.registry import make_optimizer
from evoprompt.optim.state import has_state, load_state, save_state

__all__ = ["minimize"]

_MESSAGES = {
    "budget": "the budget of evaluations is spent",
    "target": "the target loss is reached",
    "tolerance": "the population's losses have come as close together as tol asks",
    "converged": "the optimizer has converged",
    "failed": "a whole population of evaluations in a row brought no finite loss",
    "callback": "the callback asked to stop",
    "idle": "the optimizer has nothing more to propose",
}


def minimize(
    fun: Callable[..., Any] | None,
    bounds: Any,
    *,
    budget: int,
    args: tuple[Any, ...] = (),
    method: str = "de",
    x0: ArrayLike | None = None,
    callback: Callable[[OptimizeResult], Any] | None = None,
    vectorized: bool = False,
    evaluator: Evaluator | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int | None = 0,
    popsize: int | None = None,
    dtype: DTypeLike = "float64",
    **options: Any,
) -> OptimizeResult:
    """Minimise a function of d variables within bounds, spending at most ``budget`` evaluations.

    Parameters
    ----------
    fun : callable or None
        ``fun(x, *args) -> float`` with x of shape (d,). An exception costs the candidate it was raised for,
        nothing else. None with an ``evaluator``.
    bounds : sequence of (low, high), array_like (d, 2) or scipy.optimize.Bounds
        The search box; ``None`` or infinite sides are allowed.
    budget : int
        Most evaluations ever made.
    args : tuple
        Further arguments of ``fun``.
    method : str
        "de", "cma", "nevergrad", "scipy" or "random".
    x0 : array_like, shape (d,) or (m, d), optional
        Points evaluated first.
    callback : callable, optional
        ``callback(intermediate_result)`` after every generation, with the fields x, fun, nfev, nit, nfail,
        population and population_energies. Returning True or raising ``StopIteration`` ends the run.
    vectorized : bool
        ``fun`` takes x of shape (n, d) and returns n losses. (scipy's own ``vectorized`` takes the
        transpose.) If it raises, its candidates are evaluated again one at a time, as (1, d).
    evaluator : Evaluator, optional
        Evaluates the trials in place of ``fun``; it is not closed.
    checkpoint : path-like, optional
        A folder. The state is written to it after every generation; a state that is found there is continued.
    seed : int or None
        Equal seeds give equal runs; None gives a different one each time, but a checkpoint keeps its own.
    popsize : int, optional
        Number of candidates in a generation; by default it depends on the budget.
    dtype : dtype-like
        Of x: float64 or float32.
    **options
        The method's own, such as ``target`` (a loss that is good enough), ``tol``, ``strategy``.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (d,), ``fun``, ``nfev``, ``nit`` (generations), ``nfail`` (evaluations without a finite loss),
        ``success`` (False if nothing finite was found or the callback stopped the run), ``message`` (with the
        text of the last exception, if any), ``stop_reason`` (one word), ``population`` (m, d) and
        ``population_energies`` (m,).

    Raises
    ------
    ValueError
        If an argument is out of range, ``fun`` returns something other than one number per candidate, or the
        checkpoint belongs to a run with other settings; the message names them.

    Examples
    --------
    >>> result = minimize(lambda x: ((x - 1) ** 2).sum(), [(-5, 5)] * 3, budget=800)
    >>> result.success, result.nfev, bool(abs(result.x - 1).max() < 0.01)
    (True, 800, True)
    """
    if (fun is None) == (evaluator is None):
        raise ValueError("minimize needs either fun or evaluator, and the other one None")
    if evaluator is not None and (args or vectorized):
        raise ValueError("args and vectorized go with fun, not with evaluator")
    if seed is None and checkpoint is not None and has_state(checkpoint):
        seed = load_state(checkpoint)["optimizer"]["config"]["seed"]
    optimizer = make_optimizer(
        method, bounds=bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, x0=x0, **options
    )
    if checkpoint is not None and has_state(checkpoint):
        _continue_from(optimizer, method, load_state(checkpoint))
    local = None if fun is None else _Calls(fun, args, vectorized)
    workers: Evaluator = local if evaluator is None else evaluator  # type: ignore[assignment]
    reason = optimizer.should_stop()
    while reason is None:
        trials = optimizer.ask()
        if len(trials) == 0:
            reason = "idle"
            break
        _evaluate(optimizer, workers, trials)
        if checkpoint is not None:
            save_state(checkpoint, {"method": method, "optimizer": optimizer.state_dict()})
        reason = optimizer.should_stop()
        if callback is not None and _asks_to_stop(callback, _result(optimizer)):
            reason = "callback"
    result: Any = _result(optimizer)
    result.stop_reason = reason
    result.message = _MESSAGES.get(reason, reason)
    if local is not None and local.last_error is not None:
        result.message += f"; {optimizer.failed} evaluations failed, the last exception was {local.last_error}"
    result.success = optimizer.best is not None and reason not in ("failed", "callback")
    return result


def _continue_from(optimizer: Optimizer, method: str, state: dict[str, Any]) -> None:
    if state.get("method") != method:
        raise ValueError(f"the checkpoint belongs to a run with method {state.get('method')!r}, not {method!r}")
    optimizer.load_state_dict(state["optimizer"])


def _evaluate(optimizer: Optimizer, workers: Evaluator, trials: Trials) -> None:
    """Have trials evaluated and told; those an evaluator gives up on have failed."""
    workers.submit(trials)
    missing = set(trials.ids.tolist())
    for part, evaluation in workers.collect():
        optimizer.tell(part, evaluation)
        missing.difference_update(part.ids.tolist())
    lost = trials[np.array([i in missing for i in trials.ids.tolist()], dtype=bool)]
    if len(lost):
        optimizer.tell(lost, np.full(len(lost), np.nan))


def _result(optimizer: Optimizer) -> Any:
    best = optimizer.best
    x, losses = optimizer.population
    result = OptimizeResult()
    result.update(
        x=np.full(optimizer.d, np.nan) if best is None else best.x.copy(),
        fun=np.nan if best is None else best.loss,
        nfev=optimizer.evaluations,
        nit=optimizer.generation,
        nfail=optimizer.failed,
        population=x,
        population_energies=losses,
    )
    return result


def _asks_to_stop(callback: Callable[[OptimizeResult], Any], intermediate_result: OptimizeResult) -> bool:
    try:
        return bool(callback(intermediate_result))
    except StopIteration:
        return True


class _Calls:
    """An evaluator that calls a function in this thread."""

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...], vectorized: bool) -> None:
        self._fun, self._args, self._vectorized = fun, args, vectorized
        self._queue: list[Trials] = []
        self.last_error: str | None = None

    def submit(self, trials: Trials) -> None:
        self._queue.append(trials)

    def collect(self, timeout: float | None = None) -> Iterator[tuple[Trials, Evaluation]]:
        while self._queue:
            trials = self._queue.pop(0)
            yield trials, Evaluation(self._losses(trials.x.copy()))

    def close(self) -> None:
        """Nothing to release."""

    def _losses(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        if not self._vectorized:
            return np.array([self._loss_of(row) for row in x])
        value = self._call(x.copy())
        if value is not None:
            return Evaluation.of(value, len(x)).loss
        single = [self._call(row[None].copy()) for row in x] if len(x) > 1 else [None]
        return np.array([np.nan if loss is None else Evaluation.of(loss, 1).loss[0] for loss in single])

    def _loss_of(self, x: NDArray[np.floating[Any]]) -> float:
        value = self._call(x)
        return np.nan if value is None else float(Evaluation.of(value, 1).loss[0])

    def _call(self, x: NDArray[np.floating[Any]]) -> Any:
        """What the function returns, or None if it raised."""
        try:
            value = self._fun(x, *self._args)
        except Exception as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return None
        if value is None:
            raise ValueError("fun must return a loss, got None")
        return value
