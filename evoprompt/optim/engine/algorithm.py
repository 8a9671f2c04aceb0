"""The border between the engine, which keeps the accounts, and the algorithms, which decide where to look.

The engine numbers trials, keeps budgets, takes results in any order and closes generations; an
:class:`Algorithm` makes points and learns from results. A generation has ``size`` slots, and each trial is made
for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["GUEST", "Algorithm", "Made", "MakeAlgorithm", "Problem", "Results", "Selection"]

GUEST = -1
"""The slot of a point that was told without having been asked."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What an algorithm is to search, and what it may plan by."""

    box: Box
    streams: TrialStreams
    """Where its random numbers come from."""
    budget: int | None = None
    popsize: int | None = None
    """Members in the beginning; None leaves it to the algorithm."""
    x0: Floats | None = None
    """Points evaluated first, (m, d)."""
    noise: str | float | None = None
    """Losses are noisy, with this standard deviation or ("auto") an unknown one."""
    constrained: bool = False
    """Results may violate constraints."""
    integrality: Bools | None = None
    """Which coordinates are rounded before they are evaluated, (d,)."""


class Made(NamedTuple):
    """Points for n slots, and what the algorithm wants to see again beside their results."""

    x: Floats
    """(n, d), inside the box; a new array."""
    tags: Doubles
    """(n, len(algorithm.tags)), for example F and CR."""
    stage: Indices | int
    """Which of the algorithm's ``stages`` made each point, (n,), or one number for all."""


class Results(NamedTuple):
    """What came back for n trials."""

    id: Indices
    slot: Indices
    """Slots (n,), or GUEST."""
    x: Floats
    """(n, d) as made."""
    loss: Doubles
    """(n,), inf where failed."""
    violation: Doubles
    """(n,), 0 where no constraint is violated."""
    tags: Doubles
    """(n, k) as made, NaN for guests."""


class Selection(NamedTuple):
    """Who replaced whom, for n results."""

    replaced: Bools
    parent_id: Indices
    """-1: nobody, or never asked."""
    parent_loss: Doubles
    """inf where the slot held nothing or a failure."""


class Algorithm(Protocol):
    """Decides where trials go and learns from their results."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of what :class:`Made` carries for each trial."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the ways points are made; the first is that of starting points."""

    @property
    def popsize(self) -> int:
        """Members in the beginning."""

    @property
    def size(self) -> int:
        """Slots of the generation being made; it may change in ``end_generation`` only."""

    @property
    def replaceable(self) -> int:
        """How many of the first generation's last slots may hold known points instead of starting points."""

    def make(self, ids: Indices, slots: Indices) -> Made:
        """Points for these slots, from what is known now. Random numbers depend on the ids alone."""

    def select(self, results: Results) -> Selection:
        """Take results in: a whole generation in the order of slots, or whatever came if there is no barrier.

        No two are for one slot. Results of an earlier generation and guests may be among them.
        """

    def end_generation(self, progress: float) -> None:
        """Learn from what was selected since the last call; ``progress`` is the spent share of the budget, 0..1."""

    @property
    def population(self) -> tuple[Floats, Doubles]:
        """Members (m, d) and losses (m,), inf where failed or unknown; copies."""

    @property
    def recommendation(self) -> Floats | None:
        """The point to recommend where single losses cannot be trusted (noise), or None for the best one told."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


MakeAlgorithm = Callable[[Problem], Algorithm]
