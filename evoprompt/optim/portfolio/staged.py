"""The algorithm of the portfolio: it finds out what kind of problem it has, and shares the budget between what works.

An opening tests whether the loss is a sum over coordinates; if so, every coordinate gets a global line search.
Otherwise, and afterwards, a normal distribution learns where good points lie and along which directions
(covariance-guided moves), helped by a quadratic model while the model ranks new points well. Each time that
has converged, differential evolution with success history and larger distributions take turns, whichever has
had fewer evaluations (after N. Hansen's BIPOP-CMA-ES, GECCO 2009). Where the budget is too small for turns,
both begin with a part of it and the better one gets the rest: many coordinates and losses with kinks, as
survey distances have, favour a small population of differential evolution by far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from evoprompt.optim.de.loop import Evolution, make_evolution
from evoprompt.optim.de.papers.shade import SHADE
from evoprompt.optim.engine.algorithm import Made, Results, Selection
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.starting import MINIMUM, checked_popsize, default_popsize
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.optim.portfolio.gaussian import Sampling
from evoprompt.optim.portfolio.lines import LineStage
from evoprompt.optim.portfolio.opening import Opening
from evoprompt.optim.portfolio.turns import Contest, Reached, Restarts
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["StagedAlgorithm"]

_SIGMA = 0.2
_INTEGER_DEVIATION = 0.3  # one sample in ten goes to another integer
_NOTHING = (np.inf, np.inf)


class Trusted(NamedTuple):
    """A distribution's mean, and what it is worth if losses are noisy."""

    worth: float
    x: Floats | None


class Explorer(NamedTuple):
    """A run of differential evolution: its number, and its members in the beginning."""

    run: int
    members: int


