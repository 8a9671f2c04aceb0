"""What a variant of differential evolution is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from evoprompt.checks import real_number, whole_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.optim.de.crossover import CROSSOVERS, Crossover
from evoprompt.optim.de.memory import Adaptation
from evoprompt.optim.de.mutation import STRATEGIES, Strategy
from evoprompt.optim.de.schedule import (
    Leaders,
    Schedule,
    Share,
    Size,
    by_budget,
    constant,
    full,
    nearest,
    random_share,
)
from evoprompt.optim.engine.box import REPAIRS
from evoprompt.optim.engine.starting import MINIMUM

if TYPE_CHECKING:
    from evoprompt.optim.engine.algorithm import Algorithm

__all__ = ["Variant", "customised", "described", "imported", "variant_popsize"]

MOST_MEMBERS = 2000
LEAST_GENERATIONS = 4


@dataclass(frozen=True)
class Variant:
    """A variant of differential evolution: the parts that it is made of.

    Attributes
    ----------
    name : str
    mutation : str or callable
        A key of :data:`evoprompt.optim.de.mutation.STRATEGIES`, or a function as those are.
    crossover : str or callable
        "bin" or "exp", or a function as in :mod:`evoprompt.optim.de.crossover`.
    adaptation : callable
        Makes the :class:`~evoprompt.optim.de.memory.Adaptation` from f, cr, memory and popsize.
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
    algorithm : callable, optional
        What runs it, in place of :class:`evoprompt.optim.de.loop.Evolution`.

    Raises
    ------
    ValueError
        If a part is unknown or out of range; the message names the parts that come close.

    Examples
    --------
    >>> Variant("mine", "curent-to-best/1", cr=0.5)
    Traceback (most recent call last):
    evoprompt.errors.UserError: unknown mutation 'curent-to-best/1'; did you mean current-to-best/1 or ...
    """

    name: str
    mutation: str | Strategy = "rand/1"
    crossover: str | Crossover = "bin"
    adaptation: Callable[..., Adaptation] = Adaptation
    f: float = 0.5
    cr: float = 0.9
    size: Size = by_budget
    minimum: int = MINIMUM
    schedule: Schedule = constant
    memory: int | None = None
    archive: float = 0.0
    overwrite: bool = True
    leaders: Leaders = random_share
    weight: Callable[[float], float] = full
    ties: bool = True
    repair: str = "midpoint"
    algorithm: Callable[..., Algorithm] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise UserError(f"name of a variant must be a text that is not empty, got {self.name!r}")
        if not callable(self.mutation):
            _require_known("mutation", self.mutation, STRATEGIES, "a name or a function")
        if not callable(self.crossover):
            _require_known("crossover", self.crossover, CROSSOVERS, "a name or a function")
        _require_known("repair", self.repair, REPAIRS, "a name")
        for part in ("adaptation", "size", "schedule", "leaders", "weight", "algorithm"):
            value = getattr(self, part)
            if not callable(value) and not (part == "algorithm" and value is None):
                raise UserError(f"{part} of a variant must be callable, got {value!r}")
        whole_number("minimum", self.minimum, MINIMUM)
        real_number("f", self.f, 0.0, 2.0)
        real_number("cr", self.cr, 0.0, 1.0)
        real_number("archive", self.archive, 0.0, 100.0)
        if self.memory is not None:
            whole_number("memory", self.memory, 1, 1_000_000)

    @property
    def strategy(self) -> Strategy:
        """The mutation's function."""
        return STRATEGIES[self.mutation] if isinstance(self.mutation, str) else self.mutation

    @property
    def cross(self) -> Crossover:
        """The crossover's function."""
        return CROSSOVERS[self.crossover] if isinstance(self.crossover, str) else self.crossover


def _require_known(part: str, value: Any, known: Iterable[str], what: str) -> None:
    if not isinstance(value, str):
        raise UserError(f"{part} of a variant must be {what}, got {value!r}")
    if value not in known:
        raise unknown_name(part, value, known)


