"""Differential evolution as a stage of the portfolio."""

from __future__ import annotations

from evoprompt.optim.de.loop import Evolution, make_evolution
from evoprompt.optim.de.papers.shade import SHADE
from evoprompt.optim.engine.algorithm import Made, Results, Selection
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["Exploration"]


class Exploration(Stateful):
    """A run of SHADE, as long as it has evaluations.

    Parameters
    ----------
    box : Box
    streams : TrialStreams
    run : int
        Each run has random numbers of its own.
    members : int
        In the beginning.
    evaluations : int
        When they are spent, it is over.
    """

    kind: str = "de"
    run: int
    members: int
    evaluations: int
    _evolution: Evolution

    def __init__(self, box: Box, streams: TrialStreams, run: int, members: int, evaluations: int) -> None:
        self.run, self.members, self.evaluations = run, members, evaluations
        self._evolution = make_evolution(SHADE, box, streams=streams.child(run), popsize=members, cr=0.9)

    @property
    def size(self) -> int:
        return self._evolution.size

    @property
    def population(self) -> tuple[Floats, Doubles]:
        return self._evolution.population

    def make(self, ids: Indices, slots: Indices) -> Made:
        return self._evolution.make(ids, slots)

    def select(self, results: Results) -> Selection:
        return self._evolution.select(results)

    def end_generation(self, used: int) -> None:
        """Go on, with so many of the evaluations spent."""
        self._evolution.end_generation(min(1.0, used / self.evaluations))
