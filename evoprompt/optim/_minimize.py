"""``minimize``: a function in, a ``scipy.optimize.OptimizeResult`` out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from evoprompt.checks import whole_number
from evoprompt.optim.calls import Calls
from evoprompt.optim.constraints import Constraints
from evoprompt.optim.de.variant import Variant
from evoprompt.optim.engine.state import has_state, load_state, require_saveable, save_state
from evoprompt.optim.methods import make_optimizer, name_of
from evoprompt.optim.protocol import Evaluation, Evaluator, Trials, shares

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["minimize"]

_MESSAGES = {
    "budget": "the budget of evaluations is spent",
    "target": "the target loss is reached",
    "deadline": "the time is up",
    "maxiter": "the number of generations asked for has passed",
    "tolerance": "the population's losses have come as close together as tol asks",
    "converged": "the optimizer has converged",
    "failed": "too many evaluations in a row brought no finite loss",
    "callback": "the callback asked to stop",
    "idle": "the optimizer has nothing more to propose",
}

_UNDEFINED = 1e100  # stands for a loss that cannot be had where constraints are violated; only violations count there


def minimize(
    fun: Callable[..., Any] | None,
    bounds: Any,
    *,
    budget: int | None = None,
    seconds: float | None = None,
    maxiter: int | None = None,
    args: tuple[Any, ...] = (),
    method: str | Variant = "auto",
    x0: ArrayLike | None = None,
    constraints: Any = (),
    integrality: ArrayLike | None = None,
    noise: str | float | None = None,
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
    budget : int, optional
        Most evaluations ever made. One of budget, seconds, maxiter, ``target`` and ``tol`` must be given.
    seconds : float, optional
        Wall-clock time after which no evaluation begins; a checkpoint keeps what was spent.
    maxiter : int, optional
        Most generations.
    args : tuple
        Further arguments of ``fun``.
    method : str or Variant
        A name in :data:`evoprompt.optim.OPTIMIZERS`: "auto" is a portfolio, "de" differential evolution,
        "lshade" and others, or a :class:`~evoprompt.optim.Variant` of your own, are variants of it, "cma", "scipy",
        ... other libraries' optimizers.
    x0 : array_like, shape (d,) or (m, d), optional
        Points evaluated first.
    constraints : NonlinearConstraint, LinearConstraint, dict, or a sequence of them
        As :func:`scipy.optimize.minimize` takes them. Less violation is better, whatever the loss; among
        equals the loss decides. An equation is met within 1e-4. Where constraints are violated ``fun`` is
        called all the same, and may fail.
    integrality : array_like of bool, shape (d,), optional
        Which coordinates are whole numbers.
    noise : None, "auto" or float
        ``fun`` is noisy, with this standard deviation or an unknown one; ``x`` and ``fun`` of the result are
        then the recommended point and its estimated loss.
    callback : callable, optional
        ``callback(intermediate_result)`` after every generation, with the fields x, fun, nfev, nit, nfail,
        population and population_energies. Returning True or raising ``StopIteration`` ends the run.
    vectorized : bool
        ``fun`` and the constraints' functions take x of shape (n, d) and return n losses, or (n,) or (n, k)
        values. (scipy's own ``vectorized`` takes the transpose.) If one raises, its candidates are evaluated
        again one at a time, as (1, d).
    evaluator : Evaluator, optional
        Evaluates the trials in place of ``fun``; it is not closed.
    checkpoint : path-like, optional
        A folder. The state is written to it after every generation; a state that is found there is continued,
        also with another ``budget`` or ``seconds``.
    seed : int or None
        Equal seeds give equal runs; None gives a different one each time, but a checkpoint keeps its own.
    popsize : int, optional
        Number of candidates in a generation; by default it depends on the budget.
    dtype : dtype-like
        Of x: float64 or float32.
    **options
        The method's own, such as ``target`` (a loss that is good enough), ``tol``, ``variant``.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (d,), ``fun``, ``nfev``, ``nit`` (generations), ``nfail`` (evaluations without a finite loss),
        ``method`` and ``stages`` (what was asked for, and the evaluations that each of its stages had),
        ``variant`` (the name of the variant that ran, where the method is differential evolution),
        ``success`` (False if nothing finite was found, the constraints are not met or the callback stopped the
        run), ``message`` (with the text of the last exception, if any), ``stop_reason`` (one word),
        ``population`` (m, d) and ``population_energies`` (m,). With constraints ``violation``, by how much x
        violates them.

    Raises
    ------
    ValueError
        If an argument is out of range, ``fun`` returns something other than one number per candidate, or the
        checkpoint belongs to a run with other settings or cannot hold the variant; the message names them.

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
    _require_an_end(budget, seconds, maxiter, options)
    if seed is None and checkpoint is not None and has_state(checkpoint):
        seed = load_state(checkpoint)["optimizer"]["config"]["seed"]
    limited = Constraints(constraints, vectorized=vectorized)
    wishes = {"seconds": seconds, "integrality": integrality, "noise": noise, "constrained": len(limited) > 0 or None}
    options |= {name: value for name, value in wishes.items() if value is not None}
    optimizer = make_optimizer(
        method, bounds=bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, x0=x0, **options
    )
    method = name_of(method)
    if checkpoint is not None:
        require_saveable(optimizer)
        if has_state(checkpoint):
            state = load_state(checkpoint)
            if state.get("method") != method:
                raise ValueError(f"the checkpoint belongs to a run with method {state.get('method')!r}, not {method!r}")
            optimizer.load_state_dict(state["optimizer"])
    workers = Calls(fun, args, vectorized, hurried=seconds is not None) if evaluator is None else evaluator
    run = _Run(optimizer, workers, limited, checkpoint, method)
    return run.result(run.until_stopped(maxiter, callback))


@dataclass
class _Run:
    """An optimizer, what evaluates its trials, and where its state goes."""

    optimizer: Any
    workers: Evaluator
    constraints: Constraints
    checkpoint: str | os.PathLike[str] | None
    method: str

    def until_stopped(self, maxiter: int | None, callback: Callable[[OptimizeResult], Any] | None) -> str:
        """Ask and tell until there is a reason to stop: its name."""
        optimizer = self.optimizer
        left_over: Trials | None = getattr(optimizer, "outstanding", None)
        reason: str | None = optimizer.should_stop()
        while reason is None:
            if maxiter is not None and optimizer.generation >= maxiter:
                return "maxiter"
            trials, left_over = (left_over if left_over is not None and len(left_over) else optimizer.ask()), None
            if len(trials) == 0:
                return str(optimizer.should_stop() or "idle")
            self._evaluate(trials)
            if self.checkpoint is not None:
                save_state(self.checkpoint, {"method": self.method, "optimizer": optimizer.state_dict()})
            reason = optimizer.should_stop()
            try:
                if callback is not None and callback(self._snapshot()):
                    return "callback"
            except StopIteration:
                return "callback"
        return reason

    def _evaluate(self, trials: Trials) -> None:
        """Have trials evaluated and told; those an evaluator gives up on have failed, unless time is up."""
        optimizer = self.optimizer
        self.workers.submit(trials)
        missing = set(trials.ids.tolist())
        seconds = getattr(optimizer, "seconds", None)
        left = None if seconds is None else max(0.0, seconds - optimizer.elapsed)
        for part, evaluation in self.workers.collect(left):
            self._tell(part, evaluation)
            missing.difference_update(part.ids.tolist())
            if missing and optimizer.should_stop() == "deadline":
                break
        lost = trials[np.array([i in missing for i in trials.ids.tolist()], dtype=bool)]
        if len(lost) and optimizer.should_stop() != "deadline":
            optimizer.tell(lost, np.full(len(lost), np.nan))

    def _tell(self, trials: Trials, evaluation: Evaluation) -> None:
        if len(self.constraints) == 0:
            self.optimizer.tell(trials, evaluation)
            return
        violation = self.constraints.violations(trials.x.astype(np.float64))
        violation += np.asarray(evaluation.metrics.get("violation", 0.0))
        undefined = (violation > 0) & ~np.isfinite(evaluation.loss)
        self.optimizer.tell(trials, np.where(undefined, _UNDEFINED, evaluation.loss), violation)

    def _snapshot(self) -> Any:
        """The state of the search as a result."""
        from scipy.optimize import OptimizeResult  # slow to import

        optimizer = self.optimizer
        x, losses = optimizer.population
        point, loss = np.full(optimizer.d, np.nan), np.nan
        if optimizer.best is not None:
            point, loss = optimizer.best.x.copy(), optimizer.best.loss
            if (trusted := getattr(optimizer, "recommendation", None)) is not None:
                point, loss = trusted.x, trusted.loss
        loss = np.nan if loss == _UNDEFINED else loss
        losses = np.where(losses == _UNDEFINED, np.inf, losses)
        result: Any = OptimizeResult()
        result.update(
            x=point, fun=loss, nfev=optimizer.evaluations, nit=optimizer.generation, nfail=optimizer.failed,
            population=x, population_energies=losses,
        )  # fmt: skip
        if len(self.constraints):
            result.violation = optimizer.best_violation
        return result

    def result(self, reason: str) -> Any:
        """What ``minimize`` returns."""
        result, optimizer = self._snapshot(), self.optimizer
        result.stop_reason = reason
        result.method, result.stages = self.method, optimizer.stages
        searched = optimizer.name
        if (variant := getattr(optimizer, "variant", None)) is not None:
            result.variant = variant.name
            searched += f" {variant.name}"
        result.message = f"{_MESSAGES.get(reason, reason)} ({searched}: {shares(optimizer.stages) or 'nothing'})"
        violated = len(self.constraints) > 0 and result.violation > 0
        if violated:
            excess = f"x violates them by {result.violation:g}"
            result.message += f"; no point was found that meets the constraints, {excess}"
        for who in (self.workers, self.constraints):
            if (error := getattr(who, "last_error", None)) is not None:
                result.message += f"; {optimizer.failed} evaluations failed, the last exception was {error}"
        result.success = optimizer.best is not None and not violated and reason not in ("failed", "callback")
        return result


def _require_an_end(budget: int | None, seconds: float | None, maxiter: int | None, options: dict[str, Any]) -> None:
    if maxiter is not None:
        whole_number("maxiter", maxiter, 1, what="None or a number of generations")
    ends = (budget, seconds, maxiter, options.get("target"), options.get("tol"))
    if all(end is None for end in ends):
        raise ValueError("minimize must know when to end: give budget, seconds, maxiter, target or tol")