class StagedAlgorithm(Stateful):
    """Opening, line searches, learnt distributions and differential evolution, one after the other.

    Parameters
    ----------
    box : Box
    streams : TrialStreams
    budget : int or None
    popsize : int, optional
        Points in the generations of the first distribution; by default 4 + 3 ln d, less for small budgets.
    x0 : ndarray, shape (m, d), optional
        Points evaluated first; the search starts from the best of them.
    noise : None, "auto" or float
        "auto" evaluates one starting point three times to find out. Where losses are noisy, whatever relies on
        single ones is left out, and the mean of a distribution is recommended.
    constrained : bool
        Whether results may violate constraints.
    integrality : ndarray of bool, shape (d,), optional
        Which coordinates are rounded before they are evaluated.
    """

    tags: ClassVar[tuple[str, ...]] = ("f", "cr")
    stages: ClassVar[tuple[str, ...]] = ("opening", "lines", "gaussian", "de")

    _kind: str
    """The name of the stage under way."""
    _best: tuple[float, float, int]
    """Violation, loss and id of the best point; ``_best_x`` is the point, as a row."""
    _best_x: Floats
    _opening_x: Floats
    _opening_loss: Doubles
    _members_x: Floats
    _members_loss: Doubles
    _arrived: list[tuple[Floats, Doubles]]
    """Of this generation, members when it ends."""
    _lines_allowed: bool
    _noisy: bool
    _told: int
    _stage_start: int
    _slice: int
    """Evaluations of a stage that has a limit."""
    _stage_best: Reached
    _contest: Contest
    _restarts: Restarts
    _start: Floats
    """The best point of the opening, as a row."""
    _fresh: bool
    """Whether the start is worth starting from: not when lines from there are exhausted."""
    _explorer: Explorer
    _former: Trusted
    """The best mean of earlier distributions."""

    def __init__(
        self,
        box: Box,
        *,
        streams: TrialStreams,
        budget: int | None = None,
        popsize: int | None = None,
        x0: Floats | None = None,
        noise: str | float | None = None,
        constrained: bool = False,
        integrality: Bools | None = None,
    ) -> None:
        self._box, self._streams, self._budget = box, streams, budget
        self._space = UnitSpace(box)
        self._noisy = noise is not None and noise not in ("auto", 0)
        self._repeats = 2 if noise == "auto" else 0
        if popsize is None:
            popsize = min(4 + int(3 * math.log(max(1, self._space.d))), 2 * default_popsize(budget))
            popsize = max(MINIMUM, popsize if budget is None else min(popsize, budget))
        self.popsize = checked_popsize(popsize, budget)
        rounded = integrality is not None and bool(integrality.any())
        least = np.zeros(box.d) if integrality is None else np.where(integrality, _INTEGER_DEVIATION, 0.0)
        self._least = self._space.lengths(least) if rounded else None
        lines = self._space.closed and not (self._noisy or constrained or rounded)
        self._lines_allowed = lines and (budget is None or budget >= 12 * box.d + 50)
        self._stage: Any = Opening(
            box,
            self._space,
            streams,
            self.popsize,
            x0,
            test=self._lines_allowed and self._space.d > 1,
            repeats=self._repeats,
        )
        self._kind = "opening"
        nothing = np.empty((0, box.d), box.dtype)
        self._best, self._best_x = (np.inf, np.inf, -1), nothing
        self._opening_x, self._opening_loss = nothing, np.empty(0)
        self._members_x, self._members_loss = nothing, np.empty(0)
        self._arrived = []
        self._told = self._stage_start = self._slice = 0
        self._contest, self._restarts = Contest(), Restarts()
        self._stage_best = _NOTHING
        self._start, self._fresh = nothing, True
        self._explorer, self._former = Explorer(0, 0), Trusted(np.inf, None)

    @property
    def size(self) -> int:
        return int(self._stage.size)

    @property
    def replaceable(self) -> int:
        """How many of the first generation's last slots may hold known points instead."""
        return int(self._stage.free) if self._kind == "opening" and not self._repeats else 0

    @property
    def population(self) -> tuple[Floats, Doubles]:
        if self._kind == "de":
            members: tuple[Floats, Doubles] = self._stage.population
            return members
        if not len(self._members_x):
            return self._arrivals()
        return self._members_x.copy(), self._members_loss.copy()

    def _arrivals(self) -> tuple[Floats, Doubles]:
        x = [self._members_x[:0], *(part for part, _ in self._arrived)]
        return np.concatenate(x), np.concatenate([np.empty(0), *(losses for _, losses in self._arrived)])

    @property
    def recommendation(self) -> Floats | None:
        if not self._noisy:
            return None
        if self._kind == "gaussian" and self._stage.typical < self._former.worth:
            return self._centre()
        return None if self._former.x is None else self._former.x.copy()

    def _centre(self) -> Floats:
        mean: Floats = self._space.point(self._space.clipped(self._stage.centre)[None])[0]
        return mean

    def make(self, ids: Indices, slots: Indices) -> Made:
        stage = self.stages.index(self._kind)
        if self._kind == "de":
            made: Made = self._stage.make(ids, slots)
            return made._replace(stage=stage)
        return Made(self._stage.make(ids, slots), np.full((len(ids), len(self.tags)), np.nan), stage)

    def select(self, results: Results) -> Selection:
        """Pass results to the stage; a trial's parent is the best point before it."""
        self._told += len(results.id)
        n = len(results.id)
        replaced, parent_id = np.zeros(n, dtype=bool), np.empty(n, dtype=np.int64)
        parent_loss = np.empty(n)
        for k, key in enumerate(
            zip(results.violation.tolist(), results.loss.tolist(), results.id.tolist(), strict=True)
        ):
            parent_id[k], parent_loss[k] = self._best[2], self._best[1]
            if np.isfinite(key[1]):
                self._stage_best = min(self._stage_best, key[:2])
                if key[:2] < self._best[:2]:
                    self._best, self._best_x, replaced[k] = key, results.x[k : k + 1].copy(), True
        if self._kind == "de":
            selection: Selection = self._stage.select(results)
            return selection
        self._stage.select(results)
        if self._kind == "opening":
            self._opening_x = np.concatenate([self._opening_x, results.x])
            self._opening_loss = np.concatenate(
                [self._opening_loss, np.where(results.violation > 0, np.inf, results.loss)]
            )
        self._arrived.append((results.x[results.id >= 0], results.loss[results.id >= 0]))
        return Selection(replaced, parent_id, parent_loss)

    def end_generation(self, progress: float) -> None:
        used = self._told - self._stage_start
        if self._arrived:
            self._members_x, self._members_loss = self._arrivals()
            self._arrived = []
        if self._kind == "de":
            self._stage.end_generation(min(1.0, used / self._slice))
            over = used >= self._slice
        else:
            self._stage.end_generation()
            over = self._stage.over or (self._contest.turn == "gaussian" and used >= self._slice)
        if over and self._space.d:
            self._advance()

    def _advance(self) -> None:
        """Begin the next stage."""
        if self._contest.turn == "gaussian" and self._contest_is_settled():
            return
        used = self._told - self._stage_start
        self._restarts.count(self._kind, used)
        self._stage_start = self._told
        self._learn_from_stage()
        first = self._restarts.runs == 0
        if self._kind == "opening" and self._lines_allowed and (self._space.d == 1 or self._stage.separable):
            self._kind = "lines"
            z = self._space.unit(self._best_x)[0]
            self._stage = LineStage(self._space, z, self._best[1], max(self.popsize, 64))
        elif self._contest.turn == "de":
            self._contest.hand_over(self._stage_best, self._stage.state_dict())
            self._begin_gaussian(first=True)
        elif first and self._fresh and not self._noisy and (part := Contest.part(self._budget, self._space.d)):
            self._contest.turn = "de"
            self._begin_de(part)
        elif first or self._noisy or self._restarts.gaussian_is_due:
            self._begin_gaussian(first)
        else:
            self._begin_de(max(used, 40 * self._space.d))

    def _learn_from_stage(self) -> None:
        """What the stage that has ended says about the problem and about where to start."""
        if self._kind == "opening":
            self._start = self._best_x
            self._noisy |= self._repeats > 0 and self._stage.noisy
            self._lines_allowed &= not self._noisy
        elif self._kind == "lines":
            self._fresh = self._stage.misfit
            self._start = self._best_x if self._fresh else self._start
        elif self._kind == "gaussian" and self._stage.typical < self._former.worth:
            self._former = Trusted(self._stage.typical, self._centre())

    def _contest_is_settled(self) -> bool:
        """End the contest; whether the stage that should go on is there already."""
        waiting = self._contest.settle(self._stage_best)
        if waiting is None:
            return not self._stage.over
        self._kind, self._stage_start = "de", self._told
        self._slice = self._budget or 0  # the rest, whatever it is
        self._stage = self._evolution()
        self._stage.load_state_dict(waiting)
        return True

    def _begin_gaussian(self, first: bool) -> None:
        self._restarts.runs += 1
        size = self.popsize
        if first and self._fresh:
            mean = self._space.unit(self._start)[0]
        else:
            u = self._streams.of(self._restarts.runs, Purpose.RESTART).random((1, self._box.d))
            mean = self._space.unit(self._box.from_unit(u))[0]
            self._restarts.larger += not first
            size = self.popsize * 2**self._restarts.larger
        self._kind, self._stage_best = "gaussian", _NOTHING
        self._stage = self._sampling(mean, size, modelled=not self._noisy and self._least is None)
        if first:
            self._stage.know(self._opening_x, self._opening_loss)

    def _sampling(self, mean: Doubles, size: int, *, modelled: bool) -> Sampling:
        return Sampling(self._space, self._streams, mean, _SIGMA, size, modelled=modelled, least=self._least)

    def _begin_de(self, evaluations: int) -> None:
        self._restarts.runs += 1
        self._kind, self._stage_best = "de", _NOTHING
        self._slice = evaluations
        if self._budget is not None:
            self._slice = max(1, min(evaluations, self._budget - self._told))
        members = default_popsize(self._budget if self._contest.turn else self._slice)
        self._explorer = Explorer(self._restarts.runs, max(MINIMUM, members))
        self._stage = self._evolution()

    def _evolution(self) -> Evolution:
        run, members = self._explorer
        return make_evolution(SHADE, self._box, streams=self._streams.child(run), popsize=members, cr=0.9)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"stage": self._stage.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        stage = state["stage"]
        if self._kind == "lines":
            self._stage = LineStage(self._space, np.zeros(self._space.d), 0.0, 1)
        elif self._kind == "gaussian":
            self._stage = self._sampling(np.zeros(self._space.d), stage["size"], modelled=stage["model"] is not None)
        elif self._kind == "de":
            self._stage = self._evolution()
        self._stage.load_state_dict(stage)
