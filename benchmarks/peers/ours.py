"""evoprompt's own optimizers, by ask and tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.counting import Counted
from evoprompt.optim import make_optimizer
from evoprompt.optim.methods import capabilities_of

__all__ = ["start"]


def start(objective: Counted, seed: int, argument: str) -> None:
    """Run ``make_optimizer(argument)`` until it says stop; told of noise where there is some."""
    options: dict[str, Any] = {"noise": "auto"} if objective.noisy and capabilities_of(argument).noise else {}
    optimizer: Any = make_optimizer(
        argument,
        bounds=np.column_stack([objective.low, objective.high]),
        budget=objective.left,
        seed=seed,
        dtype="float64" if objective.d < 4096 else "float32",
        **options,
    )
    if objective.noisy:
        objective.begin(lambda: None if optimizer.recommendation is None else optimizer.recommendation.x)
    while optimizer.should_stop() is None:
        trials = optimizer.ask()
        if len(trials) == 0:
            break
        optimizer.tell(trials, objective.batch(trials.x))
