"""What every optimizer can tell of its accounts."""

from __future__ import annotations

import numpy as np

from evoprompt.optim.engine.ledger import Ledger
from evoprompt.optim.protocol import Best, Trials

__all__ = ["Accounts"]


class Accounts:
    """An optimizer that keeps a ledger, and what that says: budget, time, counts and the best evaluation."""

    _ledger: Ledger

    @property
    def budget(self) -> int | None:
        """Most evaluations that will ever be handed out."""
        return self._ledger.budget

    @property
    def seconds(self) -> float | None:
        """The limit of wall-clock time in seconds, or None."""
        return self._ledger.seconds

    @property
    def elapsed(self) -> float:
        """Seconds at the last ask or tell; kept with a time limit only."""
        return self._ledger.watch.elapsed

    @property
    def asked(self) -> int:
        """Trials handed out."""
        return self._ledger.asked

    @property
    def evaluations(self) -> int:
        """Evaluations told, failed ones included."""
        return self._ledger.evaluations

    @property
    def failed(self) -> int:
        """Evaluations told whose loss was not finite."""
        return self._ledger.failed

    @property
    def outstanding(self) -> Trials:
        """Trials handed out and not told yet; after a reload they can be evaluated again."""
        blocks = self._ledger.blocks.values()
        nothing = np.empty((0, self._ledger.d), self._ledger.dtype)
        return Trials(self._ledger.outstanding, np.concatenate([nothing, *(b.x[b.pending] for b in blocks)]))

    @property
    def best(self) -> Best | None:
        """The best finite evaluation so far; among those that violate constraints least, the one of least loss."""
        return self._ledger.best

    @property
    def best_violation(self) -> float:
        """By how much ``best`` violates constraints: 0 if not at all, inf while nothing is known."""
        return self._ledger.best_violation
