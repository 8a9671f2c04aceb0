"""Differential evolution as a stage, and who has the next part of the budget."""

from __future__ import annotations

from dataclasses import dataclass

from evoprompt.optim.de.loop import Evolution
from evoprompt.optim.de.papers.shade import SHADE
from evoprompt.optim.engine.algorithm import Problem
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.starting import default_popsize
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.portfolio.known import NOTHING, Reached

__all__ = ["Contest", "Exploration", "Restarts"]

_BELOW = 100  # evaluations per coordinate
_SHARE = 0.15  # of the budget, for each contestant


class Exploration(Evolution):
    """A run of SHADE, as long as it has evaluations."""

    kind: str = "de"
    run: int
    """Each has random numbers of its own."""
    beginners: int
    """Members in the beginning."""
    evaluations: int
    """When they are spent, it is over."""

    def __init__(self, box: Box, streams: TrialStreams, run: int, beginners: int, evaluations: int) -> None:
        super().__init__(SHADE, Problem(box, streams.child(run), popsize=beginners), cr=0.9)
        self.run, self.beginners, self.evaluations = run, beginners, evaluations


@dataclass(eq=False)
class Contest(Stateful):
    """Differential evolution and a distribution, each on a part of the budget; the better one gets the rest."""

    turn: str = ""
    """Whose part it is: "de" first, then "gaussian"; "" without a contest."""
    part: int = 0
    """Evaluations of each."""
    rival: Reached = NOTHING
    """What differential evolution reached."""
    waiting: Exploration | None = None
    """It, meanwhile."""

    @staticmethod
    def share(budget: int | None, d: int) -> int | None:
        """Evaluations for each, where the budget is too small for turns and large enough to tell them apart."""
        part = 0 if budget is None else int(_SHARE * budget)
        worth = budget is not None and budget < _BELOW * d and part >= 5 * default_popsize(budget)
        return part if worth else None

    def begin(self, part: int) -> None:
        """Differential evolution has its part first."""
        self.turn, self.part = "de", part

    def hand_over(self, reached: Reached, explored: Exploration) -> None:
        """Differential evolution has had its part."""
        self.turn, self.rival, self.waiting = "gaussian", reached, explored

    def settle(self, reached: Reached) -> Exploration | None:
        """End it: differential evolution if that goes on, None if the distribution does."""
        waiting = None if reached <= self.rival else self.waiting
        self.turn, self.waiting = "", None
        return waiting


@dataclass(eq=False)
class Restarts(Stateful):
    """Larger distributions and differential evolution take turns (N. Hansen's BIPOP-CMA-ES, GECCO 2009)."""

    runs: int = 0
    """Begun so far, of both kinds."""
    larger: int = 0
    """How often the distribution's generations were doubled."""
    gaussian: int = 0
    """Evaluations since the first run."""
    de: int = 0
    """Likewise."""

    def count(self, stage: str, used: int) -> None:
        """A stage has ended; those of the first run count for nobody."""
        if self.runs > 1 and stage in ("gaussian", "de"):
            setattr(self, stage, getattr(self, stage) + used)

    @property
    def gaussian_is_due(self) -> bool:
        """Whether it is the distribution's turn: it has had no more evaluations."""
        return self.gaussian <= self.de
