"""The named variants of differential evolution, each a few lines: which parts, and the paper's own settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from evoprompt.optim.de.population import default_popsize
from evoprompt.optim.de.schedule import (
    Leaders,
    Schedule,
    Size,
    arrde_size,
    constant,
    fixed_share,
    linear,
    nearest,
    random_share,
    shrinking_share,
    truncated_linear,
)

__all__ = ["VARIANTS", "Variant", "customised", "variant_popsize"]

MOST_MEMBERS = 2000
LEAST_GENERATIONS = 4


@dataclass(frozen=True)
class Variant:
    """What a variant is made of.

    Attributes
    ----------
    name : str
    mutation : str
        A key of :data:`evoprompt.optim.de.mutation.STRATEGIES`.
    crossover : str
        "bin" or "exp".
    adaptation : str
        A key of :data:`evoprompt.optim.de.memory.ADAPTATIONS`.
    f, cr : float
        Scale factor and crossover rate: constant, or where adaptation begins.
    size : callable
        The paper's population size, from d and the budget.
    minimum : int
        Fewest members.
    schedule : callable
        How many members are left at which share of the budget.
    memory : int, optional
        Cells of the success history; None means as many as members.
    archive : float
        Archive capacity as a multiple of the population size; 0 means no archive. Where a population takes more
        than 8 MiB (100 members of 20 972 float32 coordinates, say), it is at most half the initial population
        unless the user asked for a size: the whole run then fits into four populations.
    overwrite : bool
        How a full archive makes room, see :class:`evoprompt.optim.de.archive.Archive`.
    leaders : callable
        How many best members count as p-best.
    weight : callable
        jSO's factor on the step towards p-best, from the share of the budget.
    ties : bool
        Whether an equal trial replaces its parent.
    repair : str
        What happens to coordinates outside the box if the user does not say.
    search : str
        Module and class that run it.
    """

    name: str
    mutation: str = "rand/1"
    crossover: str = "bin"
    adaptation: str = "fixed"
    f: float = 0.5
    cr: float = 0.9
    size: Size = lambda d, budget: default_popsize(budget)
    minimum: int = 4
    schedule: Schedule = constant
    memory: int | None = None
    archive: float = 0.0
    overwrite: bool = True
    leaders: Leaders = random_share
    weight: Callable[[float], float] = lambda progress: 1.0
    ties: bool = True
    repair: str = "midpoint"
    search: str = "evoprompt.optim.de.loop:Evolution"


def _jso_weight(progress: float) -> float:
    return 0.7 if progress < 0.2 else 0.8 if progress < 0.4 else 1.2


def _arrde_popsize(d: int, budget: int | None) -> float:
    """D (log10 (budget / D))^2.2, at least 2 D; without a budget as for 10 000 evaluations per coordinate."""
    per_coordinate = 10_000 if budget is None else max(budget / d, 1.0)
    return max(d * math.log10(per_coordinate) ** 2.2, 2 * d)


_CLASSIC = [
    Variant(f"{mutation}/{crossover}", mutation, crossover, minimum=6 if mutation == "rand/2" else 4)
    for mutation in ("rand/1", "best/1", "current-to-best/1", "rand/2")
    for crossover in ("bin", "exp")
]

# Brest et al. 2006: NP = 100, and only a better trial replaces its parent.
_JDE = Variant("jde", adaptation="jde", f=0.5, cr=0.9, size=lambda d, budget: 100, ties=False)

# Zhang & Sanderson 2009: NP = 30, 100, 400 up to 10, up to 30 and beyond 30 coordinates, p = 0.05, |A| <= NP.
_JADE = Variant(
    "jade", "current-to-pbest/1", adaptation="jade", cr=0.5, archive=1.0, overwrite=False, ties=False,
    size=lambda d, budget: 30 if d <= 10 else 100 if d <= 30 else 400, leaders=fixed_share(0.05),
)  # fmt: skip

# Tanabe & Fukunaga 2013: NP = H = |A| = 100.
_SHADE = Variant(
    "shade", "current-to-pbest/1", adaptation="shade", cr=0.5, archive=1.0, size=lambda d, budget: 100
)  # fmt: skip

# Tanabe & Fukunaga 2014, table I: N = 18 D, |A| = 2.6 N, p = 0.11, H = 6.
_LSHADE = Variant(
    "lshade", "current-to-pbest/1", adaptation="lshade", cr=0.5, archive=2.6, memory=6, schedule=linear,
    size=lambda d, budget: 18 * d, leaders=fixed_share(0.11),
)  # fmt: skip

# Brest, Maucec & Boskovic 2017: N = 25 log(D) sqrt(D), |A| = N, p from 0.25 to 0.125, H = 5. Their program also draws
# the p-best member again while it is the target in the first half of the run (iL-SHADE's rule); the paper does not
# have that, and neither has this.
_JSO = Variant(
    "jso", "current-to-pbest/1", adaptation="jso", f=0.3, cr=0.8, archive=1.0, memory=5, schedule=linear,
    size=lambda d, budget: 25 * math.log(d) * math.sqrt(d), leaders=shrinking_share(0.25), weight=_jso_weight,
)  # fmt: skip

# Stanovov & Semenkin 2024 and their program: N = 20 D, H = 5, M_CR = 1, points outside the box are drawn again.
_LSRTDE = Variant(
    "lsrtde", "newest-to-best/1", adaptation="lsrtde", cr=1.0, memory=5, schedule=truncated_linear,
    size=lambda d, budget: 20 * d, repair="resample", search="evoprompt.optim.de.papers.lsrtde:NewestEvolution",
)  # fmt: skip

# Muzakka et al. 2025 and their program: N from the budget per coordinate, the rest as in jSO.
_ARRDE = replace(
    _JSO, name="arrde", adaptation="arrde", size=_arrde_popsize, schedule=arrde_size, overwrite=False,
    search="evoprompt.optim.de.papers.arrde:RestartingEvolution",
)  # fmt: skip

VARIANTS: dict[str, Variant] = {
    spec.name: spec for spec in [*_CLASSIC, _JDE, _JADE, _SHADE, _LSHADE, _JSO, _LSRTDE, _ARRDE]
}
"""Every variant by its name."""


def variant_popsize(spec: Variant, d: int, budget: int | None) -> int:
    """The paper's population size, as far as the budget pays for it.

    At most a quarter of the budget, so that there are four generations at the least, and at most 2000 members;
    at least the variant's minimum.

    Examples
    --------
    >>> [variant_popsize(VARIANTS["lshade"], 20, budget) for budget in (None, 200_000, 1000, 10)]
    [360, 360, 250, 4]
    """
    most = MOST_MEMBERS if budget is None else min(MOST_MEMBERS, budget // LEAST_GENERATIONS)
    return max(spec.minimum, min(nearest(spec.size(d, budget)), most))


def customised(spec: Variant, **options: Any) -> Variant:
    """The variant with other settings.

    Parameters
    ----------
    spec : Variant
    **options
        ``f`` in [0, 2], ``cr`` in [0, 1], ``memory`` >= 1, ``archive`` >= 0 as a multiple of the population
        size, ``pbest`` in (0, 1] as a share of the population; None leaves the variant's own.

    Raises
    ------
    ValueError
        If an option is unknown or out of range.
    """
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _RANGES:
            raise ValueError(f"variant {spec.name!r} has no option {name!r}; there are: {', '.join(_RANGES)}")
        if value is None:
            continue
        low, high, kinds = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            what = "an integer" if kinds is int else "a number"
            raise ValueError(f"{name} must be {what} from {low:g} to {high:g}, got {value!r}")
        changes |= {"leaders": fixed_share(float(value))} if name == "pbest" else {name: value}
    return replace(spec, **changes)


_RANGES: dict[str, tuple[float, float, Any]] = {
    "f": (0.0, 2.0, (int, float)),
    "cr": (0.0, 1.0, (int, float)),
    "memory": (1, 1_000_000, int),
    "archive": (0.0, 100.0, (int, float)),
    "pbest": (0.0, 1.0, (int, float)),
}
