"""Differential evolution, driven by ask and tell.

One generation reads: :meth:`DifferentialEvolution.ask` makes trials from the population as it stands
(mutation, repair, crossover), ``tell`` collects their losses, and when the generation's last one is in,
selection, archive and memory are brought up to date in the order of the slots, whatever order the losses came
in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from evoprompt.optim import adaptation as adapting
from evoprompt.optim import mutation
from evoprompt.optim.bounds import REPAIRS, Box
from evoprompt.optim.crossover import binomial
from evoprompt.optim.ledger import FOREIGN, Ledger, Told
from evoprompt.optim.population import Population, checked_popsize, initial_points
from evoprompt.optim.protocol import Best, Evaluation, Losses, Trials
from evoprompt.optim.record import GenerationRecord, Selection
from evoprompt.optim.rng import Purpose, TrialStreams, checked_seed
from evoprompt.optim.state import require_same_config

__all__ = ["DifferentialEvolution"]

_STATE_VERSION = 1
_SUCCESS_HISTORY = "current-to-pbest/1/bin"

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class _Origin:
    """How an outstanding trial was made: its slot, F, CR, and whether its generation waits for it."""

    slot: int
    f: float
    cr: float
    awaited: bool


class DifferentialEvolution:
    """Differential evolution with batched, asynchronous ask and tell, a hard budget and exact resumption.

    Parameters
    ----------
    bounds : sequence of (low, high), array_like (d, 2) or scipy.optimize.Bounds
        The search box; ``None`` or infinite sides are allowed.
    budget : int, optional
        Most evaluations that are ever handed out.
    seed : int or None
        Every trial's random numbers depend on the seed and the trial number alone. ``None`` draws a fresh
        seed.
    popsize : int, optional
        Number of candidates, at least 4. By default 1.2 budget^(1/3), from 8 to 100; 50 without a budget.
    dtype : dtype-like
        float32 or float64.
    x0 : array_like, shape (d,) or (m, d), optional
        Points put first into the initial population.
    strategy : str
        "current-to-pbest/1/bin" (with archive), "rand/1/bin" or "best/1/bin".
    adaptation : str, optional
        "shade" (success history) or "fixed". By default "shade" for current-to-pbest and "fixed" otherwise.
    f, cr : float, optional
        Scale factor and crossover rate: constant under "fixed" (0.5 and 0.9), the memory's initial content
        under "shade" (0.5 and 0.5).
    memory : int, optional
        Number of cells of the success history; by default the population size, as in the 2013 paper.
    archive : float
        Archive capacity as a multiple of popsize; used by current-to-pbest.
    repair : str
        What to do with coordinates outside the box: "midpoint" between parent and bound (JADE), "reflect",
        "resample" or "clip".
    initial : str
        "latin" hypercube or "uniform".
    updating : str
        "deferred": selection when a whole generation has been told. "immediate": each trial competes as soon
        as it is told, for steady-state use with many evaluations in flight; the sequence of asks and tells
        then determines the run.
    target : float, optional
        Stop with "target" when the best loss is at most this.
    tol : float, optional
        Stop with "tolerance" when the spread (largest minus smallest loss) of the population is at most
        ``tol`` times the spread of the initial population. Adding a constant to the objective changes
        nothing.

    Raises
    ------
    ValueError
        If an argument is out of range, or the budget cannot pay for one population.

    Notes
    -----
    *Asking ahead.* ``ask(None)`` gives the rest of the generation, and nothing while only results are
    missing. ``ask(n)`` beyond the rest makes extra trials from the population as it stands; each competes
    with its target when it is told, also generations later. *Guests.* A point told without being asked
    enters, in place of the worst member, if it is better: at once between generations, otherwise when the
    generation closes. *Failures.* A non-finite loss is counted in ``failed`` and never selected. While no
    member has a finite loss, trials are drawn afresh from the box. A trial that was lost for good should be
    told as NaN, since its generation waits for it.

    References
    ----------
    R. Storn, K. Price, "Differential evolution", J. Global Optimization 11 (1997) 341-359.
    J. Zhang, A. C. Sanderson, "JADE: adaptive differential evolution with optional external archive", IEEE
    Trans. Evolutionary Computation 13 (2009) 945-958.
    R. Tanabe, A. Fukunaga, "Success-history based parameter adaptation for differential evolution", IEEE CEC
    2013, 71-78.

    Examples
    --------
    >>> import numpy as np
    >>> de = DifferentialEvolution([(-5, 5)] * 3, budget=600, seed=1, popsize=20)
    >>> while not (reason := de.should_stop()):
    ...     trials = de.ask()
    ...     de.tell(trials, (trials.x**2).sum(axis=1))
    >>> reason, de.evaluations, de.best.loss < 1e-3
    ('budget', 600, True)
    """

    def __init__(
        self,
        bounds: Any,
        *,
        budget: int | None = None,
        seed: int | None = 0,
        popsize: int | None = None,
        dtype: DTypeLike = "float32",
        x0: ArrayLike | None = None,
        strategy: str = _SUCCESS_HISTORY,
        adaptation: str | None = None,
        f: float | None = None,
        cr: float | None = None,
        memory: int | None = None,
        archive: float = 1.0,
        repair: str = "midpoint",
        initial: str = "latin",
        updating: str = "deferred",
        target: float | None = None,
        tol: float | None = None,
    ) -> None:
        if adaptation is None:
            adaptation = "shade" if strategy == _SUCCESS_HISTORY else "fixed"
        _require_one_of("strategy", strategy, mutation.STRATEGIES)
        _require_one_of("adaptation", adaptation, ("shade", "fixed"))
        _require_one_of("repair", repair, REPAIRS)
        _require_one_of("initial", initial, ("latin", "uniform"))
        _require_one_of("updating", updating, ("deferred", "immediate"))
        f = 0.5 if f is None else f
        cr = (0.5 if adaptation == "shade" else 0.9) if cr is None else cr
        _require_within("f", f, 0.0, 2.0)
        _require_within("cr", cr, 0.0, 1.0)
        _require_within("archive", archive, 0.0, 100.0)
        if tol is not None:
            _require_within("tol", tol, 0.0, 1.0)
        self._box = Box(bounds, dtype)
        self.d = self._box.d
        self.seed = checked_seed(seed)
        self.popsize = checked_popsize(popsize, budget)
        memory = self.popsize if memory is None else memory
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
            raise ValueError(f"memory is a number of cells and must be an integer >= 1, got {memory!r}")
        self._strategy, self._repair, self._immediate = (
            mutation.STRATEGIES[strategy],
            repair,
            updating == "immediate",
        )
        self._tol = tol
        self._streams = TrialStreams(self.seed)
        self._ledger = Ledger(self.d, self._box.dtype, budget=budget, target=target, patience=self.popsize)
        self._adaptation: adapting.Adaptation = (
            adapting.SuccessHistory(memory, f, cr) if adaptation == "shade" else adapting.FixedParameters(f, cr)
        )
        capacity = round(archive * self.popsize) if strategy == _SUCCESS_HISTORY else 0
        self._archive = adapting.Archive(capacity, self.d, self._box.dtype)
        first = None if x0 is None else self._box.points(x0, "x0")
        if first is not None and len(first) > self.popsize:
            raise ValueError(f"x0 has {len(first)} rows, more than the population of {self.popsize}")
        self._given = 0 if first is None else len(first)
        self._population = Population(
            initial_points(self._box, self.popsize, self._streams, first, stratified=initial == "latin")
        )
        self._config = {
            "low": self._box.low, "high": self._box.high, "dtype": str(self._box.dtype), "budget": self.budget,
            "seed": self.seed, "popsize": self.popsize, "strategy": strategy, "adaptation": adaptation, "f": float(f),
            "cr": float(cr), "memory": memory, "archive": float(archive), "repair": repair, "initial": initial,
            "updating": updating, "target": None if target is None else float(target),
            "tol": None if tol is None else float(tol),
        }  # fmt: skip
        self.generation = 0
        self.record: GenerationRecord | None = None
        self._queue = list(range(self.popsize))  # slots whose trial of this generation has not been handed out
        self._next_extra = 0
        self._origins: dict[int, _Origin] = {}
        self._awaited = 0  # outstanding trials that the generation waits for
        self._arrived: list[tuple[Told, _Origin]] = []  # told, awaiting the generation's selection
        self._guests: list[Told] = []
        self._selections: list[Selection] = []
        self._initial_spread = np.inf

    @property
    def budget(self) -> int | None:
        """Most evaluations that will ever be handed out."""
        return self._ledger.budget

    @property
    def asked(self) -> int:
        """Trials handed out."""
        return self._ledger.asked

    @property
    def evaluations(self) -> int:
        """Evaluations told, failed ones included."""
        return self._ledger.evaluations

    @property
    def failed(self) -> int:
        """Evaluations told whose loss was not finite."""
        return self._ledger.failed

    @property
    def best(self) -> Best | None:
        """The best finite evaluation so far."""
        return self._ledger.best

    @property
    def population(self) -> tuple[Floats, NDArray[np.float64]]:
        """Copies of the members (m, d) and their losses (m,); inf where failed or not evaluated yet."""
        return self._population.x.copy(), self._population.loss.copy()

    def ask(self, n: int | None = None) -> Trials:
        """Hand out up to n trials; None is the rest of the current generation.

        Returns
        -------
        Trials
            Fewer than n, in the end none, when the budget runs out.

        Raises
        ------
        ValueError
            If n is not None or an integer >= 0.
        """
        if self._immediate and self.generation > 0 and not self._queue:
            self._queue = list(range(self.popsize))
        count = self._ledger.grant(n, len(self._queue))
        ordinary = min(count, len(self._queue))
        slots, self._queue = self._queue[:ordinary], self._queue[ordinary:]
        extra = [(self._next_extra + k) % self.popsize for k in range(count - ordinary)]
        self._next_extra = (self._next_extra + len(extra)) % self.popsize
        if self.generation == 0:
            ids = self._ledger.next_ids(count)
            x, f, cr = self._make(ids[ordinary:], np.array(extra, dtype=np.int64))
            x = np.concatenate([self._population.x[slots], x])
            f, cr = (np.concatenate([np.full(ordinary, np.nan), values]) for values in (f, cr))
        else:
            x, f, cr = self._make(self._ledger.next_ids(count), np.array(slots + extra, dtype=np.int64))
        trials = self._ledger.hand_out(x)
        for k, (i, slot) in enumerate(zip(trials.ids.tolist(), slots + extra, strict=True)):
            awaited = k < ordinary and not (self._immediate and self.generation > 0)
            self._origins[i] = _Origin(slot, float(f[k]), float(cr[k]), awaited)
            self._awaited += awaited
        return trials

    def tell(self, trials: Trials | ArrayLike, losses: Losses) -> None:
        """Take losses in: any subset, any order, late, or of points never asked.

        Parameters
        ----------
        trials : Trials or array_like, shape (n, d)
            Rows of a plain array that equal an outstanding trial are that trial; other rows are guests, which
            count as evaluations.
        losses : array_like (n,) or Evaluation
            Non-finite ones mean "failed".

        Raises
        ------
        ValueError
            If the shapes do not fit or a trial is told twice; nothing is taken in then.
        """
        for told in self._ledger.receive(trials, losses):
            origin = self._origins.pop(told.id, None)
            self._awaited -= origin is not None and origin.awaited
            if origin is None:
                self._guests.append(told)
                if self._between_generations():
                    self._admit_guests()
            elif origin.awaited and self.generation > 0:
                self._arrived.append((told, origin))
            else:
                self._select(told, origin)
            if self._generation_is_complete():
                self._close_generation()

    def warm_start(self, x: ArrayLike, losses: ArrayLike) -> None:
        """Take in evaluations known from elsewhere; they cost no budget and are not counted.

        Before the first ``ask`` the best of them take places in the initial population (after the rows of
        ``x0``), which then need no evaluation. All others compete as guests do. Non-finite losses are left
        out.

        Parameters
        ----------
        x : array_like, shape (m, d)
        losses : array_like, shape (m,)

        Raises
        ------
        ValueError
            If a point lies outside the box or the lengths differ.
        """
        points = self._box.points(x, "x")
        loss = Evaluation.of(losses, len(points)).loss
        known = [
            Told(FOREIGN, points[i].copy(), float(loss[i]))
            for i in np.argsort(loss, kind="stable")
            if np.isfinite(loss[i])
        ]
        for told in known:
            self._ledger.note_best(FOREIGN, told.x, told.loss)
        if self.generation == 0 and self.asked == 0:
            free = [slot for slot in reversed(self._queue) if slot >= self._given]
            for told, slot in zip(known, free, strict=False):
                self._selections.append(self._population.compete(told, slot))
                self._queue.remove(slot)
            known = known[len(free) :]
        self._guests.extend(known)
        if self._between_generations():
            self._admit_guests()
        if self._generation_is_complete():
            self._close_generation()

    def should_stop(self) -> str | None:
        """Why to stop, or None.

        "target", "budget" (everything in it has been told), "failed" (a population's worth of evaluations in
        a row brought nothing finite) or "tolerance".
        """
        reason = self._ledger.reason()
        return reason or ("tolerance" if self._spread_is_small() else None)

    def _spread_is_small(self) -> bool:
        if self._tol is None or self.generation == 0 or not np.isfinite(self._initial_spread):
            return False
        return self._population.spread() <= self._tol * self._initial_spread

    def _make(
        self, ids: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.float64], NDArray[np.float64]]:
        """Trials for slots from the population as it stands: x (n, d), F (n,), CR (n,)."""
        order = self._population.ranked()
        if len(order) == 0:
            u = self._streams.uniforms(ids, self.d, Purpose.REDRAW)
            nothing = np.full(len(ids), np.nan)
            return self._box.from_unit(u), nothing, nothing
        u = self._streams.uniforms(ids, adapting.UNIFORMS + mutation.UNIFORMS)
        f, cr = self._adaptation.draw(u[:, : adapting.UNIFORMS])
        pool = mutation.Pool(self._population.x, order, self._archive.x)
        with np.errstate(over="ignore", invalid="ignore"):  # overflowing coordinates are repaired
            donors = self._strategy(pool, slots, f.astype(self._box.dtype), u[:, adapting.UNIFORMS :])
        parents = self._population.x[slots]
        donors = self._box.repair(donors, parents, self._repair, ids, self._streams)
        return binomial(parents, donors, cr, ids, self._streams), f, cr

    def _select(self, told: Told, origin: _Origin) -> None:
        parent = self._population.x[origin.slot].copy()
        selection = self._population.compete(told, origin.slot, origin.f, origin.cr)
        self._selections.append(selection)
        if selection.gain > 0:
            self._archive.add(parent, self._streams.of(told.id, Purpose.ARCHIVE))

    def _admit_guests(self) -> None:
        for told in sorted(self._guests, key=lambda told: told.loss if np.isfinite(told.loss) else np.inf):
            self._selections.append(self._population.admit(told))
        self._guests = []

    def _between_generations(self) -> bool:
        """Whether nothing of the current generation has been handed out, or selection is immediate."""
        return self.generation > 0 and (self._immediate or len(self._queue) == self.popsize)

    def _generation_is_complete(self) -> bool:
        spent = self._ledger.exhausted
        something = bool(self._selections or self._arrived or self._guests)
        if self._immediate and self.generation > 0:
            return len(self._selections) >= self.popsize or (spent and something and not self._origins)
        return something and not self._awaited and (not self._queue or (spent and not self._between_generations()))

    def _close_generation(self) -> None:
        for told, origin in sorted(self._arrived, key=lambda pair: pair[1].slot):
            self._select(told, origin)
        self._admit_guests()
        successes = [s for s in self._selections if s.gain > 0 and np.isfinite(s.f)]
        self._adaptation.learn(*(np.array([getattr(s, name) for s in successes]) for name in ("f", "cr", "gain")))
        self.record = GenerationRecord.of(self.generation, self._selections)
        if self.generation == 0:
            finite = self._population.loss[self._population.ranked()]
            self._initial_spread = float(finite[-1] - finite[0]) if len(finite) else np.inf
        self.generation += 1
        self._queue = list(range(self.popsize))
        self._arrived, self._selections = [], []

    def state_dict(self) -> dict[str, Any]:
        """Everything, at any moment: results may be outstanding and can be told after a reload.

        Returns
        -------
        dict
            Nested dicts, lists, scalars and arrays; nothing in it changes when the optimizer goes on.
        """
        outstanding = [(i, *_origin_row(origin)) for i, origin in self._origins.items()]
        arrived = [(told.id, told.loss, *_origin_row(origin)) for told, origin in self._arrived]
        return {
            "version": _STATE_VERSION,
            "config": {**self._config, "low": self._box.low.copy(), "high": self._box.high.copy()},
            "ledger": self._ledger.state_dict(),
            "population": self._population.state_dict(),
            "archive": self._archive.state_dict(),
            "adaptation": self._adaptation.state_dict(),
            "generation": self.generation,
            "queue": list(self._queue),
            "next_extra": self._next_extra,
            "given": self._given,
            "initial_spread": self._initial_spread,
            "outstanding": [list(row) for row in outstanding],
            "arrived": [list(row) for row in arrived],
            "arrived_x": self._stacked([told for told, _ in self._arrived]),
            "guests": [[told.id, told.loss] for told in self._guests],
            "guests_x": self._stacked(self._guests),
            "selections": GenerationRecord.of(self.generation, self._selections).state_dict(),
            "record": None if self.record is None else self.record.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` describes.

        Raises
        ------
        ValueError
            If it was made with another configuration or version; the message names what differs.
        """
        if state.get("version") != _STATE_VERSION:
            raise ValueError(f"this state has version {state.get('version')!r}, {_STATE_VERSION} is needed")
        require_same_config(state["config"], self._config)
        self._ledger.load_state_dict(state["ledger"])
        self._population.load_state_dict(state["population"])
        self._archive.load_state_dict(state["archive"])
        self._adaptation.load_state_dict(state["adaptation"])
        self.generation = int(state["generation"])
        self._queue = [int(slot) for slot in state["queue"]]
        self._next_extra, self._given = int(state["next_extra"]), int(state["given"])
        self._initial_spread = float(state["initial_spread"])
        self._origins = {int(i): _Origin(slot, f, cr, awaited) for i, slot, f, cr, awaited in state["outstanding"]}
        self._awaited = sum(origin.awaited for origin in self._origins.values())
        self._arrived = [
            (Told(int(i), x.copy(), loss), _Origin(slot, f, cr, awaited))
            for (i, loss, slot, f, cr, awaited), x in zip(state["arrived"], state["arrived_x"], strict=True)
        ]
        self._guests = [
            Told(int(i), x.copy(), loss) for (i, loss), x in zip(state["guests"], state["guests_x"], strict=True)
        ]
        self._selections = GenerationRecord.from_state(state["selections"]).selections()
        self.record = None if state["record"] is None else GenerationRecord.from_state(state["record"])

    def _stacked(self, told: list[Told]) -> Floats:
        return np.array([one.x for one in told], dtype=self._box.dtype).reshape(-1, self.d)


def _origin_row(origin: _Origin) -> tuple[int, float, float, bool]:
    return origin.slot, origin.f, origin.cr, origin.awaited


def _require_one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(repr(k) for k in known)}, got {value!r}")


def _require_within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
