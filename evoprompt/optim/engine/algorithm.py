"""The border between the engine, which keeps the accounts, and the searches, which decide where to look.

The engine numbers trials, keeps budgets, collects results in any order and closes generations; a
:class:`Search` makes points and learns from results. A generation has ``size`` slots, and each trial is made
for one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["GUEST", "Made", "Outcome", "Results", "Search"]

Floats = NDArray[np.floating[Any]]

GUEST = -1
"""The slot of a point that was told without having been asked."""


class Made(NamedTuple):
    """Points for n slots, and what the search wants to see again beside their results."""

    x: Floats
    """(n, d), inside the box; a new array."""
    tags: NDArray[np.float64]
    """(n, len(search.tags)), for example F and CR."""


class Results(NamedTuple):
    """What came back for n trials."""

    id: NDArray[np.int64]
    slot: NDArray[np.int64]
    """Slots (n,), or GUEST."""
    x: Floats
    """(n, d) as made."""
    loss: NDArray[np.float64]
    """(n,), inf where failed."""
    violation: NDArray[np.float64]
    """(n,), 0 where no constraint is violated."""
    tags: NDArray[np.float64]
    """(n, k) as made, NaN for guests."""


class Outcome(NamedTuple):
    """Who replaced whom, for n results."""

    replaced: NDArray[np.bool_]
    parent_id: NDArray[np.int64]
    """-1: nobody, or never asked."""
    parent_loss: NDArray[np.float64]
    """inf where the slot held nothing or a failure."""


class Search(Protocol):
    """Decides where trials go and learns from their results."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of what :class:`Made` carries for each trial."""
        ...

    @property
    def popsize(self) -> int:
        """Members in the beginning."""
        ...

    @property
    def size(self) -> int:
        """Slots of the generation being made; it may change in ``end_generation`` only."""
        ...

    def make(self, ids: NDArray[np.int64], slots: NDArray[np.int64]) -> Made:
        """Points for these slots, from what is known now. Random numbers depend on the ids alone."""
        ...

    def select(self, results: Results) -> Outcome:
        """Take results in: a whole generation in the order of slots, or whatever came if there is no barrier.

        Results of an earlier generation and guests may be among them.
        """
        ...

    def end_generation(self, progress: float) -> None:
        """Learn from what was selected since the last call; ``progress`` is the spent share of the budget, 0..1."""
        ...

    @property
    def population(self) -> tuple[Floats, NDArray[np.float64]]:
        """Members (m, d) and losses (m,), inf where failed or unknown; copies."""
        ...

    @property
    def recommendation(self) -> Floats | None:
        """The point to recommend where single losses cannot be trusted (noise), or None for the best one told."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