def customised(spec: Variant, *, pbest: float | None = None, **settings: float | None) -> Variant:
    """The variant with other settings.

    Parameters
    ----------
    spec : Variant
    pbest : float, optional
        In [0, 1], the p-best members as a share of the population.
    **settings
        ``f``, ``cr``, ``memory`` and ``archive`` in place of the variant's; None leaves its own.

    Raises
    ------
    ValueError
        If a setting is unknown or out of range.
    """
    if unknown := settings.keys() - {"f", "cr", "memory", "archive"}:
        raise UserError(
            f"variant {spec.name!r} has no option {unknown.pop()!r}; there are: f, cr, memory, archive, pbest"
        )
    changes: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if pbest is not None:
        changes["leaders"] = Share(real_number("pbest", pbest, 0.0, 1.0))
    return replace(spec, **changes)


def variant_popsize(spec: Variant, d: int, budget: int | None) -> int:
    """The paper's population size, as far as the budget pays for it.

    At most a quarter of the budget, so that there are four generations at the least, and at most 2000 members;
    at least the variant's minimum.

    Examples
    --------
    >>> large = Variant("large", size=lambda d, budget: 18 * d)
    >>> [variant_popsize(large, 20, budget) for budget in (None, 200_000, 1000, 10)]
    [360, 360, 250, 4]
    """
    most = MOST_MEMBERS if budget is None else min(MOST_MEMBERS, budget // LEAST_GENERATIONS)
    return max(spec.minimum, min(nearest(spec.size(d, budget)), most))


def described(spec: Variant) -> dict[str, Any]:
    """Every part of a variant as plain values: what a state says about the algorithm that made it.

    Functions and classes are told by module and name.

    Raises
    ------
    ValueError
        If a part has no name that another process could find it by, as a lambda.

    Examples
    --------
    >>> parts = described(Variant("mine", leaders=Share(0.2)))
    >>> parts["size"], parts["leaders"], parts["f"]
    ('evoprompt.optim.de.schedule:by_budget', 'evoprompt.optim.de.schedule:Share(p=0.2, end=None)', 0.5)
    """
    told = {}
    for part in fields(spec):
        try:
            told[part.name] = _told(getattr(spec, part.name))
        except LookupError as error:
            raise UserError(
                f"the {part.name} of variant {spec.name!r} has no name to be saved by ({error}): "
                "use a function or class of a module"
            ) from error
    return told


def _told(value: Any) -> Any:
    """One part as a plain value; a LookupError says what another process would not find."""
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{one.name}={_told(getattr(value, one.name))!r}" for one in fields(value))
        if " at 0x" in inner:
            raise LookupError(inner)
        return f"{_told(type(value))}({inner})"
    if not callable(value):
        return value
    name = f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    try:
        found = resolve_name(name)
    except (AttributeError, ImportError, ValueError):
        found = None
    if found is not value:  # a lambda, say, a bound method, or a function under another's name
        raise LookupError(name)
    return name


def imported(place: str) -> Variant:
    """The variant at ``package.module:NAME``.

    Raises
    ------
    ValueError
        If there is none, or importing the module fails, in whatever way; in one line, with the names that come close.

    Examples
    --------
    >>> imported("evoprompt.optim.de.papers.jso:JSO").name
    'jso'
    """
    module, _, name = place.partition(":")
    try:
        home = import_module(module)
        there = hasattr(home, name)  # which a module may answer itself
    except (Exception, SystemExit) as error:  # a module may do anything
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise UserError(f"variant {place!r} cannot be imported: {kind}{' '.join(str(error).split())}") from error
    if not there:
        own = [known for known, value in vars(home).items() if isinstance(value, Variant)]
        close = get_close_matches(name, own, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"its variants: {', '.join(own) or 'none'}"
        raise UserError(f"variant {place!r} cannot be imported: {module} has no {name!r}; {hint}")
    found = getattr(home, name)
    if not isinstance(found, Variant):
        raise UserError(f"{place!r} must be a Variant, got {found!r:.100}")
    return found
