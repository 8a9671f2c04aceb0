"""The algorithm of the portfolio: it finds out what kind of problem it has, and gives the budget to what works."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from evoprompt.optim.engine.algorithm import Made, Problem, Results, Selection
from evoprompt.optim.engine.rng import Purpose
from evoprompt.optim.engine.starting import MINIMUM, checked_popsize, default_popsize
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.optim.portfolio.gaussian import Sampling
from evoprompt.optim.portfolio.known import Beliefs, Leader, Sample, Spending, Trusted
from evoprompt.optim.portfolio.lines import LineStage
from evoprompt.optim.portfolio.opening import Opening
from evoprompt.optim.portfolio.turns import Contest, Exploration, Restarts
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["StagedAlgorithm"]

_SIGMA = 0.2
_INTEGER_DEVIATION = 0.3  # one sample in ten goes to another integer


class StagedAlgorithm(Stateful):
    """Opening, line searches, learnt distributions and differential evolution, one after the other.

    Each time a distribution has converged, differential evolution and larger distributions take turns. Where the budget
    is too small for that, both begin with a part of it and the better one gets the rest: many coordinates and losses
    with kinks, as survey distances have, favour a small population of differential evolution by far.

    Parameters
    ----------
    problem : Problem
        Its popsize is that of the first distribution; by default 4 + 3 ln d, less for small budgets. The search
        starts from the best of x0. Noise "auto" evaluates one starting point three times to find out; where losses
        are noisy, whatever relies on single ones is left out, and the mean of a distribution is recommended.
    """

    tags: ClassVar[tuple[str, ...]] = ("f", "cr")
    stages: ClassVar[tuple[str, ...]] = ("opening", "lines", "gaussian", "de")

    _stage: Opening | LineStage | Sampling | Exploration
    _spending: Spending
    _leader: Leader
    _opening: Sample
    """All that was evaluated during the opening."""
    _members: Sample
    """What a user sees as the population: the points of the last generation."""
    _arrived: list[Sample]
    """Of the generation under way."""
    _beliefs: Beliefs
    _contest: Contest
    _restarts: Restarts

    def __init__(self, problem: Problem) -> None:
        box, streams, budget, popsize = problem.box, problem.streams, problem.budget, problem.popsize
        noise, integrality = problem.noise, problem.integrality
        self._box, self._streams, self._budget = box, streams, budget
        self._space = UnitSpace(box)
        noisy = noise is not None and noise not in ("auto", 0)
        self._repeats = 2 if noise == "auto" else 0
        if popsize is None:
            popsize = min(4 + int(3 * math.log(max(1, self._space.d))), 2 * default_popsize(budget))
            popsize = max(MINIMUM, popsize if budget is None else min(popsize, budget))
        self.popsize = checked_popsize(popsize, budget)
        rounded = integrality is not None and bool(integrality.any())
        least = np.zeros(box.d) if integrality is None else np.where(integrality, _INTEGER_DEVIATION, 0.0)
        self._least = self._space.lengths(least) if rounded else None
        lines = self._space.closed and not (noisy or problem.constrained or rounded)
        lines = lines and (budget is None or budget >= 12 * box.d + 50)
        test = lines and self._space.d > 1
        self._stage = Opening(box, self._space, streams, self.popsize, problem.x0, test=test, repeats=self._repeats)
        nothing = Sample(np.empty((0, box.d), box.dtype), np.empty(0))
        self._spending, self._leader = Spending(), Leader(np.inf, np.inf, -1, nothing.x)
        self._opening, self._members, self._arrived = nothing, nothing, []
        self._beliefs = Beliefs(noisy, lines, nothing.x)
        self._contest, self._restarts = Contest(), Restarts()

    @property
    def size(self) -> int:
        return self._stage.size

    @property
    def replaceable(self) -> int:
        """How many of the first generation's last slots may hold known points instead."""
        return self._stage.free if isinstance(self._stage, Opening) and not self._repeats else 0

    @property
    def population(self) -> tuple[Floats, Doubles]:
        if isinstance(self._stage, Exploration):
            return self._stage.population
        return Sample.joined([self._members] if len(self._members.x) else [self._members, *self._arrived])

    @property
    def recommendation(self) -> Floats | None:
        if not self._beliefs.noisy:
            return None
        former = self._beliefs.former
        if isinstance(self._stage, Sampling) and self._stage.typical < former.worth:
            return self._stage.recommended
        return None if former.x is None else former.x.copy()

    def make(self, ids: Indices, slots: Indices) -> Made:
        stage = self.stages.index(self._stage.kind)
        if isinstance(self._stage, Exploration):
            return self._stage.make(ids, slots)._replace(stage=stage)
        return Made(self._stage.make(ids, slots), np.full((len(ids), len(self.tags)), np.nan), stage)

    def select(self, results: Results) -> Selection:
        """Pass results to the stage; a trial's parent is the best point before it."""
        selection = self._led(results)
        if isinstance(self._stage, Exploration):
            return self._stage.select(results)
        self._stage.select(results)
        if isinstance(self._stage, Opening):
            feasible = Sample(results.x, np.where(results.violation > 0, np.inf, results.loss))
            self._opening = Sample.joined([self._opening, feasible])
        own = results.id >= 0
        self._arrived.append(Sample(results.x[own], results.loss[own]))
        return selection

    def _led(self, results: Results) -> Selection:
        """Count results, and say which of them took the lead from which point."""
        n = len(results.id)
        self._spending.told += n
        replaced, parent_id, parent_loss = np.zeros(n, dtype=bool), np.empty(n, dtype=np.int64), np.empty(n)
        keys = zip(results.violation.tolist(), results.loss.tolist(), results.id.tolist(), strict=True)
        for k, (violation, loss, trial) in enumerate(keys):
            parent_id[k], parent_loss[k] = self._leader.id, self._leader.loss
            if np.isfinite(loss):
                self._spending.reached = min(self._spending.reached, (violation, loss))
                if (violation, loss) < self._leader.reached:
                    self._leader = Leader(violation, loss, trial, results.x[k : k + 1].copy())
                    replaced[k] = True
        return Selection(replaced, parent_id, parent_loss)

    def end_generation(self, progress: float) -> None:
        used = self._spending.used
        if self._arrived:
            self._members, self._arrived = Sample.joined(self._arrived), []
        if isinstance(self._stage, Exploration):
            self._stage.end_generation(used / self._stage.evaluations)
            over = used >= self._stage.evaluations
        else:
            self._stage.end_generation()
            over = self._stage.over or (self._contest.turn == "gaussian" and used >= self._contest.part)
        if over and self._space.d:
            self._advance()

    def _advance(self) -> None:
        """Begin the next stage."""
        stage, used = self._stage, self._spending.used
        if self._contest.turn == "gaussian" and isinstance(stage, Sampling):
            going_on = self._contest.settle(self._spending.reached)
            if going_on is not None:
                going_on.evaluations = self._budget or 0  # the rest, whatever it is
                self._begin(going_on)
            if going_on is not None or not stage.over:
                return
        self._restarts.count(stage.kind, used)
        self._learn_from(stage)
        first = self._restarts.runs == 0
        contested = first and self._beliefs.fresh and not self._beliefs.noisy
        if isinstance(stage, Opening) and self._beliefs.lines and (self._space.d == 1 or stage.separable):
            z = self._space.unit(self._leader.x)[0]
            self._begin(LineStage(self._space, z, self._leader.loss, max(self.popsize, 64)))
        elif self._contest.turn == "de" and isinstance(stage, Exploration):
            self._contest.hand_over(self._spending.reached, stage)
            self._begin(self._distribution(first=True))
        elif contested and (part := Contest.share(self._budget, self._space.d)):
            exploration = self._exploration(part, default_popsize(self._budget))
            self._contest.begin(exploration.evaluations)
            self._begin(exploration)
        elif first or self._beliefs.noisy or self._restarts.gaussian_is_due:
            self._begin(self._distribution(first))
        else:
            self._begin(self._exploration(max(used, 40 * self._space.d)))

    def _begin(self, stage: LineStage | Sampling | Exploration) -> None:
        self._stage = stage
        self._spending.begin()

    def _learn_from(self, stage: Opening | LineStage | Sampling | Exploration) -> None:
        """What the stage that has ended says about the problem and about where to start."""
        beliefs = self._beliefs
        if isinstance(stage, Opening):
            beliefs.start = self._leader.x
            beliefs.noisy |= self._repeats > 0 and stage.noisy
            beliefs.lines &= not beliefs.noisy
        elif isinstance(stage, LineStage):
            beliefs.fresh = stage.misfit
            beliefs.start = self._leader.x if beliefs.fresh else beliefs.start
        elif isinstance(stage, Sampling) and stage.typical < beliefs.former.worth:
            beliefs.former = Trusted(stage.typical, stage.recommended)

    def _distribution(self, first: bool) -> Sampling:
        self._restarts.runs += 1
        size = self.popsize
        if first and self._beliefs.fresh:
            mean = self._space.unit(self._beliefs.start)[0]
        else:
            u = self._streams.of(self._restarts.runs, Purpose.RESTART).random((1, self._box.d))
            mean = self._space.unit(self._box.from_unit(u))[0]
            self._restarts.larger += not first
            size = self.popsize * 2**self._restarts.larger
        stage = self._sampling(mean, size, modelled=not self._beliefs.noisy and self._least is None)
        if first:
            stage.know(*self._opening)
        return stage

    def _sampling(self, mean: Doubles, size: int, *, modelled: bool) -> Sampling:
        return Sampling(self._space, self._streams, mean, _SIGMA, size, modelled=modelled, least=self._least)

    def _exploration(self, evaluations: int, beginners: int | None = None) -> Exploration:
        self._restarts.runs += 1
        if self._budget is not None:
            evaluations = max(1, min(evaluations, self._budget - self._spending.told))
        beginners = max(MINIMUM, default_popsize(evaluations) if beginners is None else beginners)
        return Exploration(self._box, self._streams, self._restarts.runs, beginners, evaluations)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        waiting = state["contest"]["waiting"]
        self._contest.waiting = None if waiting is None else self._blank(waiting)
        self._stage = self._blank(state["stage"])
        super().load_state_dict(state)

    def _blank(self, state: Mapping[str, Any]) -> Any:
        """A stage of the kind that a state is of, to be filled."""
        if state["kind"] == "lines":
            return LineStage(self._space, np.zeros(self._space.d), 0.0, 1)
        if state["kind"] == "gaussian":
            return self._sampling(np.zeros(self._space.d), state["size"], modelled=state["model"] is not None)
        if state["kind"] == "de":
            return Exploration(self._box, self._streams, state["run"], state["beginners"], state["evaluations"])
        return self._stage
