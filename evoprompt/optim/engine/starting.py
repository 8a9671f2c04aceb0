"""How many candidates a generation has, and where the first ones are."""

from __future__ import annotations

import numpy as np

from evoprompt.checks import whole_number
from evoprompt.errors import UserError
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.rows import pieces
from evoprompt.typing import Floats, Indices

__all__ = ["MINIMUM", "checked_popsize", "default_popsize", "drawn_points", "initial_points"]

MINIMUM = 4
"""DE/rand/1 needs a target and three others."""


def default_popsize(budget: int | None) -> int:
    """A population that the budget can turn over often enough, whatever the dimension: 1.2 budget^(1/3), from 8 to 100.

    At a few hundred or thousand evaluations many generations matter more to DE than many members. On 20-d
    test functions the best sizes were about 14 at 1500 evaluations, 18 at 4000 and 28 at 20 000.

    Examples
    --------
    >>> [default_popsize(b) for b in (6, 100, 1500, 4000, 10**7, None)]
    [6, 8, 14, 19, 100, 50]
    """
    if budget is None:
        return 50
    return max(MINIMUM, min(budget, 100, max(8, round(1.2 * budget ** (1 / 3)))))


def checked_popsize(popsize: int | None, budget: int | None, minimum: int = MINIMUM) -> int:
    """The number of candidates to use; None is :func:`default_popsize`.

    Raises
    ------
    ValueError
        If it is below the minimum, or the budget cannot pay for one population.
    """
    if popsize is None:
        popsize = default_popsize(budget)
    whole = whole_number("popsize", popsize, minimum, what="a number of candidates, an integer")
    if budget is not None and budget < whole:
        raise UserError(
            f"a budget of {budget} evaluations cannot pay for one population of {whole}; "
            f"raise the budget or lower popsize (at least {minimum})"
        )
    return whole


def initial_points(
    box: Box,
    m: int,
    streams: TrialStreams,
    first: Floats | None = None,
    *,
    stratified: bool = True,
    episode: int = 0,
) -> Floats:
    """Starting points (m, d): the rows of ``first``, then a Latin hypercube over the box.

    Each coordinate's range is cut into m equal strata and every member gets another one (McKay, Beckman &
    Conover 1979); without ``stratified`` members are drawn independently. ``episode`` numbers restarts, each
    with numbers of its own.
    """
    x = np.empty((m, box.d), dtype=box.dtype)
    strata = np.zeros((box.d, 1), dtype=np.uint16)
    if stratified:
        strata = np.tile(np.arange(m, dtype=np.uint16 if m < 1 << 16 else np.uint32), (box.d, 1))
        purpose = Purpose.DESIGN if episode == 0 else Purpose.RESTART
        streams.of(episode, purpose).permuted(strata, axis=1, out=strata)
    centre = None if first is None else first[0]
    for part in pieces(m, box.d * 8):
        u = np.empty((part.stop - part.start, box.d))
        for row, i in zip(u, range(part.start, part.stop), strict=True):
            streams.of(i + (episode << 32), Purpose.INITIAL).random(out=row)
        if stratified:
            u = np.minimum((u + strata[:, part].T) / m, 1 - 2.0**-53)
        x[part] = box.from_unit(u, centre)
    if first is not None:
        x[: len(first)] = first
    return x


def drawn_points(box: Box, streams: TrialStreams, ids: Indices) -> Floats:
    """Points for these trials (n, d), drawn afresh from the distribution of starting points."""
    x = np.empty((len(ids), box.d), dtype=box.dtype)
    for part in pieces(len(ids), box.d * 8):
        x[part] = box.from_unit(streams.uniforms(ids[part], box.d, Purpose.REDRAW))
    return x
