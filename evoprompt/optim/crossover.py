"""Crossover: from parents and donors to trials."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.optim.rng import Purpose, TrialStreams

__all__ = ["binomial"]

Floats = NDArray[np.floating[Any]]


def binomial(
    parents: Floats, donors: Floats, cr: NDArray[np.float64], ids: NDArray[np.int64], streams: TrialStreams
) -> Floats:
    """Binomial crossover: each coordinate from the donor with probability CR, one of them always.

    Storn & Price 1997, eq. 4; Zhang & Sanderson 2009, eq. 4.

    Parameters
    ----------
    parents, donors : ndarray, shape (n, d)
        ``donors`` is overwritten and returned.
    cr : ndarray, shape (n,)
        Crossover rates in [0, 1]. 0 takes one coordinate from the donor, 1 takes all.
    ids : ndarray of int64, shape (n,)
        Trial numbers.
    streams : TrialStreams
        Each trial draws j_rand and then d single-precision uniforms from its own stream.

    Returns
    -------
    ndarray, shape (n, d)
        Trials.
    """
    d = parents.shape[1]
    u = np.empty(d, dtype=np.float32)
    for i, (trial, rate) in enumerate(zip(ids.tolist(), cr.tolist(), strict=True)):
        rng = streams.of(trial, Purpose.CROSSOVER)
        j_rand = int(rng.random() * d)
        if rate >= 1.0:
            continue
        rng.random(out=u, dtype=np.float32)
        keep = u >= rate
        keep[j_rand] = False
        np.copyto(donors[i], parents[i], where=keep)
    return donors
