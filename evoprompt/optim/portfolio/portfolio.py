"""``Portfolio``: the search that ``auto`` means, driven by ask and tell."""

from __future__ import annotations

from typing import Any, Unpack

from evoprompt.optim.engine.asktell import AskTell, SearchSettings
from evoprompt.optim.portfolio.staged import StagedAlgorithm

__all__ = ["Portfolio"]


class Portfolio(AskTell):
    """Several searches that take turns: what works on the problem at hand gets the budget.

    An opening tests whether the loss is a sum over coordinates; if so, every coordinate gets a global line search.
    Otherwise, and afterwards, a normal distribution that learns from its points (CMA-ES) and differential evolution
    take turns, or compete where the budget is small. ``stages`` says how many evaluations each of "opening",
    "lines", "gaussian" and "de" has had. It is no differential evolution: on many problems none of its points come
    from mutation.

    Parameters
    ----------
    bounds, budget, seconds, seed, dtype, x0, updating, integrality, noise, constrained, target, tol
        See :class:`~evoprompt.optim.AskTell`.
    popsize : int, optional
        Points in the generations of the first distribution; by default 4 + 3 ln d, less for small budgets.

    Raises
    ------
    ValueError
        If an argument is out of range, or the budget cannot pay for one population.

    Examples
    --------
    >>> search = Portfolio([(-5, 5)] * 3, budget=600, seed=1)
    >>> while not (reason := search.should_stop()):
    ...     trials = search.ask()
    ...     search.tell(trials, ((trials.x - 1) ** 2).sum(axis=1) + trials.x[:, 0] * trials.x[:, 1])
    >>> reason, search.stages["gaussian"] > 300, sum(search.stages.values())
    ('budget', True, 600)
    """

    def __init__(self, bounds: Any, **settings: Unpack[SearchSettings]) -> None:
        super().__init__(bounds, StagedAlgorithm, name="auto", **settings)
