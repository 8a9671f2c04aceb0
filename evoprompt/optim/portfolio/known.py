"""What the portfolio knows of a run, whichever stage is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Doubles, Floats

__all__ = ["NOTHING", "Beliefs", "Leader", "Reached", "Sample", "Spending", "Trusted"]

Reached = tuple[float, float]
"""Violation and loss of the best point."""

NOTHING: Reached = (np.inf, np.inf)


class Sample(NamedTuple):
    """Points (n, d) and their losses (n,)."""

    x: Floats
    loss: Doubles

    @classmethod
    def joined(cls, parts: Sequence[Sample]) -> Sample:
        """Several samples as one."""
        return cls(np.concatenate([part.x for part in parts]), np.concatenate([part.loss for part in parts]))


class Leader(NamedTuple):
    """The best point so far."""

    violation: float
    loss: float
    id: int
    x: Floats
    """As a row (1, d); (0, d) while there is none."""

    @property
    def reached(self) -> Reached:
        return self.violation, self.loss


class Trusted(NamedTuple):
    """A distribution's mean, and what it is worth if losses are noisy."""

    worth: float
    x: Floats | None


_NO_MEAN = Trusted(np.inf, None)


@dataclass(eq=False)
class Spending(Stateful):
    """Evaluations, and what they brought."""

    told: int = 0
    """Of all stages."""
    before: int = 0
    """Those told when the stage under way began."""
    reached: Reached = NOTHING
    """By the stage under way."""

    @property
    def used(self) -> int:
        """Evaluations of the stage under way."""
        return self.told - self.before

    def begin(self) -> None:
        """Another stage is under way."""
        self.before, self.reached = self.told, NOTHING


@dataclass(eq=False)
class Beliefs(Stateful):
    """What kind of problem it seems to be, and where to start."""

    noisy: bool
    lines: bool
    """Whether line searches may be tried."""
    start: Floats
    """The best point (1, d) of the opening or of the line searches after it."""
    fresh: bool = True
    """Whether that is worth starting from: not when lines from there are exhausted."""
    former: Trusted = _NO_MEAN
    """The best mean of earlier distributions."""
