"""An optimizer around another library's engine, made resumable by replaying what it was told.

Engines differ in what they can save, if anything, and most need pickle for it. All of them are deterministic
given a seed, though, so the sequence of asks and tells is a complete description. :class:`ReplayedOptimizer`
keeps that sequence as arrays and rebuilds the engine from it; a digest of every batch tells when the engine
has become another one since. Loading a state therefore takes as long as the optimizer itself has worked so far
(not the objective), and the state grows by some 20 bytes with every evaluation.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from evoprompt.optim.capabilities import CAPABILITIES, Capabilities, refusal, supported
from evoprompt.optim.engine.accounts import Accounts
from evoprompt.optim.engine.box import Rounding
from evoprompt.optim.engine.ledger import FOREIGN, Told
from evoprompt.optim.engine.starting import MINIMUM, checked_popsize, default_popsize
from evoprompt.optim.engine.state import STATE_VERSION, Stateful, plain, require_own_state, require_same_config
from evoprompt.optim.protocol import Evaluation, Losses, Trials
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["ReplayedOptimizer", "Result"]


class Result(NamedTuple):
    """What an engine is told: trial number (-1: never asked), point, a finite loss, and whether it failed."""

    id: int
    x: Floats
    loss: float
    failed: bool


class Asked(NamedTuple):
    """An ask: how many tells came before it, how many trials it got, and a digest of their points."""

    before: int
    trials: int
    digest: str


class Heard(NamedTuple):
    """A loss, and the trial it was told for or FOREIGN."""

    id: int
    loss: float


class Guest(NamedTuple):
    """A point that was told without having been asked, (d,)."""

    x: Floats


class Inner(NamedTuple):
    """The k coordinates that can move, as an engine sees them: (x - offset) / scale."""

    free: Indices
    offset: Doubles
    scale: Doubles
    fixed: Doubles
    """A point (d,) that holds the others."""

    def of(self, x: Floats) -> Doubles:
        """A point (d,) as the engine sees it, (k,)."""
        inner: Doubles = (x.astype(np.float64)[self.free] - self.offset) / self.scale
        return inner

    def points(self, inner: Sequence[Doubles]) -> Doubles:
        """What the engine proposed, n of (k,), as points (n, d)."""
        x = np.tile(self.fixed, (len(inner), 1))
        x[:, self.free] = self.offset + self.scale * np.asarray(inner)
        return x


@dataclass(eq=False)
class Log(Stateful):
    """All that an engine was asked and told, in this order."""

    asked: list[Asked] = field(default_factory=list)
    told: list[Heard] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)


class ReplayedOptimizer(Accounts, ABC):
    """Common part of the adapters: accounts, failures, log and replay.

    A subclass says how its engine starts, proposes and learns. Results reach it in order of trial number, as
    soon as ``popsize`` of them are in or nothing is outstanding, so the order in which a batch is told does
    not matter. It sees finite losses only: a failed trial comes with a penalty, worse than every loss so far
    by the spread of those losses.

    Parameters
    ----------
    bounds, budget, seed, target, seconds, integrality
        See :class:`~evoprompt.optim.AskTell`.
    popsize : int, optional
        Number of candidates in the natural batch; at least 4. The default depends on the budget.
    dtype : dtype-like
        float32 or float64, of the trials; engines compute in float64.
    x0 : array_like, shape (d,) or (m, d), optional
        Points evaluated first.
    updating : str
        "deferred" as said above, or "immediate": each result reaches the engine when it is told.
    config : mapping, optional
        Settings of the engine, which a state must have been made with.

    Raises
    ------
    ValueError
        If an argument is out of range, or the budget cannot pay for one population.
    """

    name: str
    _plans_by_budget = False
    _smallest = MINIMUM
    """Population that the engine can work with."""

    def __init__(
        self,
        bounds: Any,
        *,
        budget: int | None = None,
        seed: int | None = 0,
        popsize: int | None = None,
        dtype: DTypeLike = "float64",
        x0: ArrayLike | None = None,
        target: float | None = None,
        seconds: float | None = None,
        updating: str = "deferred",
        integrality: ArrayLike | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        wishes = {"updating": updating, "integrality": integrality}
        supported(self.name, CAPABILITIES.get(self.name, Capabilities()), wishes)
        super().__init__(
            bounds, budget=budget, seconds=seconds, seed=seed, dtype=dtype, target=target, updating=updating
        )
        budget = self._limits["budget"]
        default = max(self._smallest, self._default_popsize(budget))
        self.popsize = checked_popsize(default if popsize is None else popsize, budget, self._smallest)
        self._first = np.empty((0, self.d), self._box.dtype) if x0 is None else self._box.points(x0, "x0")
        self._own_popsize = popsize is None
        self._rounding = None if integrality is None else Rounding(self._box, integrality)
        mask = None if self._rounding is None else self._rounding.mask
        self._config |= {"popsize": self.popsize, "x0": self._first, "integrality": mask, **(config or {})}
        self._begin()

    def _begin(self) -> None:
        self._open_ledger(self.popsize)
        self._log = Log()
        self._worst, self._least = -np.inf, np.inf
        self._last: list[Told] = []
        self._pool: list[Told] = []
        self._learnt = 0
        self._start()

    def _unit_cube(self) -> Inner:
        """The coordinates that can move, as [0, 1].

        Raises
        ------
        ValueError
            If a bound is infinite, or no coordinate can move.
        """
        low, high = self._box.low.astype(np.float64), self._box.high.astype(np.float64)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise refusal(self.name, "infinite_bounds")
        free = np.flatnonzero(low < high)
        if len(free) == 0:
            raise ValueError("no coordinate has low < high, there is nothing to search")
        return Inner(free, low[free], high[free] - low[free], low)

    def _default_popsize(self, budget: int | None) -> int:
        """The population when none is given."""
        return default_popsize(budget)

    @abstractmethod
    def _start(self) -> None:
        """Make the engine anew, as the seed says."""

    def _given(self) -> Floats:
        """Points to be evaluated before the engine's own."""
        return self._first

    @abstractmethod
    def _natural(self) -> int:
        """How many trials the engine's current batch still holds."""

    @abstractmethod
    def _propose(self, ids: Indices) -> Floats:
        """Points (n, d) for these trials. Fewer than n if the engine has no more."""

    @abstractmethod
    def _learn(self, results: list[Result]) -> None:
        """Take in results, in the order of their trial numbers."""

    @property
    def generation(self) -> int:
        """Batches the engine has learnt from."""
        return self._learnt

    @property
    def stages(self) -> dict[str, int]:
        """Evaluations told, all under the optimizer's name."""
        return {self.name: self.evaluations}

    @property
    def population(self) -> tuple[Floats, Doubles]:
        """The last popsize points told (m, d) and their losses (m,); inf where failed."""
        x = np.array([told.x for told in self._last], dtype=self._box.dtype).reshape(-1, self.d)
        loss = np.array([told.loss for told in self._last], dtype=np.float64)
        return x, np.where(np.isfinite(loss), loss, np.inf)

    def ask(self, n: int | None = None) -> Trials:
        """Hand out up to n trials; None is what the engine's current batch still holds."""
        return self._hand_out(self._ledger.grant(n, len(self._given()[self.asked :]) + self._natural()))

    def _hand_out(self, count: int) -> Trials:
        first = self._given()[self.asked :]
        ids, x = self._ledger.next_ids(count)[len(first) :], first[:count]
        if len(ids):
            x = np.concatenate([x, self._propose(ids)])
        with np.errstate(over="ignore"):
            x = np.clip(np.asarray(x).astype(self._box.dtype), self._box.low, self._box.high)
        trials = self._ledger.hand_out(x)
        if len(trials):
            self._log.asked.append(Asked(len(self._log.told), len(trials), _digest(x)))
        return trials

    def tell(self, trials: Trials | ArrayLike, losses: Losses, violation: ArrayLike | None = None) -> None:
        """Take losses in: any subset, any order, late, or of points never asked (which count as evaluations).

        Raises
        ------
        ValueError
            If the shapes do not fit, a trial is told twice, or a constraint violation is told; nothing is taken
            in then.
        """
        if violation is not None or (isinstance(losses, Evaluation) and "violation" in losses.metrics):
            raise refusal(self.name, "constraints")
        received = self._ledger.receive(trials, losses)
        for position, told in enumerate(received, start=1):
            self._log.told.append(Heard(told.id, told.loss))
            if told.id == FOREIGN:
                self._log.guests.append(Guest(told.x))
            self._last = [*self._last, told][-self.popsize :]
            self._pool.append(told)
            # As if each had been told by itself, which is how a replay tells them.
            outstanding = self._ledger.in_flight + sum(later.id != FOREIGN for later in received[position:])
            if self._immediate or len(self._pool) >= self.popsize or outstanding == 0:
                self._pass_on()

    def warm_start(self, x: ArrayLike, losses: ArrayLike) -> None:
        """Always a ``ValueError``: engines take points in as evaluations only. Tell them instead, which counts."""
        raise refusal(self.name, "warm_start")

    def _pass_on(self) -> None:
        results = sorted(self._pool, key=lambda told: told.id)
        self._pool = []
        for told in results:
            if np.isfinite(told.loss):
                self._worst, self._least = max(self._worst, told.loss), min(self._least, told.loss)
        self._learn(
            [Result(*told._replace(loss=self._finite(told.loss)), not np.isfinite(told.loss)) for told in results]
        )

    def should_stop(self) -> str | None:
        """Why to stop, or None: "target", "budget", "failed", or the engine's own "converged"."""
        return self._ledger.reason() or self._engine_reason()

    def _engine_reason(self) -> str | None:
        """Why the engine will propose nothing more, or None."""
        return None

    def _finite(self, loss: float) -> float:
        if np.isfinite(loss):
            return loss
        if not np.isfinite(self._worst):
            return 1.0
        spread = self._worst - self._least
        penalty = self._worst + (spread if np.isfinite(spread) and spread > 0 else max(1.0, abs(self._worst)))
        return penalty if np.isfinite(penalty) else self._worst

    def state_dict(self) -> dict[str, Any]:
        """The configuration and the log of asks and tells, as plain values and arrays."""
        return {
            "version": STATE_VERSION,
            "optimizer": self.name,
            "config": plain(self._config),
            "watch": self._ledger.watch.state_dict(),
            "log": self._log.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` describes, by starting anew and repeating its asks and tells.

        Raises
        ------
        ValueError
            If it was made with another configuration or version, the budget is smaller than what is spent, or
            the engine now proposes other points than it did (a different release of its library). A larger
            budget and other ``seconds`` are accepted, but for engines that plan by the budget.
        """
        require_own_state(state, self.name)
        config = {**self._config, **({"popsize": state["config"]["popsize"]} if self._own_popsize else {})}
        require_same_config(
            state["config"], config, but=("seconds",) if self._plans_by_budget else ("seconds", "budget")
        )
        log = Log()
        log.load_state_dict(state["log"])
        spent = sum(ask.trials for ask in log.asked) + len(log.guests)
        self._require_affordable(spent, state["config"]["budget"])
        self._config, self.popsize = config, int(config["popsize"])
        self._replay_log(log)
        self._ledger.watch.load_state_dict(state["watch"])

    def _replay_log(self, log: Log) -> None:
        self._begin()
        guests = iter(log.guests)
        done = 0
        for ask in log.asked:
            self._replay(log.told[done : ask.before], guests)
            done = ask.before
            if _digest(self._hand_out(ask.trials).x) != ask.digest:
                raise ValueError(
                    f"replaying the state gives other points from trial {self.asked} on than the run that saved it; it "
                    f"needs the same release of the library behind {self.name!r}"
                )
        self._replay(log.told[done:], guests)

    def _replay(self, heard: list[Heard], guests: Iterator[Guest]) -> None:
        x = np.zeros((len(heard), self.d), self._box.dtype)
        for row, told in zip(x, heard, strict=True):
            if told.id == FOREIGN:
                row[:] = next(guests).x
        ids = np.array([told.id for told in heard], dtype=np.int64)
        self.tell(Trials(ids, x), np.array([told.loss for told in heard]))


def _digest(x: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:16]
