"""Optimizers that take an option or a call for what they cannot do, and get it wrong."""

from __future__ import annotations

import numpy as np
from broken_optimizers import Faithful

from evoprompt.optim import Trials
from evoprompt.optim.adapters.scipy_de import ScipyDE


class ChoosesItsPopulation(Faithful):
    def __init__(self, bounds, *, popsize=None, **options):
        super().__init__(bounds, popsize=8, **options)


class TakesNoBoundForZero(Faithful):
    def __init__(self, bounds, **options):
        super().__init__([(low or 0.0, high or 0.0) for low, high in bounds], **options)


class NeedsTwoCoordinates(Faithful):
    def __init__(self, bounds, **options):
        if len(bounds) < 2:
            raise ValueError(f"at least 2 coordinates are needed, got {len(bounds)}")
        super().__init__(bounds, **options)


class IgnoresIntegrality(Faithful):
    def __init__(self, bounds, *, integrality=None, **options):
        super().__init__(bounds, **options)


class IgnoresViolations(Faithful):
    def tell(self, trials, losses, violation=None):
        self.inner.tell(trials, losses)


class IgnoresNoise(Faithful):
    def __init__(self, bounds, *, noise=None, **options):
        super().__init__(bounds, **options)


class RefusesAtLength(Faithful):
    def __init__(self, bounds, *, noise=None, **options):
        if noise is not None:
            raise ValueError("noise is not supported.\nRead the manual.\n")
        super().__init__(bounds, **options)


class IgnoresItsDeadline(Faithful):
    def __init__(self, bounds, *, seconds=None, **options):
        super().__init__(bounds, **options)


class CountsTimeFromItsStart(Faithful):
    """Forgets the time spent before a reload."""

    def load_state_dict(self, state):
        self.inner.load_state_dict({**state, "ledger": {**state["ledger"], "watch": {"elapsed": 0.0}}})


class HasABarrier(Faithful):
    outstanding = 0

    def ask(self, n=None):
        trials = self.inner.ask(0 if self.outstanding else n)
        self.outstanding += len(trials)
        return trials

    def tell(self, trials, losses, violation=None):
        self.inner.tell(trials, losses, violation)
        self.outstanding -= len(trials) if isinstance(trials, Trials) else 0


class CountsItsWarmStart(Faithful):
    def warm_start(self, x, losses):
        self.inner.tell(x, losses)


class ClipsGuests(Faithful):
    def __init__(self, bounds, **options):
        super().__init__(bounds, **options)
        self.low, self.high = np.array(bounds, dtype=float).T

    def tell(self, trials, losses, violation=None):
        if not isinstance(trials, Trials):
            trials = np.clip(trials, self.low, self.high)
        self.inner.tell(trials, losses, violation)


class Unimpressed(ScipyDE):
    """scipy's engine cannot take in points that it did not propose."""
