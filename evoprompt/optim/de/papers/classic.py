"""The classic strategies (R. Storn, K. Price, "Differential evolution", J. Global Optimization 11 (1997) 341-359).

DE/x/y/z: which member a donor starts from, how many difference vectors are added, and how it is crossed. F = 0.5 and
CR = 0.9 are constant.
"""

from __future__ import annotations

from evoprompt.optim.de.variant import Variant

__all__ = ["CLASSIC"]

CLASSIC = [
    Variant(f"{mutation}/{crossover}", mutation, crossover, minimum=6 if mutation == "rand/2" else 4)
    for mutation in ("rand/1", "best/1", "current-to-best/1", "rand/2")
    for crossover in ("bin", "exp")
]
