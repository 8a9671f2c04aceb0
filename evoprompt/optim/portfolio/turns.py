"""Who has the next part of the budget: the contest of two searches, and the turns of restarts."""

from __future__ import annotations

from dataclasses import dataclass

from evoprompt.optim.engine.starting import default_popsize
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.portfolio.exploration import Exploration
from evoprompt.optim.portfolio.known import NOTHING, Reached

__all__ = ["Contest", "Restarts"]

_BELOW = 100  # evaluations per coordinate
_SHARE = 0.15  # of the budget, for each contestant


@dataclass(eq=False)
class Contest(Stateful):
    """Differential evolution and a distribution, each on a part of the budget; the better one gets the rest.

    Attributes
    ----------
    turn : str
        Whose part it is: "de" first, then "gaussian"; "" without a contest.
    part : int
        Evaluations of each.
    rival : tuple
        What differential evolution reached.
    waiting : Exploration, optional
        It, meanwhile.
    """

    turn: str = ""
    part: int = 0
    rival: Reached = NOTHING
    waiting: Exploration | None = None

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
    """Larger distributions and differential evolution take turns (N. Hansen's BIPOP-CMA-ES, GECCO 2009).

    Attributes
    ----------
    runs : int
        Begun so far, of both kinds.
    larger : int
        How often the distribution's generations were doubled.
    gaussian, de : int
        Evaluations that each has had since the first run.
    """

    runs: int = 0
    larger: int = 0
    gaussian: int = 0
    de: int = 0

    def count(self, stage: str, used: int) -> None:
        """A stage has ended; those of the first run count for nobody."""
        if self.runs > 1 and stage in ("gaussian", "de"):
            setattr(self, stage, getattr(self, stage) + used)

    @property
    def gaussian_is_due(self) -> bool:
        """Whether it is the distribution's turn: it has had no more evaluations."""
        return self.gaussian <= self.de
