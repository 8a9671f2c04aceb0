"""Crossover: from parents and donors to trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.rows import blend
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["CROSSOVERS", "Crossover", "binomial", "exponential"]

_ALL = 1 << 16


def binomial(
    donors: Floats,
    parents: Floats,
    cr: Doubles,
    u: Doubles,
    ids: Indices,
    streams: TrialStreams,
    scratch: Floats | None = None,
) -> Bools | None:
    """Binomial crossover: each coordinate from the donor with probability CR, one of them always.

    Storn & Price 1997, eq. 4; Zhang & Sanderson 2009, eq. 4. CR is rounded to a multiple of 2**-16, so that a
    coordinate costs 16 random bits.

    Parameters
    ----------
    donors : ndarray, shape (n, d)
        Overwritten by the trials.
    parents : ndarray, shape (n, d)
    cr : ndarray, shape (n,)
        Crossover rates in [0, 1]. 0 takes one coordinate from the donor, 1 takes all.
    u : ndarray, shape (n, 2)
        Uniforms; the first chooses the coordinate that always comes from the donor.
    ids : ndarray of int64, shape (n,)
        Trial numbers.
    streams : TrialStreams
        16 bits for each coordinate of each trial.
    scratch : ndarray, shape (n, d), optional
        Overwritten; saves an allocation.

    Returns
    -------
    ndarray of bool, shape (n, d), optional
        Which coordinates come from the parent; None where there are none.
    """
    d = donors.shape[1]
    below = np.rint(cr * _ALL).astype(np.int64)
    all_of_it = (below >= _ALL).nonzero()[0]
    if len(all_of_it) == len(ids):
        return None
    keep = streams.shorts(ids, d) >= np.minimum(below, _ALL - 1).astype(np.uint16)[:, None]
    if len(all_of_it):
        keep[all_of_it] = False
    keep[np.arange(len(ids)), (u[:, 0] * d).astype(np.int64)] = False
    blend(donors, parents, keep, scratch)
    return keep


def exponential(
    donors: Floats,
    parents: Floats,
    cr: Doubles,
    u: Doubles,
    ids: Indices,
    streams: TrialStreams,
    scratch: Floats | None = None,
) -> None:
    """Exponential crossover: a run of coordinates from the donor, round the end, each one more with probability CR.

    Storn & Price 1997, eq. 3 and 4. The length L, with P(L >= v) = CR^(v - 1) and at most d, comes from one
    uniform by inversion. Parameters as in :func:`binomial`; the second uniform is for the length.
    """
    d = donors.shape[1]
    starts = (u[:, 0] * d).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.log1p(-u[:, 1]) / np.log(cr)
    lengths = np.where(cr >= 1, d, np.minimum(1 + np.floor(np.nan_to_num(more, posinf=d)), d)).astype(np.int64)
    for trial, parent, start, stop in zip(donors, parents, starts.tolist(), (starts + lengths).tolist(), strict=True):
        if stop <= d:
            trial[:start] = parent[:start]
            trial[stop:] = parent[stop:]
        else:
            trial[stop - d : start] = parent[stop - d : start]


Crossover = Callable[[Floats, Floats, Doubles, Doubles, Indices, TrialStreams, Floats], Any]
"""Donors become trials, in place."""

CROSSOVERS: dict[str, Crossover] = {
    "bin": binomial,
    "exp": exponential,
}
