"""A log of asks and tells, from which an asynchronous run is repeated exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evoprompt.optim.engine.ledger import FOREIGN, cleaned
from evoprompt.optim.protocol import Best, Evaluation, Losses, Optimizer, Trials

__all__ = ["TellLog", "replay"]

_ASK, _TELL, _TELL_ARRAY, _WARM_START = range(4)
_ALL = -1  # ask(None)


class TellLog:
    """An optimizer that notes how it is driven, to be used in place of the one it wraps.

    In steady state the order in which results arrive determines the run. It is kept here as arrays: numbers and
    losses only, points just where they were not asked for.

    Parameters
    ----------
    optimizer : Optimizer
        Not asked anything yet.

    Raises
    ------
    ValueError
        If it was used before.

    Examples
    --------
    >>> from evoprompt.optim import DifferentialEvolution
    >>> def new():
    ...     return DifferentialEvolution([(0, 1)] * 2, popsize=8, seed=5, updating="immediate")
    >>> log = TellLog(new())
    >>> for k in (9, 2, 4):
    ...     trials = log.ask(k)[1:]
    ...     log.tell(trials, trials.x.sum(axis=1))
    >>> again = replay(log.state_dict(), new())
    >>> bool((again.ask(3).x == log.ask(3).x).all())
    True
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if optimizer.asked or optimizer.evaluations:
            raise ValueError(f"a log begins with the run, but {optimizer.asked} trials were already asked for")
        self.optimizer = optimizer
        self._events: list[tuple[int, int]] = []  # what was done, and with how many trials
        self._elapsed: list[float] = []
        self._ids: list[NDArray[np.int64]] = []
        self._losses: list[NDArray[np.float64]] = []
        self._violations: list[NDArray[np.float64]] = []
        self._x: list[NDArray[Any]] = []

    @property
    def d(self) -> int:
        return self.optimizer.d

    @property
    def budget(self) -> int | None:
        return self.optimizer.budget

    @property
    def evaluations(self) -> int:
        return self.optimizer.evaluations

    @property
    def asked(self) -> int:
        return self.optimizer.asked

    @property
    def failed(self) -> int:
        return self.optimizer.failed

    @property
    def generation(self) -> int:
        return self.optimizer.generation

    @property
    def best(self) -> Best | None:
        return self.optimizer.best

    @property
    def population(self) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
        return self.optimizer.population

    def should_stop(self) -> str | None:
        return self.optimizer.should_stop()

    def ask(self, n: int | None = None) -> Trials:
        """As the optimizer's own, noted."""
        trials = self.optimizer.ask(n)
        self._note(_ASK, _ALL if n is None else int(n))
        return trials

    def tell(self, trials: Trials | ArrayLike, losses: Losses, violation: ArrayLike | None = None) -> None:
        """As the optimizer's own, noted unless it was refused."""
        _tell(self.optimizer, trials, losses, violation)
        if isinstance(trials, Trials):
            known = (trials.ids >= 0) & (trials.ids < self.optimizer.asked)
            self._note(_TELL, len(trials))
            self._ids.append(np.where(known, trials.ids, FOREIGN))
            self._x.append(trials.x[~known])
        else:
            x = np.atleast_2d(np.array(trials, dtype=np.float64))
            self._note(_TELL_ARRAY, len(x))
            self._x.append(x)
        self._note_losses(losses, violation, self._events[-1][1])

    def warm_start(self, x: ArrayLike, losses: ArrayLike, violation: ArrayLike | None = None) -> None:
        """As the optimizer's own, noted."""
        optimizer: Any = self.optimizer
        optimizer.warm_start(x, losses, *(() if violation is None else (violation,)))
        points = np.atleast_2d(np.array(x, dtype=np.float64))
        self._note(_WARM_START, len(points))
        self._x.append(points)
        self._note_losses(losses, violation, len(points))

    def _note(self, event: int, n: int) -> None:
        self._events.append((event, n))
        self._elapsed.append(float(getattr(self.optimizer, "elapsed", 0.0)))

    def _note_losses(self, losses: Losses, violation: ArrayLike | None, n: int) -> None:
        evaluation = Evaluation.of(losses, n)
        excess = evaluation.metrics.get("violation") if violation is None else violation
        loss, kept = cleaned(evaluation.loss, excess)
        self._losses.append(loss)
        self._violations.append(np.full(n, np.nan) if excess is None else kept)

    def state_dict(self) -> dict[str, Any]:
        """The log as arrays, for :func:`evoprompt.optim.engine.state.save_state` and :func:`replay`."""
        nothing = np.empty((0, self.d))
        return {
            "events": np.array(self._events, dtype=np.int64).reshape(-1, 2),
            "elapsed": np.array(self._elapsed, dtype=np.float64),
            "ids": np.concatenate([np.empty(0, np.int64), *self._ids]),
            "losses": np.concatenate([np.empty(0), *self._losses]),
            "violations": np.concatenate([np.empty(0), *self._violations]),
            "x": np.concatenate([nothing, *self._x]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the log that ``state`` holds, and repeat it with the optimizer.

        Raises
        ------
        ValueError
            If the optimizer was used before.
        """
        TellLog.__init__(self, self.optimizer)
        replay(state, self)


def replay(log: TellLog | Mapping[str, Any], optimizer: Any) -> Any:
    """Repeat every ask and tell of a log.

    Parameters
    ----------
    log : TellLog or mapping
        A log or its ``state_dict()``.
    optimizer : Optimizer
        A new one, made with the settings of the one that was logged.

    Returns
    -------
    Optimizer
        The same, now where the logged one was.

    Raises
    ------
    ValueError
        If the optimizer was used before, or refuses a tell because it handed out other trials.
    """
    if optimizer.asked or optimizer.evaluations:
        raise ValueError(f"replay needs a new optimizer, but {optimizer.asked} trials were already asked for")
    state = log.state_dict() if isinstance(log, TellLog) else log
    ids, losses, violations = (iter(np.asarray(state[name])) for name in ("ids", "losses", "violations"))
    points = iter(np.asarray(state["x"]))
    timed = getattr(optimizer, "optimizer", optimizer)
    for (event, n), elapsed in zip(np.asarray(state["events"]).tolist(), np.asarray(state["elapsed"]), strict=True):
        if hasattr(timed, "follow_clock"):
            timed.follow_clock(float(elapsed))
        if event == _ASK:
            optimizer.ask(None if n == _ALL else n)
            continue
        loss, violation = _next(losses, n), _next(violations, n)
        excess = None if np.isnan(violation).any() else violation
        if event == _TELL:
            numbers = np.array([next(ids) for _ in range(n)], dtype=np.int64)
            # An outstanding trial's point is known by its number.
            x = np.zeros((n, optimizer.d))
            for i in np.flatnonzero(numbers == FOREIGN):
                x[i] = next(points)
            _tell(optimizer, Trials(numbers, x), loss, excess)
        else:
            x = np.array([next(points) for _ in range(n)]).reshape(n, optimizer.d)
            _tell(optimizer, x, loss, excess) if event == _TELL_ARRAY else optimizer.warm_start(x, loss, excess)
    if hasattr(timed, "follow_clock"):
        timed.follow_clock(None)
    return optimizer


def _next(values: Any, n: int) -> NDArray[np.float64]:
    return np.array([next(values) for _ in range(n)], dtype=np.float64)


def _tell(optimizer: Any, trials: Any, losses: Any, violation: ArrayLike | None) -> None:
    if violation is None:
        optimizer.tell(trials, losses)
    else:
        optimizer.tell(trials, losses, violation)
