"""Uniform random search."""

from __future__ import annotations

import numpy as np

from benchmarks.counting import Counted

__all__ = ["start"]


def start(objective: Counted, seed: int, argument: str) -> None:
    """Points from the box until the budget ends."""
    rng = np.random.default_rng(seed)
    while True:
        objective.batch(rng.uniform(objective.low, objective.high, (64, objective.d)))
