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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.de.loop import Evolution, make_evolution
from evoprompt.optim.de.papers.shade import SHADE
from evoprompt.optim.engine.algorithm import Made, Results, Selection
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.starting import MINIMUM, checked_popsize, default_popsize
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.optim.portfolio.gaussian import Sampling
from evoprompt.optim.portfolio.opening import LineStage, Opening

__all__ = ["StagedSearch"]

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

_SIGMA = 0.2
_INTEGER_DEVIATION = 0.3  # one sample in ten goes to another integer
_CONTEST_BELOW = 100  # evaluations per coordinate
_CONTEST_SHARE = 0.15  # of the budget, for each contestant


class StagedSearch:
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

    tags = ("f", "cr")
    stages = ("opening", "lines", "gaussian", "de")

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
        integrality: NDArray[np.bool_] | None = None,
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
        self._best_x = np.empty((0, box.d), box.dtype)  # as a row
        self._best = (np.inf, np.inf, -1)  # violation, loss, id
        self._opening_x, self._opening_loss = np.empty((0, box.d), box.dtype), np.empty(0)
        self._members_x, self._members_loss = np.empty((0, box.d), box.dtype), np.empty(0)
        self._arrived: list[tuple[Floats, Doubles]] = []  # of this generation, members when it ends
        self._told = self._stage_start = 0
        self._runs = self._larger = 0
        self._spent = {"gaussian": 0, "de": 0}
        self._slice = 0
        self._contest = 0  # 1: differential evolution has its part, 2: the distribution has, 0: no contest
        self._rival = (np.inf, np.inf)  # what differential evolution reached in the contest
        self._waiting: dict[str, Any] | None = None  # its state
        self._stage_best = (np.inf, np.inf)
        self._start = np.empty((0, box.d), box.dtype)  # the best point of the opening, as a row
        self._fresh = True  # whether the start is worth starting from: not when lines from there are exhausted
        self._explorer_run = self._explorer_size = 0
        self._former: tuple[float, Floats | None] = (
            np.inf,
            None,
        )  # the best mean of earlier distributions, and its worth

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
        if self._kind == "gaussian" and self._stage.typical < self._former[0]:
            return self._centre()
        return None if self._former[1] is None else self._former[1].copy()

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
            over = self._stage.over or (self._contest == 2 and used >= self._slice)
        if over and self._space.d:
            self._advance()

    def _advance(self) -> None:
        """Begin the next stage."""
        used = self._told - self._stage_start
        if self._contest == 2 and self._settle():
            return
        if self._kind in self._spent and self._runs > 1:
            self._spent[self._kind] += used
        self._stage_start = self._told
        if self._kind == "opening":
            self._start = self._best_x
            self._noisy |= self._repeats > 0 and self._stage.noisy
            self._lines_allowed &= not self._noisy
        elif self._kind == "gaussian" and self._stage.typical < self._former[0]:
            self._former = (self._stage.typical, self._centre())
        if self._kind == "opening" and self._lines_allowed and (self._space.d == 1 or self._stage.separable):
            self._kind = "lines"
            z = self._space.unit(self._best_x)[0]
            self._stage = LineStage(self._space, z, self._best[1], max(self.popsize, 64))
            return
        if self._contest == 1:
            self._rival, self._waiting = self._stage_best, self._stage.state_dict()
            self._contest = 2
            self._begin_sampling(first=True)
            return
        first = self._runs == 0
        if self._kind == "lines":
            self._fresh = self._stage.misfit
            self._start = self._best_x if self._fresh else self._start
        if first and self._fresh and self._worth_a_contest():
            self._contest = 1
            self._begin_evolution(self._slice)
        elif first or self._noisy or self._spent["gaussian"] <= self._spent["de"]:
            self._begin_sampling(first)
        else:
            self._begin_evolution(max(used, 40 * self._space.d))

    def _worth_a_contest(self) -> bool:
        """Whether the budget is too small to try one after the other, and large enough to tell them apart."""
        if self._budget is None or self._noisy:
            return False
        self._slice = int(_CONTEST_SHARE * self._budget)
        return self._budget < _CONTEST_BELOW * self._space.d and self._slice >= 5 * default_popsize(self._budget)

    def _settle(self) -> bool:
        """End the contest; whether the stage that should go on is there already."""
        self._contest = 0
        waiting, self._waiting = self._waiting, None
        if waiting is None or self._stage_best <= self._rival:
            return not self._stage.over
        self._kind, self._stage_start = "de", self._told
        self._slice = self._budget or 0  # the rest, whatever it is
        self._stage = self._explorer()
        self._stage.load_state_dict(waiting)
        return True

    def _begin_sampling(self, first: bool) -> None:
        self._runs += 1
        if first and self._fresh:
            mean = self._space.unit(self._start)[0]
            size = self.popsize
        else:
            u = self._streams.of(self._runs, Purpose.RESTART).random((1, self._box.d))
            mean = self._space.unit(self._box.from_unit(u))[0]
            self._larger += not first
            size = self.popsize * 2**self._larger
        self._kind, self._stage_best = "gaussian", (np.inf, np.inf)
        modelled = not self._noisy and self._least is None
        self._stage = Sampling(self._space, self._streams, mean, _SIGMA, size, modelled=modelled, least=self._least)
        if first:
            self._stage.know(self._opening_x, self._opening_loss)

    def _begin_evolution(self, evaluations: int) -> None:
        self._runs += 1
        self._kind, self._stage_best = "de", (np.inf, np.inf)
        self._slice = evaluations
        if self._budget is not None:
            self._slice = max(1, min(evaluations, self._budget - self._told))
        self._explorer_run = self._runs
        self._explorer_size = default_popsize(self._budget if self._contest else self._slice)
        self._stage = self._explorer()

    def _explorer(self) -> Evolution:
        streams = self._streams.child(self._explorer_run)
        return make_evolution(SHADE, self._box, streams=streams, popsize=max(MINIMUM, self._explorer_size), cr=0.9)

    def state_dict(self) -> dict[str, Any]:
        return {
            "kind": self._kind, "stage": self._stage.state_dict(), "best": list(self._best),
            "best_x": self._best_x.copy(),
            "opening_x": self._opening_x.copy(), "opening_loss": self._opening_loss.copy(),
            "arrived": [[x.copy(), losses.copy()] for x, losses in self._arrived],
            "lines_allowed": self._lines_allowed,
            "members_x": self._members_x.copy(), "members_loss": self._members_loss.copy(),
            "told": self._told, "stage_start": self._stage_start, "runs": self._runs, "larger": self._larger,
            "spent": dict(self._spent), "slice": self._slice, "noisy": self._noisy,
            "contest": self._contest, "rival": list(self._rival),
            "waiting": self._waiting, "stage_best": list(self._stage_best),
            "start": self._start.copy(), "fresh": self._fresh,
            "explorer": [self._explorer_run, self._explorer_size],
            "former": [self._former[0], None if self._former[1] is None else self._former[1].copy()],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        violation, loss, i = state["best"]
        self._best = (float(violation), float(loss), int(i))
        self._best_x = np.array(state["best_x"])
        self._opening_x, self._opening_loss = np.array(state["opening_x"]), np.array(state["opening_loss"])
        self._members_x, self._members_loss = np.array(state["members_x"]), np.array(state["members_loss"])
        self._arrived = [(np.array(x), np.array(losses)) for x, losses in state["arrived"]]
        self._lines_allowed = bool(state["lines_allowed"])
        self._told, self._stage_start = int(state["told"]), int(state["stage_start"])
        self._runs, self._larger = int(state["runs"]), int(state["larger"])
        self._spent = {kind: int(n) for kind, n in state["spent"].items()}
        self._slice = int(state["slice"])
        self._noisy = bool(state["noisy"])
        self._contest, self._waiting = int(state["contest"]), state["waiting"]
        self._rival = (float(state["rival"][0]), float(state["rival"][1]))
        self._stage_best = (float(state["stage_best"][0]), float(state["stage_best"][1]))
        self._start, self._fresh = np.array(state["start"]), bool(state["fresh"])
        self._explorer_run, self._explorer_size = (int(n) for n in state["explorer"])
        worth, x = state["former"]
        self._former = (float(worth), None if x is None else np.array(x))
        self._kind = state["kind"]
        if self._kind == "lines":
            self._stage = LineStage.from_state(self._space, state["stage"])
        elif self._kind == "gaussian":
            self._stage = Sampling.from_state(self._space, self._streams, state["stage"], self._least)
        else:
            if self._kind == "de":
                self._stage = self._explorer()
            self._stage.load_state_dict(state["stage"])
