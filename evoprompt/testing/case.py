"""What one conformance case is: how its optimizer is made, what it does not promise, and how it is driven."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from evoprompt.optim.capabilities import Capabilities
from evoprompt.optim.protocol import Best, Optimizer, Trials
from evoprompt.typing import Doubles, Floats

__all__ = ["SEED", "Case", "best_of", "joined", "or_refused", "run", "sphere", "told"]

SEED = 3


class Case(ABC):
    """How an optimizer is made, and what it does not promise.

    A flag that is False does not switch a test off: the test then demands that the thing is refused, by an
    exception whose message is one line. ``bounds`` (of four coordinates), ``budget`` and ``popsize`` are those of the
    optimizer that most tests use.
    """

    capabilities: Capabilities = Capabilities()
    """What it can do beyond asking and telling."""
    accepts_x0: bool = True
    """``make(x0=...)`` is understood."""
    accepts_target: bool = True
    """``make(target=...)`` is understood."""
    accepts_float32: bool = True
    """``dtype="float32"`` gives float32 trials."""
    accepts_guests: bool = True
    """Points told without being asked count as evaluations and can be best."""
    accepts_parts: bool = True
    """A batch may be told in parts and in any order."""
    keeps_state: bool = True
    """``state_dict`` and ``load_state_dict`` work."""
    generational: bool = True
    """The results of one batch are learnt from together, so that neither their order nor the sizes of the asks that
    gave the batch matter. False for a steady state, where the order of tells makes the run."""
    learns: bool = True
    """It does better than random search."""
    failure_factor: float = 10.0
    """With 30 % of its losses NaN, the error on the 5-d sphere is at most so many times that of a clean run with as
    many finite losses."""
    bounds: Sequence[tuple[float, float]] = ((-3.0, 3.0), (-1.0, 4.0), (0.0, 0.5), (-10.0, 10.0))
    budget: int = 60
    popsize: int = 8
    examples: int = 8
    """How many examples each property is tried on."""
    shrinks: bool = True
    """A failing example is made as short as possible before it is shown, which can take half a minute."""

    @abstractmethod
    def make(
        self, *, bounds: Any, budget: int, seed: int, popsize: int | None, dtype: str, **options: Any
    ) -> Optimizer:
        """A new optimizer.

        Parameters
        ----------
        bounds : list of (low, high)
            ``None`` for a missing side, in the test of infinite bounds.
        budget : int
            Most evaluations it may hand out.
        seed : int
        popsize : int or None
            Number of candidates in a batch; None leaves it to the optimizer.
        dtype : str
            "float64" or "float32".
        **options
            x0, target, seconds, noise, integrality and updating, where a test is about them. A ``make`` without
            this parameter refuses them, which is right where the flags say so.
        """

    def fresh(self, **changes: Any) -> Optimizer:
        """The optimizer that most tests use, or one that differs as ``changes`` say."""
        arguments = {
            "bounds": list(self.bounds), "budget": self.budget, "seed": SEED, "dtype": "float64",
            "popsize": self.popsize if self.capabilities.popsize else None, **changes,
        }  # fmt: skip
        return self.make(**arguments)

    def refuses(self, call: Callable[[], Any], *, missing: bool = False) -> None:
        """Demand that ``call`` raises an error whose message is one line; ``missing``: the method may not exist."""
        refusals = (ValueError, TypeError, NotImplementedError) + ((AttributeError,) if missing else ())
        with pytest.raises(refusals) as caught:
            call()
        message = str(caught.value)
        assert message.strip(), f"{caught.type.__name__} without a message; say what is not supported"
        assert len(message.splitlines()) == 1, f"the message should be one line, got {message!r}"

    def contains(self, x: Floats) -> bool:
        """Whether all points (n, d) lie within the bounds."""
        low, high = np.array(self.bounds).T
        return bool(((x >= low) & (x <= high)).all())

    def for_all(self, claim: Callable[..., None], **strategies: Any) -> None:
        """Try ``claim`` on examples of the strategies: always the same ones, so that a verdict is no matter of luck."""
        profile = settings(
            max_examples=self.examples, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if self.shrinks else [Phase.generate],
        )  # fmt: skip
        profile(given(**strategies)(claim))()


def or_refused(
    promise: str, call: Callable[[Any], Any], *, missing: bool = False
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Have a test demand, where the case does not make this promise, that ``call(case)`` is refused instead.

    Parameters
    ----------
    promise : str
        One of the case's capabilities or else a flag of it.
    call : callable
    missing : bool
        The method that is called may not exist.
    """

    def decorated(test: Callable[[Any], None]) -> Callable[[Any], None]:
        @wraps(test)
        def either(case: Any) -> None:
            promises = case.capabilities if hasattr(case.capabilities, promise) else case
            if getattr(promises, promise):
                test(case)
            else:
                case.refuses(lambda: call(case), missing=missing)

        return either

    return decorated


def sphere(x: Any) -> Doubles:
    """Squared distance to (0.2, ..., 0.2): (n, d) to (n,)."""
    distance: Doubles = ((np.asarray(x, dtype=np.float64) - 0.2) ** 2).sum(axis=1)
    return distance


def run(optimizer: Optimizer, objective: Callable[[Floats], Any] = sphere) -> Floats:
    """Ask and tell until it stops: every point handed out (n, d)."""
    asked = []
    while optimizer.should_stop() is None:
        trials = optimizer.ask()
        assert len(trials), "ask() gave nothing, nothing is outstanding, and should_stop() names no reason"
        asked.append(trials.x.copy())
        assert optimizer.budget is None or sum(map(len, asked)) <= optimizer.budget, "more than the budget"
        optimizer.tell(trials, objective(trials.x))
    return np.concatenate(asked)


def told(optimizer: Optimizer, n: int | None = None) -> Trials:
    """Trials that were asked and told the sphere's losses."""
    trials = optimizer.ask(n)
    optimizer.tell(trials, sphere(trials.x))
    return trials


def best_of(optimizer: Optimizer) -> Best:
    """Its best evaluation, which there must be."""
    assert optimizer.best is not None, "something finite was told, and nothing is best"
    return optimizer.best


def joined(parts: Sequence[Trials]) -> Trials:
    """Several trials as one."""
    return Trials(np.concatenate([part.ids for part in parts]), np.concatenate([part.x for part in parts]))
