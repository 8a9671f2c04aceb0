"""What every optimizer has: a box, a seed, limits, and the accounts of what it was asked and told."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, Self, TypedDict

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from evoprompt.checks import one_of, real_number, whole_number
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.ledger import Ledger
from evoprompt.optim.engine.rng import checked_seed
from evoprompt.optim.protocol import Best, Trials

__all__ = ["Accounts", "Settings"]


class Settings(TypedDict, total=False):
    """What every optimizer is made with beside its bounds; :class:`~evoprompt.optim.AskTell` says what each means."""

    budget: int | None
    seed: int | None
    popsize: int | None
    dtype: DTypeLike
    x0: ArrayLike | None
    target: float | None
    seconds: float | None


_REFUSED_WITH_REASONS = {"updating", "integrality"}  # by the adapters that cannot do it
_EVALUATIONS, _TIME = "None or a number of evaluations", "None or a time limit"


class Accounts:
    """A box, a seed and limits, and a ledger: what came of the trials, and what that says.

    Parameters
    ----------
    bounds, budget, seconds, seed, dtype, target, updating
        See :class:`~evoprompt.optim.AskTell`.
    """

    _passed_on: ClassVar[Any] = Settings
    """The settings that a subclass may take as keywords and pass on."""
    __signature__: ClassVar[Signature]
    _ledger: Ledger

    def __init_subclass__(cls, **options: Any) -> None:
        """Have ``inspect.signature`` and ``help`` name the settings that ``__init__`` passes on."""
        super().__init_subclass__(**options)
        own = list(signature(cls.__init__).parameters.values())[1:]
        if any(one.kind is Parameter.VAR_KEYWORD for one in own):
            parent = next(base for base in cls.__mro__[1:] if issubclass(base, Accounts))
            own = [one for one in own if one.kind is not Parameter.VAR_KEYWORD]
            known = {one.name for one in own}
            inherited = signature(parent).parameters.values()
            own += [one for one in inherited if one.name in cls._passed_on.__annotations__.keys() - known]
        cls.__signature__ = Signature(own)

    def __new__(cls, *_: Any, **settings: Any) -> Self:
        """Refuse settings that the class does not name, which a base class might take."""
        known = cls.__signature__.parameters
        for name in settings.keys() - known.keys() - _REFUSED_WITH_REASONS:
            close = "".join(f"; did you mean {one!r}?" for one in get_close_matches(name, known, n=1))
            raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {name!r}{close}")
        return super().__new__(cls)

    def __init__(
        self,
        bounds: Any,
        *,
        budget: int | None,
        seconds: float | None,
        seed: int | None,
        dtype: DTypeLike,
        target: float | None,
        updating: str,
    ) -> None:
        one_of("updating", updating, ("deferred", "immediate"))
        self._immediate = updating == "immediate"
        self._box = Box(bounds, dtype)
        self.d, self.seed = self._box.d, checked_seed(seed)
        self._limits: dict[str, Any] = {
            "budget": None if budget is None else whole_number("budget", budget, 1, what=_EVALUATIONS),
            "seconds": None if seconds is None else real_number("seconds", seconds, 0.0, above=True, what=_TIME),
            "target": None if target is None else float(target),
        }
        self._config: dict[str, Any] = {
            "low": self._box.low, "high": self._box.high, "dtype": str(self._box.dtype), "seed": self.seed,
            **self._limits, "updating": updating,
        }  # fmt: skip

    def _open_ledger(self, popsize: int) -> None:
        """Begin the accounts, of a search with so many candidates in a generation."""
        self._ledger = Ledger(self._box, popsize, **self._limits)

    def _require_affordable(self, spent: int, was: int | None) -> None:
        """Refuse a state that has spent more than the budget here; its own budget ``was`` will always do."""
        # Guests may have spent more than was left; that state is as good as any other under its own budget.
        budget = self._limits["budget"]
        if budget is not None and spent > budget and (was is None or budget < was):
            raise ValueError(
                f"budget is {was} in the state and {budget} here, where {spent} evaluations are already spent"
            )

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
