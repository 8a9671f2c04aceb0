"""Ask and tell: the engine that every algorithm of this package runs in.

It numbers trials, keeps the accounts, takes results in whatever order they come, closes generations and saves
states. Where trials go is decided by an :class:`~evoprompt.optim.engine.algorithm.Algorithm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from evoprompt.checks import real_number
from evoprompt.optim.engine.accounts import Accounts, Settings
from evoprompt.optim.engine.algorithm import MakeAlgorithm, Problem
from evoprompt.optim.engine.box import Rounding
from evoprompt.optim.engine.generations import GenerationRecord, Generations
from evoprompt.optim.engine.ledger import FOREIGN, Ledger, cleaned
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.starting import drawn_points
from evoprompt.optim.engine.state import STATE_VERSION, Stateful, plain, require_own_state, require_same_config
from evoprompt.optim.protocol import Evaluation, Losses, Trials
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["AskTell", "Recommendation", "SearchSettings"]


class SearchSettings(Settings, total=False):
    """What :class:`AskTell` is made with beside its algorithm."""

    updating: str
    integrality: ArrayLike | None
    noise: str | float | None
    constrained: bool
    tol: float | None


class Recommendation(NamedTuple):
    """The point to use, and its estimated loss.

    With noise the loss is the mean of the point's evaluations or, where it was never evaluated itself, the median
    of the population's losses.
    """

    x: Floats
    loss: float


class AskTell(Accounts, Stateful):
    """An algorithm driven by ask and tell, with a hard budget and exact resumption.

    :class:`~evoprompt.optim.DifferentialEvolution` and :class:`~evoprompt.optim.Portfolio` are this with an algorithm;
    an algorithm of your own is run by it as they are.

    Parameters
    ----------
    bounds : sequence of (low, high), array_like (d, 2) or scipy.optimize.Bounds
        The search box; ``None`` or infinite sides are allowed.
    algorithm : callable
        Makes the :class:`~evoprompt.optim.engine.algorithm.Algorithm`, also again when a state is loaded.
    name : str
        What runs, as states and results call it.
    budget : int, optional
        Most evaluations that are ever handed out.
    seconds : float, optional
        Wall-clock time after which nothing more is handed out; it counts from the first ask or tell, and over
        restarts. Without a budget it also is what the algorithm plans by.
    seed : int or None
        Every trial's random numbers depend on the seed and the trial number alone. ``None`` draws a fresh
        seed.
    popsize : int, optional
        Number of candidates in the beginning, at least 4; by default the algorithm's.
    dtype : dtype-like
        float32 or float64.
    x0 : array_like, shape (d,) or (m, d), optional
        Points put first into the initial population.
    updating : str
        "deferred": selection when a whole generation has been told. "immediate": each trial competes as soon
        as it is told, for steady-state use with many evaluations in flight; a generation then closes after as
        many results as it has members. The sequence of asks and tells determines the run.
    integrality : array_like of bool, shape (d,), optional
        Coordinates that are whole numbers: they are rounded in what is handed out, while the algorithm goes on
        with what it made.
    noise : None, "auto" or float
        Losses are noisy, with this standard deviation or an unknown one: candidates are evaluated again, and
        ``recommendation`` is to be preferred to ``best``.
    constrained : bool
        Violations will be told; an algorithm may plan for it.
    target : float, optional
        Stop with "target" when the best loss, without violation, is at most this.
    tol : float, optional
        Stop with "tolerance" when the spread (largest minus smallest loss) of the population is at most
        ``tol`` times the spread of the initial population. Adding a constant to the objective changes
        nothing.
    config : mapping, optional
        Settings of the algorithm, which a state must have been made with.

    Raises
    ------
    ValueError
        If an argument is out of range, or the budget cannot pay for one population.

    Notes
    -----
    *Asking ahead.* ``ask(None)`` gives the rest of the generation, and nothing while only results are
    missing. ``ask(n)`` beyond the rest makes extra trials from what is known; each competes when it is told
    or when the generation under way closes, also generations later. *Guests.* A point told without being
    asked enters, in place of the worst member, if it is better: at once between generations, otherwise when
    the generation closes. *Failures.* A loss that is not finite is counted in ``failed`` and never selected.
    While no member has a finite loss, trials are drawn afresh from the box. A trial that was lost for good
    should be told as NaN, since its generation waits for it. *Constraints.* Less violation wins; at equal
    violation less loss wins (K. Deb, "An efficient constraint handling method for genetic algorithms", Computer
    Methods in Applied Mechanics and Engineering 186 (2000) 311-338).
    """

    _passed_on: ClassVar[Any] = SearchSettings

    popsize: int
    _ledger: Ledger
    _generations: Generations
    _by_stage: Indices
    """Evaluations told of each of the algorithm's stages."""
    _spread: float
    _initial_spread: float

    def __init__(
        self,
        bounds: Any,
        algorithm: MakeAlgorithm,
        *,
        name: str,
        budget: int | None = None,
        seconds: float | None = None,
        seed: int | None = 0,
        popsize: int | None = None,
        dtype: DTypeLike = "float64",
        x0: ArrayLike | None = None,
        updating: str = "deferred",
        integrality: ArrayLike | None = None,
        noise: str | float | None = None,
        constrained: bool = False,
        target: float | None = None,
        tol: float | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            bounds, budget=budget, seconds=seconds, seed=seed, dtype=dtype, target=target, updating=updating
        )
        if noise is not None and not (isinstance(noise, str) and noise == "auto"):
            real_number("noise", noise, 0.0, what="None, 'auto' or a standard deviation")
        self._tol = None if tol is None else real_number("tol", tol, 0.0, 1.0)
        self.name = name
        self._rounding = Rounding(self._box, integrality)
        self._make_algorithm = algorithm
        self._problem = Problem(
            self._rounding.box, TrialStreams(self.seed), self._limits["budget"], popsize,
            None if x0 is None else self._box.points(x0, "x0"), noise, bool(constrained), self._rounding.mask,
        )  # fmt: skip
        self._config |= {
            "popsize": popsize, **(config or {}), "noise": noise, "constrained": bool(constrained),
            "integrality": self._rounding.mask, "tol": self._tol,
        }  # fmt: skip
        self._begin(self._problem)

    def _begin(self, problem: Problem) -> None:
        self._algorithm = self._make_algorithm(problem)
        self.popsize = self._algorithm.popsize
        self._open_ledger(self.popsize)
        draw = partial(drawn_points, problem.box, problem.streams)
        self._generations = Generations(self._algorithm, self._ledger, draw, immediate=self._immediate)
        self._by_stage = np.zeros(len(self._algorithm.stages), dtype=np.int64)
        self._spread = self._initial_spread = np.inf

    @property
    def stages(self) -> dict[str, int]:
        """Evaluations told, by the stage that made their points; "guests" are points that were never asked for."""
        told = dict(zip(self._algorithm.stages, self._by_stage.tolist(), strict=True))
        return told | ({"guests": self._ledger.foreign} if self._ledger.foreign else {})

    @property
    def generation(self) -> int:
        """Generations closed."""
        return self._generations.number

    @property
    def record(self) -> GenerationRecord | None:
        """Who replaced whom in the last generation closed."""
        return self._generations.record

    @property
    def population(self) -> tuple[Floats, Doubles]:
        """Copies of the members (m, d) and their losses (m,); inf where failed or not evaluated yet."""
        x, losses = self._algorithm.population
        return self._rounding(x), losses

    @property
    def recommendation(self) -> Recommendation | None:
        """The point to use when the run ends: ``best``, or with noise what the algorithm has reason to trust."""
        x = self._algorithm.recommendation
        if x is None:
            return None if self.best is None else Recommendation(self.best.x.copy(), self.best.loss)
        members, losses = self._algorithm.population
        same = (members == x).all(axis=1)
        trusted = losses[same] if same.any() else losses[np.isfinite(losses)]
        loss = float(np.median(trusted)) if len(trusted) else np.nan
        return Recommendation(self._rounding(x[None])[0].copy(), loss)

    def ask(self, n: int | None = None) -> Trials:
        """Hand out up to n trials; None is the rest of the current generation.

        Returns
        -------
        Trials
            Fewer than n, in the end none, when the budget or the time runs out. ``x`` is read-only.

        Raises
        ------
        ValueError
            If n is not None or an integer >= 0.
        """
        self._ledger.tick()
        if n != 0 and self._generations.go_on_half_known():
            self._note_spread()
        count = self._ledger.grant(n, self._generations.natural, tick=False)
        made, slots, ordinary = self._generations.make(self._ledger.next_ids(count))
        return self._ledger.note(self._rounding(made.x), made, slots, awaited=ordinary)

    def tell(self, trials: Trials | ArrayLike, losses: Losses, violation: ArrayLike | None = None) -> None:
        """Take losses in: any subset, any order, late, or of points never asked.

        Parameters
        ----------
        trials : Trials or array_like, shape (n, d)
            Rows of a plain array that equal an outstanding trial are that trial; other rows are guests, which
            count as evaluations.
        losses : array_like (n,) or Evaluation
            Non-finite ones mean "failed".
        violation : array_like (n,), optional
            By how much constraints are violated, 0 where they are not; by default the Evaluation's metric
            "violation" if it has one. Non-finite ones mean "failed".

        Raises
        ------
        ValueError
            If the shapes do not fit, a trial is told twice or a guest is outside the box; nothing is taken in
            then.
        """
        received = self._ledger.take(trials, losses, violation)
        for block, _, offsets in received.pieces:
            self._by_stage += np.bincount(block.stage[offsets], minlength=len(self._by_stage))
        self._generations.take(received)
        self._settle()

    def warm_start(self, x: ArrayLike, losses: ArrayLike, violation: ArrayLike | None = None) -> None:
        """Take in evaluations known from elsewhere; they cost no budget and are not counted.

        Before the first ``ask`` the best of them take places in the initial population (after the rows of
        ``x0``), which then need no evaluation. All others compete as guests do. Non-finite losses are left
        out.

        Parameters
        ----------
        x : array_like, shape (m, d)
        losses : array_like, shape (m,)
        violation : array_like, shape (m,), optional

        Raises
        ------
        ValueError
            If a point lies outside the box or the lengths differ.
        """
        points = self._box.points(x, "x")
        loss, excess = cleaned(Evaluation.of(losses, len(points)).loss, violation)
        order = np.lexsort((loss, excess))
        order = order[np.isfinite(loss[order])]
        points, loss, excess = points[order], loss[order], excess[order]
        if len(order):
            self._ledger.note_best(FOREIGN, points[0], float(loss[0]), float(excess[0]))
        taken = 0
        if self.generation == 0 and self.asked == 0:
            first = self._algorithm.size - self._algorithm.replaceable
            taken = self._generations.prefill(first, self._algorithm.size, points, loss, excess)
        if taken < len(order):
            self._generations.admit(points[taken:], loss[taken:], excess[taken:])
        self._settle()

    def should_stop(self) -> str | None:
        """Why to stop, or None.

        "target", "budget" (everything in it has been told), "deadline", "failed" (100 evaluations in a row, a
        quarter of the budget if that is less, at least a population, brought nothing finite) or "tolerance".
        """
        reason = self._ledger.reason()
        if reason is not None:
            return reason
        start = self._initial_spread
        if self._tol is not None and np.isfinite(start) and self._spread <= self._tol * start:
            return "tolerance"
        return None

    def _settle(self) -> None:
        if self._generations.settle():
            self._note_spread()

    def _note_spread(self) -> None:
        if self._tol is None:
            return
        losses = self._algorithm.population[1]
        finite = losses[np.isfinite(losses)]
        spread = float(finite.max()) - float(finite.min()) if len(finite) else np.inf
        if self.generation == 1:
            self._initial_spread = spread
        self._spread = spread if len(finite) == len(losses) else np.inf

    def state_dict(self) -> dict[str, Any]:
        """Everything, at any moment: results may be outstanding and can be told after a reload.

        Returns
        -------
        dict
            Nested dicts, lists, scalars and arrays; nothing in it changes when the optimizer goes on.
        """
        made_by = {"version": STATE_VERSION, "optimizer": self.name, "config": self._described_config()}
        return made_by | super().state_dict()

    def _described_config(self) -> dict[str, Any]:
        """What a state must have been made with, as plain values."""
        return dict(plain(self._config))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` describes.

        ``budget`` and ``seconds`` may be others than in the state, so that a finished run can be continued.

        Raises
        ------
        ValueError
            If the state was made by another algorithm, configuration or version, or spent more than the budget here;
            the message names what differs.
        """
        require_own_state(state, self.name)
        require_same_config(state["config"], self._described_config(), but=("budget", "seconds"))
        spent = int(state["ledger"]["asked"]) + int(state["ledger"]["foreign"])
        self._require_affordable(spent, state["config"]["budget"])
        self._begin(replace(self._problem, popsize=int(state["popsize"])))
        super().load_state_dict(state)
